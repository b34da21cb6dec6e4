"""What a rollout calls: the model whose frames it imagines, and the back end of its steps.

``v2w_core.world_model.WorldModel`` fulfils :class:`Dynamics` and every back end
:class:`StepBackend`, without either of them being imported here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.config import WorldModelConfig
from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.images import ImageArray
from v2w_core.models.attention import Context
from v2w_core.models.image_context.image_context import ImageContext
from v2w_core.models.motion_head import MotionHead
from v2w_core.models.temporal_cache import Cache
from v2w_core.models.unet import UNet
from v2w_core.models.warped_previous import WarpedPrevious


class NoisyFrames(NamedTuple):
    """Some frames as the U-Net is given them, each [B, T, ...].

    Attributes:
        latents: [B, T, C_in, h, w], noised to their levels, and the condition's channels.
        noise_level: [B, T], integers; see :class:`v2w_core.diffusion.schedule.NoiseSchedule`.
        actions: [B, T, A], normalised; each leads to its frame.
        action_mask: [B, T], True where the action is given.
    """

    latents: Tensor
    noise_level: Tensor
    actions: Tensor
    action_mask: Tensor

    def then(self, later: NoisyFrames) -> NoisyFrames:
        """These frames and the later ones."""
        return NoisyFrames(*(torch.cat(pair, dim=1) for pair in zip(self, later, strict=True)))

    def frame(self, index: int) -> NoisyFrames:
        """One of them, still with a time axis."""
        return NoisyFrames(*(item[:, index : index + 1] for item in self))


class StepBackend(Protocol):
    """Computes the denoising steps of one model.

    The state that a back end keeps of earlier frames, the past, is opaque: a rollout hands it on.

    Attributes:
        max_batch_size: most candidates in a batch; None: any number.
    """

    name: str
    max_batch_size: int | None

    def rollout_context(self) -> AbstractContextManager[None]:
        """Is entered around steps: keeps PyTorch's threads out of the way of the back end's, and
        turns errors of the device into :class:`v2w_core.errors.DeviceError`."""

    def start(self, history: Cache, batch_size: int, num_suffix: int) -> Any:
        """The past of candidates that share a history and have imagined nothing yet.

        Args:
            history: may be of no frames (:meth:`Cache.emptied`).
            batch_size: number of candidates.
            num_suffix: frames that will join; room for them is made now.
        """

    def step(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        past: Any,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Any]:
        """Velocity of the newest frame.

        Args:
            latents: [B, T, C_in, H, W] of the newest frame (T 1), or of a finished frame and the
                newest (T 2).
            noise_level, actions, action_mask: see :class:`NoisyFrames`.
            past: from :meth:`start` or an earlier step.
            keep: False where the past afterwards is not needed.
            guided: also computes the unconditional branch, in which the newest action is masked.

        Returns:
            the network's output [B, 1, C_out, H, W], velocity and motion head (guided:
            [B, 2, C_out, H, W], the unconditional branch second), and the past with the first of
            the T frames added (unchanged when ``keep`` is False).
        """

    def evict(self, past: Any, index: int) -> Any:
        """The past without the keys and values of its frame ``index``; 0 is the oldest.

        Every call evicts at the same index: the frames before it stay to the end, and belong to
        the history that :meth:`start` was given.
        """

    def select(self, past: Any, indices: Tensor) -> Any:
        """The past of the candidates ``indices`` [K'], ascending; the whole batch's ends."""


class Imagined(NamedTuple):
    """All frames of a rollout so far, each [K, n, ...].

    Attributes:
        latents: [K, n, C, h, w], normalised.
        motion: [K, n, 6], the motion head's means (``MotionHead.predict``); [K, n, 0] without one.
    """

    latents: Tensor
    motion: Tensor

    def select(self, indices: Tensor) -> Imagined:
        """Of some of the candidates."""
        return Imagined(*(item[indices] for item in self))


class BatchRollout(Protocol):
    """The rollout of one batch, in progress."""

    def advance(self, num_frames: int) -> Imagined:
        """Imagines ``num_frames`` more; returns all frames so far."""

    def select(self, indices: Tensor) -> None:
        """Only these candidates go on."""


class Dynamics(Protocol):
    """The model as rollouts and back ends see it; ``WorldModel`` fulfils it.

    Attributes:
        condition: makes the condition's channels; None of a model without them.
        motion_head: reads what the U-Net says of the motion; None of a model without a head.
        memory_budget: bytes that a rollout's candidates may take; None: a share of what the device
            has free when a rollout begins.
    """

    config: WorldModelConfig
    unet: UNet
    schedule: NoiseSchedule
    image_context: ImageContext | None
    condition: WarpedPrevious | None
    motion_head: MotionHead | None
    memory_budget: int | None

    @property
    def backend(self) -> StepBackend:
        """Computes the steps of rollouts."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of latents and actions."""

    def tensor(self, array: ArrayLike) -> Tensor:
        """Float tensor of the model's precision on the model's device."""

    def preprocess(self, frames: ArrayLike) -> ImageArray:
        """RGB frames uint8 [T, H, W, 3] of any size -> uint8 [T, h, w, 3] of the model's size."""

    def encode(self, frames: ArrayLike) -> Tensor:
        """RGB frames uint8 [T, H, W, 3] -> normalised latents [T, C, h, w]."""

    def decode(self, latents: Tensor) -> ImageArray:
        """Normalised latents [..., C, h, w] -> RGB frames uint8 [..., H, W, 3]."""

    def frame_context(self, tokens: Tensor | None, num_frames: int) -> Context | None:
        """Each frame's context from ``image_context``'s tokens [B, L, D]; None for None."""


def with_unconditional(
    latents: Tensor, noise_level: Tensor, actions: Tensor, action_mask: Tensor
) -> list[Tensor]:
    """The frames [B, T, ...] of a step and once more the newest, its action masked [B, T + 1, ...].

    So the unconditional branch of guidance is computed in the same pass.
    """
    masked = torch.zeros_like(action_mask[:, -1:])
    newest = (latents[:, -1:], noise_level[:, -1:], actions[:, -1:], masked)
    given = (latents, noise_level, actions, action_mask)
    return [torch.cat(pair, dim=1) for pair in zip(given, newest, strict=True)]
