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
from v2w_core.models.temporal_cache import Cache
from v2w_core.models.unet import UNet


class Frames(NamedTuple):
    """What the U-Net is given of some frames: latents, noise levels, actions, which are known."""

    latents: Tensor
    level: Tensor
    action: Tensor
    mask: Tensor

    def then(self, later: Frames) -> Frames:
        return Frames(*(torch.cat(pair, dim=1) for pair in zip(self, later, strict=True)))

    def frame(self, index: int) -> Frames:
        """One of them, still with a time axis."""
        return Frames(*(item[:, index : index + 1] for item in self))


class Stepper(Protocol):
    """Computes steps of one model.

    The past is whatever it keeps of earlier frames; rollouts only hand it on.

    Attributes:
        most_at_once: candidates in a batch; None: any number.
    """

    name: str
    most_at_once: int | None

    def rolling_out(self) -> AbstractContextManager[None]:
        """Around the steps of a rollout: keeps PyTorch out of the way of the back end's threads."""

    def begin(self, history: Cache, batch_size: int, num_own: int) -> Any:
        """The past of candidates that have the history in common and imagined nothing yet.

        Args:
            history: may be of no frames (:meth:`Cache.emptied`).
            batch_size: number of candidates.
            num_own: frames that will join the past; there is room for them from the beginning.
        """

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Any,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Any]:
        """Velocity of the newest frame.

        Args:
            latents: [B, T, C, H, W] of the newest frame (T 1), or of a finished frame and the
                newest (T 2).
            level, actions, mask: [B, T], [B, T, A], [B, T]; see :meth:`UNet.forward`.
            past: of :meth:`begin` or of an earlier step.
            keep: False: the past afterwards is not needed.
            guided: also the velocity of the newest frame when its action is masked.

        Returns:
            v [B, 1, C, H, W] (guided: [B, 2, C, H, W], the second without the newest action), and
            the past with the first of the T frames added (unchanged when ``keep`` is False).
        """

    def forget(self, past: Any, index: int) -> Any:
        """The past without what attention sees of its frame ``index``, 0 is the oldest.

        Frames are only ever forgotten from one index on: those before it stay to the end, and
        belong to the history that :meth:`begin` was given.
        """

    def select(self, past: Any, indices: Tensor) -> Any:
        """The past of some of the candidates, ``indices`` [K'] ascending; the whole one ends."""


class Dynamics(Protocol):
    """The model as rollouts and back ends see it; ``WorldModel`` fulfils it.

    Attributes:
        memory_budget: bytes that a rollout's candidates may take; None: a share of what the device
            has free when a rollout begins.
    """

    config: WorldModelConfig
    unet: UNet
    schedule: NoiseSchedule
    image_context: ImageContext | None
    memory_budget: int | None

    @property
    def backend(self) -> Stepper:
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


def with_sibling(latents: Tensor, level: Tensor, actions: Tensor, mask: Tensor) -> list[Tensor]:
    """A step's frames [B, T, ...] and the newest once more, its action masked [B, T + 1, ...]."""
    newest = (latents[:, -1:], level[:, -1:], actions[:, -1:], torch.zeros_like(mask[:, -1:]))
    given = (latents, level, actions, mask)
    return [torch.cat(pair, dim=1) for pair in zip(given, newest, strict=True)]


class History(Protocol):
    """What both kinds of sessions tell: the model, how long the past is, how far they look."""

    model: Dynamics
    seed: int

    @property
    def num_history(self) -> int: ...

    @property
    def max_horizon(self) -> int: ...
