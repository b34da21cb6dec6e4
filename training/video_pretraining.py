"""Pre-training of a video-diffusion model: non-causal, without actions, one noise level per clip.

It is the base that a world model is transferred from (Vid2World section 4.1) if no released one
fits.
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

#: Equal weight for all noise levels, as for the released base models.
OBJECTIVE = ObjectiveConfig(weighting="velocity")


def video_config(config: WorldModelConfig) -> WorldModelConfig:
    """Configuration of the non-causal model of the same sizes without actions."""
    unet = dataclasses.replace(config.unet, causal=False, action_dim=None)
    return dataclasses.replace(config, unet=unet)


class VideoDiffusionTask:
    """Video diffusion with the mean squared error of the velocity; ignores actions.

    Args:
        model: a non-causal model without actions.
        train, val: training and held-out video.
        train_starts, val_starts: indices of the first frames of their clips.
        batch_size: number of clips in a batch.
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
        """The loss on held-out clips, with the same clips and noise in every validation."""
        generator = torch.Generator().manual_seed(0)
        index = draw_windows(self.val_starts, num_clips, self.model.config.num_frames, generator)
        return {"loss": float(self._loss(self.val[index], generator))}

    def _loss(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        clips = latents.to(self.model.device)
        return video_loss(self.module, self.model.schedule, clips, OBJECTIVE, generator)
