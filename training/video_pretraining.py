"""Pre-trains plain video diffusion: not causal, told no actions, one noise level a clip.

The base model that a world model is made of (Vid2World section 4.1), where no released one fits.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.dataset import draw_windows
from training.latent_video import LatentVideo
from v2w_core.config import WorldModelConfig
from v2w_core.diffusion.objective import ObjectiveConfig, video_loss
from v2w_core.errors import V2WError
from v2w_core.world_model import WorldModel

#: One weight for all levels, as the released base models were trained.
OBJECTIVE = ObjectiveConfig(weighting="velocity")


def video_config(config: WorldModelConfig) -> WorldModelConfig:
    """The non-causal, action-free model of the same sizes."""
    unet = dataclasses.replace(config.unet, causal=False, action_dim=None)
    return dataclasses.replace(config, unet=unet)


class VideoDiffusionTask:
    """Mean squared error of the velocity of whole clips. Actions are never looked at.

    Args:
        train_starts, val_starts: frames of ``train`` and ``val`` at which clips may begin.
    """

    name = "video diffusion"

    def __init__(
        self,
        model: WorldModel,
        train: LatentVideo,
        train_starts: NDArray[np.int64],
        val: LatentVideo,
        val_starts: NDArray[np.int64],
        batch_size: int,
    ) -> None:
        if model.config.unet.causal or model.config.unet.action_dim is not None:
            rule = "neither causal nor with actions; video diffusion sees whole clips"
            raise V2WError("model", rule, "a world model")
        self.model = model
        self.module = model.unet
        self.train, self.val = train.latents, val.latents
        self.train_starts, self.val_starts = train_starts, val_starts
        self.batch_size = batch_size

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        window = self.model.config.num_frames
        index = draw_windows(self.train_starts, self.batch_size, window, generator)
        return self._loss(self.train[index], generator), {}

    @torch.no_grad()
    def validate(self, num_clips: int = 64) -> dict[str, float]:
        """The loss on held-out clips, always the same ones at the same noise."""
        generator = torch.Generator().manual_seed(0)
        index = draw_windows(self.val_starts, num_clips, self.model.config.num_frames, generator)
        return {"loss": float(self._loss(self.val[index], generator))}

    def _loss(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        clips = latents.to(self.model.device)
        return video_loss(self.module, self.model.schedule, clips, OBJECTIVE, generator)
