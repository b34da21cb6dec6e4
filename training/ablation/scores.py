"""Scores of the ablation's table: imagined frames of held-out windows against recorded ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.ablation.arms import Windows
from training.batch_rollout import imagine_latents
from v2w_core.metrics.frechet import frechet_distance
from v2w_core.metrics.image import ssim
from v2w_core.metrics.steps import psnr_limited
from v2w_core.world_model import WorldModel

FEATURES = (
    "the middle block of its U-Net, without actions, over the clip's latents at noise level 0; the "
    "mean over the cells of each frame after the given ones is one sample. A frame's features see "
    "the frames before it, so that motion counts"
)


@dataclass(frozen=True)
class Scores:
    """Means over held-out windows and steps ahead.

    Attributes:
        psnr, ssim: PSNR (dB) and SSIM of frames imagined under the recorded actions.
        frechet: Frechet distance of their features to those of the recorded frames.
        action_gap: ``psnr`` minus the PSNR under another episode's actions (dB).
    """

    psnr: float
    ssim: float
    frechet: float
    action_gap: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class Judge:
    """Scores models on the same windows with the same noise.

    Args:
        network: model whose features the Frechet distance compares.
        windows: held-out clips.
        recorded: uint8 [W, horizon, height, width, 3], their frames after the history.
        chunk: number of windows computed at once.
    """

    def __init__(
        self, network: WorldModel, windows: Windows, recorded: NDArray[np.uint8], chunk: int = 64
    ) -> None:
        self.network = network
        self.windows = windows
        self.recorded = recorded
        self.chunk = chunk
        history = network.config.num_history
        self.history, self.ahead = windows.latents[:, :history], windows.latents[:, history:]
        self.features = self.features_of(self.ahead)

    def score(self, model: WorldModel, guidance_scale: float) -> Scores:
        """Scores of rollouts under the recorded and under another episode's actions."""
        right = self.imagine(model, self.windows.actions, guidance_scale)
        other = self.imagine(model, self.windows.other_actions, guidance_scale)
        found = self.compare(right)
        return Scores(**found, action_gap=found["psnr"] - self.psnr_of(other))

    def psnr(self, model: WorldModel, guidance_scale: float) -> float:
        """PSNR (dB) of rollouts under the recorded actions."""
        return self.psnr_of(self.imagine(model, self.windows.actions, guidance_scale))

    def psnr_of(self, ahead: Tensor) -> float:
        """PSNR (dB) of latents [W, horizon, C, h, w]."""
        return float(psnr_limited(self.pictures(ahead), self.recorded).mean())

    def references(self, another_sample: Tensor) -> dict[str, dict[str, float]]:
        """Reference scores: of the last history frame repeated, of the recorded frames through the
        autoencoder (the upper bound for these latents), and of other recordings.

        Args:
            another_sample: [W, T, C, h, w], latents of other windows of the same episodes, for the
                Frechet distance between two samples of recordings.
        """
        history = self.history.shape[1]
        features = self.features_of(another_sample[:, history:], another_sample[:, :history])
        decoded = self.compare(self.ahead)
        del decoded["frechet"]  # zero: the features are of the same latents
        return {
            "last frame repeated": self.compare(self.history[:, -1:].expand_as(self.ahead)),
            "recorded, through the autoencoder": decoded,
            "other recordings": {"frechet": frechet_distance(features, self.features)},
        }

    def compare(self, ahead: Tensor) -> dict[str, float]:
        """PSNR, SSIM and Frechet distance of latents [W, horizon, C, h, w]."""
        pictures = self.pictures(ahead)
        return {
            "psnr": float(psnr_limited(pictures, self.recorded).mean()),
            "ssim": float(ssim(pictures, self.recorded).mean()),
            "frechet": frechet_distance(self.features_of(ahead), self.features),
        }

    def imagine(self, model: WorldModel, actions: Tensor, guidance_scale: float) -> Tensor:
        """Latents [W, horizon, C, h, w] of rollouts; the noise is the same in every call."""
        generator = torch.Generator().manual_seed(0)
        parts = zip(self.history.split(self.chunk), actions.split(self.chunk), strict=True)
        return torch.cat(
            [imagine_latents(model, a, b, generator, guidance_scale) for a, b in parts]
        )

    def pictures(self, latents: Tensor) -> NDArray[np.uint8]:
        """Decoded frames of latents; all models have the same autoencoder."""
        return self.network.decode(latents.to(self.network.device))

    @torch.no_grad()
    def features_of(self, ahead: Tensor, history: Tensor | None = None) -> NDArray[np.float64]:
        """Features [W * horizon, D] of latents ``ahead`` [W, horizon, C, h, w] after a history.

        ``history`` defaults to the history of the held-out windows.
        """
        before = self.history if history is None else history
        found: list[Tensor] = []
        handle = self.network.unet.middle_block.register_forward_hook(
            lambda _module, _inputs, out: found.append(out)
        )
        try:
            for clip in torch.cat([before, ahead], dim=1).split(self.chunk):
                level = torch.zeros(clip.shape[:2], dtype=torch.long, device=self.network.device)
                self.network.unet(clip.to(self.network.device), level)
        finally:
            handle.remove()
        features = torch.cat(found)[:, before.shape[1] :].mean(dim=(2, 3))
        table: NDArray[np.float64] = features.flatten(0, 1).double().cpu().numpy()
        return table
