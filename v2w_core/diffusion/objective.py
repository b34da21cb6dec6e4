"""Diffusion forcing: every frame of a clip has its own, independent noise level.

The loss is the mean squared error of the velocity (Vid2World section 4.3). How levels are drawn
is a mixture: independent for all frames, or a clean past up to a random cut and noise after it,
which is what a rollout looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.errors import V2WError
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.unet import UNet


@dataclass(frozen=True)
class ObjectiveConfig:
    """How noise levels are drawn and weighed.

    Attributes:
        past_probability: share of clips whose frames before a random cut are nearly clean.
        blind_probability: share of clips (of all) whose frames after the cut are pure noise.
        past_max_level: the nearly clean frames' levels are uniform in 0..past_max_level.
        min_past: the cut leaves at least so many clean frames.
        action_dropout: probability that a frame's action is the null action (0.2 in the paper).
        weighting: "velocity" weighs all levels alike, "x0" by 1 - alpha-bar, which makes the
            loss the error of the predicted clean frame.
    """

    past_probability: float = 0.8
    blind_probability: float = 0.3
    past_max_level: int = 60
    min_past: int = 2
    action_dropout: float = 0.2
    weighting: Literal["velocity", "x0"] = "x0"

    def __post_init__(self) -> None:
        for name in ("past_probability", "blind_probability", "action_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise V2WError(f"ObjectiveConfig.{name}", "between 0 and 1", getattr(self, name))
        if self.blind_probability > self.past_probability:
            rule = "at most past_probability"
            raise V2WError("ObjectiveConfig.blind_probability", rule, self.blind_probability)
        if self.weighting not in ("velocity", "x0"):
            raise V2WError("ObjectiveConfig.weighting", "velocity or x0", self.weighting)


def draw_noise_levels(
    batch: int,
    num_frames: int,
    num_levels: int,
    config: ObjectiveConfig,
    generator: torch.Generator,
) -> Tensor:
    """Noise levels [batch, num_frames], int64."""
    uniform = torch.rand(batch, num_frames, generator=generator)
    levels = (uniform * num_levels).long()
    high = ((1 - uniform**2) * num_levels).long().clamp(max=num_levels - 1)
    past = torch.rand(batch, num_frames, generator=generator) * (config.past_max_level + 1)
    mode = torch.rand(batch, 1, generator=generator)
    span = max(num_frames - config.min_past, 1)
    cut = config.min_past + (torch.rand(batch, 1, generator=generator) * span).long()
    is_past = torch.arange(num_frames)[None] < cut
    after = torch.where(mode < config.blind_probability, num_levels - 1, high)
    with_past = torch.where(is_past, past.long(), after)
    return torch.where(mode < config.past_probability, with_past, levels)


def diffusion_forcing_loss(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    actions: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
) -> Tensor:
    """Scalar loss of a batch of clips.

    Args:
        latents: [B, T, C, H, W], clean and normalised.
        actions: [B, T, A] normalised, actions[:, t] leads from frame t to t+1 (last unused).
        generator: on the CPU; draws levels, noise and dropout, so that a step can be repeated.
    """
    batch, num_frames = latents.shape[:2]
    device = latents.device
    levels = draw_noise_levels(batch, num_frames, schedule.num_levels, config, generator)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    keep = torch.rand(batch, num_frames, generator=generator) >= config.action_dropout
    keep[:, 0] = False  # no action leads to the first frame
    levels, keep = levels.to(device), keep.to(device)
    noisy = schedule.add_noise(latents, noise, levels)
    target = schedule.velocity(latents, noise, levels)
    predicted, _ = unet(noisy, levels, shift_actions(actions), keep)
    error = (predicted.float() - target).square().mean(dim=(2, 3, 4))
    if config.weighting == "x0":
        error = error * (1 - schedule.alphas_cumprod[levels])
    return error.mean()
