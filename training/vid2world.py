"""Vid2World's training: clips from files, encoded as they come, all frames noised independently.

The autoencoder and CLIP's vision tower are frozen; the U-Net and the Resampler learn. The loss is
:func:`v2w_core.diffusion.objective.training_loss`.
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
from v2w_core.diffusion.objective import ObjectiveConfig, training_loss
from v2w_core.errors import V2WError
from v2w_core.models.attention import Context
from v2w_core.models.stage import Stage
from v2w_core.world_model import WorldModel

#: Frames that the autoencoder encodes at once.
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class ClipConfig:
    """What happens to a clip before the loss.

    Attributes:
        augment: colours and position are changed a little, once for all frames of a clip.
        image_dropout: (low, high): the image for CLIP is mid grey where low <= u < high, u uniform
            in [0, 1) for each clip.
        recompute: activations are computed again in the backward pass (gradient checkpointing):
            less memory, a third more work.
        num_validation: held-out clips that a validation looks at.
        num_frames: of a clip; None: the model's window. A model may be rolled out further than it
            was trained (RECON's 20 frames after 16), at most as far as its window.
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
        """Frames of a clip for a model of a window of ``limit``."""
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
            rule = "0 in the stage vid2world: teacher forcing knows no first frame and no context"
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
        """The loss on held-out clips with nothing dropped: under their own actions, and under
        another clip's (where there is another), which a model that follows its actions predicts
        worse."""
        count = min(self.config.num_validation, len(self.val_windows))
        numbers = np.linspace(0, len(self.val_windows) - 1, count).astype(int)
        windows = [self.val_windows[int(i)] for i in numbers]
        found = {"loss": self._validation_loss(windows, windows)}
        if count > 1:
            others = windows[count // 2 :] + windows[: count // 2]
            found["loss_other_actions"] = self._validation_loss(windows, others)
        return found

    def _validation_loss(self, windows: Sequence[Window], told: Sequence[Window]) -> float:
        objective = dataclasses.replace(self.objective, action_dropout=0.0)
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for window, other in zip(windows, told, strict=True):
            frames = self.val.frames(window, self.model.config.observation)[None]
            actions = self.val.actions(other)[None]
            seen = torch.zeros(1, dtype=torch.bool)
            total += float(self._loss(frames, actions, seen, objective, generator))
        return total / len(windows)

    def _loss(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.float32],
        is_grey: Tensor,
        objective: ObjectiveConfig,
        generator: torch.Generator,
    ) -> Tensor:
        """Of clips uint8 [B, T, h, w, 3] with actions [B, T, A] as recorded."""
        config = self.model.config
        images = to_images(frames.reshape(-1, *frames.shape[2:])).to(self.model.device)
        latents = self._encode(images, generator).unflatten(0, frames.shape[:2])
        first = images.unflatten(0, frames.shape[:2])[:, 0]
        told = torch.from_numpy(config.action.normalise(actions)).to(self.model.device)
        return training_loss(
            self.model.unet,
            self.model.schedule,
            latents,
            told,
            objective,
            generator,
            context=self._context(first, is_grey),
            zero_first_action=config.compat.zero_first_action,
        )

    def _encode(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Latents [N, C, h, w], drawn from the posterior, of images [N, 3, H, W]."""
        noise = torch.randn((len(images), *self.model.config.latent_shape), generator=generator)
        parts = zip(images.split(ENCODED_AT_ONCE), noise.split(ENCODED_AT_ONCE), strict=True)
        encode = self.model.autoencoder.sample
        return torch.cat([encode(part, draw.to(part.device)).float() for part, draw in parts])

    def _context(self, first: Tensor, is_grey: Tensor) -> Context | None:
        """What first frames [B, 3, H, W] in [-1, 1] tell each frame of their clips."""
        if self.model.image_context is None:
            return None
        shown = first.masked_fill(is_grey.to(first.device)[:, None, None, None], 0.0)
        tokens = self.model.image_context(shown)
        return self.model.frame_context(tokens, self.num_frames)


def augmented(frames: NDArray[np.uint8], generator: torch.Generator) -> NDArray[np.uint8]:
    """Clips uint8 [B, T, h, w, 3], each changed in one way for all its frames."""
    from training.augmentation import augment_clip

    seeds = torch.randint(2**62, (len(frames),), generator=generator)
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    return np.stack([augment_clip(clip, rng) for clip, rng in zip(frames, rngs, strict=True)])
