"""Diffusion forcing: every frame of a clip has an independent noise level.

The loss is the mean squared error of the velocity (Vid2World section 4.3). Noise levels are drawn
from a mixture: independent levels for all frames, or nearly clean frames up to a random cut and
noisy ones after it, as in a rollout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.errors import V2WError
from v2w_core.models.attention import Context
from v2w_core.models.conditioning import concat_first_frame, shift_actions
from v2w_core.models.unet import UNet

#: Options that are probabilities or shares, between 0 and 1.
SHARES = (
    "past_probability",
    "blind_probability",
    "forced_probability",
    "imagined_past_probability",
    "imagined_past_after",
    "action_dropout",
)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Distribution of noise levels and weighting of the loss.

    Attributes:
        past_probability: share of clips whose frames before a random cut are nearly clean.
        blind_probability: share of all clips whose frames after the cut are pure noise.
        past_max_level: maximum noise level of the nearly clean frames, drawn uniformly from 0 on.
        min_past: minimum number of nearly clean frames before the cut.
        forced_probability: share of steps with teacher forcing: half as many clips, of which
            every frame is denoised given a nearly clean past (``UNet.forward_teacher_forced``),
            like the next frame of a rollout. Needs a causal model.
        forced_past_max_level: maximum noise level of the past in teacher forcing; low levels are
            drawn more often. It makes rollouts robust to small errors in their history.
        imagined_past_probability: share of the teacher-forced steps whose past is imagined by the
            model from a random frame on (one more pass, without gradients), as in a rollout: the
            model learns to continue from its own errors.
        imagined_past_after: share of the training after which imagined pasts are used; before it,
            imagined frames are too poor to learn from.
        action_dropout: probability that a frame's action is the null action (0.2 in the paper).
        weighting: "velocity" weighs all levels alike, "x0" by 1 - alpha-bar, which makes the
            loss the error of the predicted clean frame.
    """

    past_probability: float = 0.8
    blind_probability: float = 0.3
    past_max_level: int = 60
    min_past: int = 2
    forced_probability: float = 0.0
    forced_past_max_level: int = 200
    imagined_past_probability: float = 0.0
    imagined_past_after: float = 0.5
    action_dropout: float = 0.2
    weighting: Literal["velocity", "x0"] = "x0"

    def __post_init__(self) -> None:
        for name in SHARES:
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
    """Random noise levels [batch, num_frames], int64."""
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


