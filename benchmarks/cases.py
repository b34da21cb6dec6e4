"""The rollouts that benchmarks/rollout.py measures: models, sizes, noise to imagine from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_core.backends.parity import synthetic_actions
from v2w_core.checkpoint import default_checkpoint
from v2w_core.config import SamplingConfig, WorldModelConfig
from v2w_core.models.autoencoder import AutoencoderConfig
from v2w_core.models.unet import UNetConfig
from v2w_core.spec import ObservationSpec
from v2w_core.testing import PLANAR_4HZ
from v2w_core.world_model import WorldModel


@dataclass(frozen=True)
class Case:
    """One rollout that every contender computes.

    Attributes:
        model: "small" or "mid".
        batch_size: candidates.
        num_history: camera frames; horizon: imagined frames.
        rounds: rollouts of each contender that are timed; of the reference's algorithm, one
            where it takes minutes.
        reference: False where it would take too long.
    """

    model: str
    batch_size: int
    num_history: int
    horizon: int
    num_steps: int
    guidance_scale: float
    rounds: int
    reference_rounds: int = 1
    reference: bool = True


@dataclass(frozen=True)
class Setup:
    """Settings that all contenders share."""

    device: str
    num_threads: int
    checkpoint: Path | None = None
    engines: Path | None = None


def mid_config() -> WorldModelConfig:
    """51 million weights in the U-Net: the default model's layers, wider, one level more; RT-1's
    256x320 pixels, latents 32x40."""
    return WorldModelConfig(
        action=PLANAR_4HZ,
        observation=ObservationSpec(256, 320),
        autoencoder=AutoencoderConfig(
            latent_channels=12, block_channels=(16, 16, 16), patch_size=2, norm_groups=8
        ),
        unet=UNetConfig(
            in_channels=12, out_channels=12, model_channels=64, channel_mult=(1, 2, 4, 6),
            attention_levels=(2, 3), num_temporal_convs=2, two_temporal_attentions=False,
            action_dim=PLANAR_4HZ.dim,
        ),
        sampling=SamplingConfig(),
        num_history=1,
        num_frames=17,
    )  # fmt: skip


def load_model(which: str, setup: Setup) -> WorldModel:
    """The default checkpoint ("small"), or the mid-size model with random weights."""
    if which == "small":
        return WorldModel.from_pretrained(setup.checkpoint or default_checkpoint(), setup.device)
    model = WorldModel.build(mid_config())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.unet.parameters():
            if not parameter.any():  # nothing should be multiplied by zero
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.on_device(setup.device)


class Scene(NamedTuple):
    """Noise: the time does not depend on what is in the pictures."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    candidates: NDArray[np.float32]


def scene(model: WorldModel, case: Case) -> Scene:
    rng = np.random.default_rng(0)
    observation = model.config.observation
    size = (case.num_history, observation.height, observation.width, 3)
    frames = rng.integers(0, 256, size, dtype=np.uint8)
    past = synthetic_actions(model, 1, case.num_history)[0][1:]
    return Scene(frames, past, synthetic_actions(model, case.batch_size, case.horizon))
