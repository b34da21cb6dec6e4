"""Vid2World's training on clips that are read from files and encoded on the fly.

The U-Net and the Resampler are trained, the autoencoder and CLIP's vision tower are frozen. The
loss is :func:`v2w_core.diffusion.objective.training_loss`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.dataset import EpisodeFiles, to_images
from v2w_core.data.windows import Window
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.diffusion.training_loss import Trained, training_loss
from v2w_core.errors import V2WError
from v2w_core.models.attention import Context
from v2w_core.models.stage import Stage
from v2w_core.world_model import WorldModel

#: Batch size of the autoencoder.
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class ClipConfig:
    """Preparation of clips and memory use.

    Attributes:
        augment: whether colours and position change a little, equally in all frames of a clip.
        image_dropout: (low, high): CLIP's image is mid grey if low <= u < high, with u uniform in
            [0, 1) for each clip.
        recompute: gradient checkpointing: less memory for a third more work.
        num_validation: number of held-out clips of a validation.
        num_frames: length of a clip; None: the model's window. A model may be rolled out further
            than it was trained, up to its window (RECON: 20 frames after training on 16).
    """

    augment: bool = True
    image_dropout: tuple[float, float] = (0.05, 0.15)
    recompute: bool = False
    num_validation: int = 32
    num_frames: int | None = None

    def __post_init__(self) -> None:
        low, high = self.image_dropout
        if not 0 <= low <= high <= 1:
            raise V2WError("vid2world.image_dropout", "0 <= low <= high <= 1", self.image_dropout)
        if self.num_validation < 1:
            raise V2WError("vid2world.num_validation", "at least 1 clip", self.num_validation)

    def window(self, limit: int) -> int:
        """Length of a clip for a model with a window of ``limit`` frames."""
        frames = limit if self.num_frames is None else self.num_frames
        if not 2 <= frames <= limit:
            rule = f"2 to the model's window of {limit} frames"
            raise V2WError("vid2world.num_frames", rule, frames)
        return frames


class Vid2WorldTask:
    """Diffusion forcing with first-frame latents and image context."""

    name = "vid2world"

    def __init__(
        self,
        model: WorldModel,
        train: EpisodeFiles,
        val: EpisodeFiles,
        batch_size: int,
        objective: ObjectiveConfig,
        config: ClipConfig,
    ) -> None:
        if objective.forced_probability:
            rule = "0 in the stage vid2world: teacher forcing has no first frame and no context"
            raise V2WError("objective.forced_probability", rule, objective.forced_probability)
        self.model = model
        model.autoencoder.requires_grad_(False)
        trained: dict[str, nn.Module] = {"unet": model.unet}
        if model.image_context is not None:
            model.image_context.vision.requires_grad_(False)
            trained["resampler"] = model.image_context.resampler
        self.module: nn.Module = nn.ModuleDict(trained)
        for stage in model.unet.modules():
            if isinstance(stage, Stage):
                stage.recompute = config.recompute
        self.batch_size = batch_size
        self.objective = objective
        self.config = config
        self.train, self.val = train, val
        self.num_frames = config.window(model.config.num_frames)
        self.windows = train.windows(self.num_frames)
        self.val_windows = val.windows(self.num_frames)

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(self.windows), (self.batch_size,), generator=generator)
        windows = [self.windows[int(i)] for i in chosen]
        observation = self.model.config.observation
        frames = np.stack([self.train.frames(window, observation) for window in windows])
        actions = np.stack([self.train.actions(window) for window in windows])
        if self.config.augment:
            frames = augmented(frames, generator)
        grey = torch.rand(self.batch_size, generator=generator)
        low, high = self.config.image_dropout
        is_grey = (grey >= low) & (grey < high)
        return self._loss(frames, actions, is_grey, self.objective, generator), {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on held-out clips without dropout, under the recorded actions and (if there is
        another clip) under another clip's, where a model that follows actions is worse."""
        count = min(self.config.num_validation, len(self.val_windows))
        numbers = np.linspace(0, len(self.val_windows) - 1, count).astype(int)
        windows = [self.val_windows[int(i)] for i in numbers]
        found = {"loss": self._validation_loss(windows, windows)}
        if count > 1:
            others = windows[count // 2 :] + windows[: count // 2]
            found["loss_other_actions"] = self._validation_loss(windows, others)
        return found

    def _validation_loss(
        self, windows: Sequence[Window], action_windows: Sequence[Window]
    ) -> float:
        """Mean loss of the frames of ``windows`` under the actions of ``action_windows``."""
        objective = dataclasses.replace(self.objective, action_dropout=0.0)
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for window, action_window in zip(windows, action_windows, strict=True):
            frames = self.val.frames(window, self.model.config.observation)[None]
            actions = self.val.actions(action_window)[None]
            is_grey = torch.zeros(1, dtype=torch.bool)
            total += float(self._loss(frames, actions, is_grey, objective, generator))
        return total / len(windows)

    def _loss(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.float32],
        is_grey: Tensor,
        objective: ObjectiveConfig,
        generator: torch.Generator,
    ) -> Tensor:
        """Loss of clips uint8 [B, T, h, w, 3] with recorded actions [B, T, A]."""
        config = self.model.config
        images = to_images(frames.reshape(-1, *frames.shape[2:])).to(self.model.device)
        latents = self._encode(images, generator).unflatten(0, frames.shape[:2])
        first = images.unflatten(0, frames.shape[:2])[:, 0]
        normalised = torch.from_numpy(config.action.normalise(actions)).to(self.model.device)
        return training_loss(
            Trained(self.model.unet, self.model.schedule),
            latents,
            normalised,
            objective,
            generator,
            context=self._context(first, is_grey),
            zero_first_action=config.compat.zero_first_action,
        )

    def _encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Latents [N, C, h, w] of images [N, 3, H, W], sampled from the posterior."""
        noise = torch.randn((len(images), *self.model.config.latent_shape), generator=generator)
        parts = zip(images.split(ENCODED_AT_ONCE), noise.split(ENCODED_AT_ONCE), strict=True)
        encode = self.model.autoencoder.sample
        return torch.cat([encode(part, draw.to(part.device)).float() for part, draw in parts])

    def _context(self, first: Tensor, is_grey: Tensor) -> Context | None:
        """Context of clips from their first frames [B, 3, H, W] in [-1, 1]."""
        if self.model.image_context is None:
            return None
        shown = first.masked_fill(is_grey.to(first.device)[:, None, None, None], 0.0)
        tokens = self.model.image_context(shown)
        return self.model.frame_context(tokens, self.num_frames)


def augmented(frames: NDArray[np.uint8], generator: torch.Generator) -> NDArray[np.uint8]:
    """Augments clips uint8 [B, T, h, w, 3], each with the same parameters in all frames."""
    from training.augmentation import augment_clip

    seeds = torch.randint(2**62, (len(frames),), generator=generator)
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    return np.stack([augment_clip(clip, rng) for clip, rng in zip(frames, rngs, strict=True)])