def training_loss(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    actions: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
    progress: float = 1.0,
    *,
    context: Context | None = None,
    zero_first_action: bool = False,
) -> Tensor:
    """Scalar loss of one step: diffusion forcing or, for a share of the steps, teacher forcing.

    Args:
        latents: [B, T, C, H, W], clean and normalised.
        actions: [B, T, A] normalised; actions[:, t] leads from frame t to t+1 (the last is unused).
        generator: CPU generator of levels, noise and dropout; makes a step reproducible.
        progress: share of the training that is done, 0..1.
        context: text and image tokens, for models with ``context_dim`` (diffusion forcing only).
        zero_first_action: whether frame 0 has a zero action, dropped out like any other, instead
            of the null action (see ``CompatConfig``).
    """
    forced = bool(torch.rand((), generator=generator) < config.forced_probability)
    if forced:
        half = max(len(latents) // 2, 1)
        latents, actions = latents[:half], actions[:half]
    batch, num_frames = latents.shape[:2]
    keep = torch.rand(batch, num_frames, generator=generator) >= config.action_dropout
    keep[:, 0] &= zero_first_action
    aligned, action_mask = shift_actions(actions), keep.to(latents.device)
    if forced:
        imagine = config.imagined_past_probability if progress >= config.imagined_past_after else 0
        return _teacher_forcing_loss(
            unet, schedule, latents, aligned, action_mask, config, generator, imagine
        )
    levels = draw_noise_levels(batch, num_frames, schedule.num_levels, config, generator)
    noise = _noise_like(latents, generator)
    return diffusion_forcing_error(
        unet, schedule, latents, levels, noise, aligned, action_mask, config, context
    ).mean()


def diffusion_forcing_error(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    levels: Tensor,
    noise: Tensor,
    actions: Tensor | None,
    action_mask: Tensor | None,
    config: ObjectiveConfig,
    context: Context | None = None,
) -> Tensor:
    """Error [B, T] of each frame's velocity for given noise levels and noise.

    Args:
        latents: [B, T, C, H, W], clean and normalised.
        levels: noise levels [B, T].
        noise: standard normal noise, shape of ``latents``.
        actions: [B, T, A] normalised and aligned: actions[:, t] leads to frame t. None for models
            without actions.
        action_mask: [B, T], False where the action is the null action.
        config: only ``weighting`` is used.
        context: text and image tokens, for models with ``context_dim``.
    """
    noised = _NoisedFrames(schedule, latents, levels, noise)
    x = noised.latents
    if unet.config.in_channels > latents.shape[2]:
        x = concat_first_frame(x, latents[:, :1])
    predicted, _ = unet(x, noised.level, actions, action_mask, context=context)
    return noised.error(predicted, config)


def video_loss(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
) -> Tensor:
    """Scalar loss of plain video diffusion: one noise level per clip, no actions.

    A base model is pre-trained with it before it is made causal.

    Args:
        latents: [B, T, C, H, W], clean and normalised.
        config: only ``weighting`` is used.
        generator: CPU generator of levels and noise.
    """
    batch, num_frames = latents.shape[:2]
    level = torch.randint(schedule.num_levels, (batch, 1), generator=generator)
    levels, noise = level.expand(batch, num_frames), _noise_like(latents, generator)
    error = diffusion_forcing_error(unet, schedule, latents, levels, noise, None, None, config)
    return error.mean()


def _teacher_forcing_loss(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    actions: Tensor,
    action_mask: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
    imagined_past_probability: float,
) -> Tensor:
    shape = latents.shape[:2]
    low = torch.rand(shape, generator=generator).square() * (config.forced_past_max_level + 1)
    high = 1 - torch.rand(shape, generator=generator).square()
    last = schedule.num_levels - 1
    high = (high * schedule.num_levels).long().clamp(max=last)
    blind = torch.rand(shape, generator=generator) < config.blind_probability
    before = latents
    if bool(torch.rand((), generator=generator) < imagined_past_probability):
        before = _imagined_past(unet, schedule, latents, actions, config.min_past, generator)
    past_noise, noise = _noise_like(latents, generator), _noise_like(latents, generator)
    past = _NoisedFrames(schedule, before, low.long().clamp(max=last), past_noise)
    targets = _NoisedFrames(schedule, latents, torch.where(blind, last, high), noise)
    _, predicted = unet.forward_teacher_forced(
        past.latents, past.level, targets.latents, targets.level, actions, action_mask
    )
    return targets.error(predicted, config)[:, 1:].mean()  # the first frame has no past


@torch.no_grad()
def _imagined_past(
    unet: UNet,
    schedule: NoiseSchedule,
    latents: Tensor,
    actions: Tensor,
    min_past: int,
    generator: torch.Generator,
) -> Tensor:
    """The clips [B, T, C, H, W] with imagined frames from a random frame on.

    Each is imagined in one sampling step from pure noise, given the recorded frames before it.
    """
    shape, last = latents.shape[:2], schedule.num_levels - 1
    action_mask = torch.ones(shape, dtype=torch.bool, device=latents.device)
    action_mask[:, 0] = False
    clean = torch.zeros(shape, dtype=torch.long, device=latents.device)
    noise = _noise_like(latents, generator)
    level = torch.full_like(clean, last)
    _, velocity = unet.forward_teacher_forced(latents, clean, noise, level, actions, action_mask)
    imagined, _ = schedule.from_velocity(noise, velocity.float(), level)
    imagined = imagined / schedule.scale[last]
    cut = torch.randint(min_past, shape[1] + 1, (shape[0], 1), generator=generator)
    after = (torch.arange(shape[1])[None] >= cut).to(latents.device)
    return torch.where(after[..., None, None, None], imagined, latents)


def _noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(latents.shape, generator=generator).to(latents.device)


class _NoisedFrames:
    """Dynamically rescaled frames with noise added, and the error of a predicted velocity."""

    def __init__(
        self, schedule: NoiseSchedule, clean: Tensor, level: Tensor, noise: Tensor
    ) -> None:
        self.level = level.to(clean.device)
        clean = schedule.rescaled(clean, self.level)
        self.latents = schedule.add_noise(clean, noise, self.level)
        self.target = schedule.velocity(clean, noise, self.level)
        self.noise_share = 1 - schedule.alphas_cumprod[self.level]

    def error(self, predicted: Tensor, config: ObjectiveConfig) -> Tensor:
        """Weighted squared error [B, T] of the velocity ``predicted``."""
        error = (predicted.float() - self.target).square().mean(dim=(2, 3, 4))
        return error * self.noise_share if config.weighting == "x0" else error
