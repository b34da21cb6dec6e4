"""Diffusion forcing: every frame of a clip has an independent noise level.

The loss is the mean squared error of the velocity (Vid2World section 4.3). Noise levels are drawn
from a mixture: independent levels for all frames, or nearly clean frames up to a random cut and
noisy ones after it, as in a rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.errors import V2WError
from v2w_core.models.attention import Context
from v2w_core.models.conditioning import concat_first_frame
from v2w_core.models.motion_head import MotionHead, split_motion
from v2w_core.models.unet import UNet
from v2w_core.models.warped_previous import WarpedPrevious, frames_before

#: Options that are probabilities or shares, between 0 and 1.
SHARES = (
    "past_probability",
    "blind_probability",
    "forced_probability",
    "imagined_past_probability",
    "imagined_past_after",
    "action_dropout",
    "displacement_probability",
)
#: Share of the noise levels, the highest, at which the motion head is trained: what it says counts
#: where nothing can be seen of the frame itself.
MOTION_LEVELS = 0.1


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
        self_rollout_depth: how many imagined frames deep imagined pasts are at most, see
            :func:`v2w_core.diffusion.training_loss.imagined_past`. The depth of a step is drawn
            between 1 and a limit that grows to this over the rest of the training.
        self_rollout_gradient_passes: through how many of the last passes of an imagined past the
            gradient flows; 0: the model learns from its errors, but not how to make better pasts.
        displacement_probability: share of the teacher-forced clips whose recorded past frames have
            the measured displacement as their action in place of the command, as on a robot whose
            commands nobody recorded.
        motion_weight: weight of the motion head's loss, where there is a head.
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
    self_rollout_depth: int = 1
    self_rollout_gradient_passes: int = 0
    displacement_probability: float = 0.0
    motion_weight: float = 0.05
    action_dropout: float = 0.2
    weighting: Literal["velocity", "x0"] = "x0"

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise V2WError(f"ObjectiveConfig.{name}", "between 0 and 1", getattr(self, name))
        if self.blind_probability > self.past_probability:
            rule = "at most past_probability"
            raise V2WError("ObjectiveConfig.blind_probability", rule, self.blind_probability)
        if not 1 <= self.self_rollout_depth <= 64:
            rule = "from 1 to 64 frames"
            raise V2WError("ObjectiveConfig.self_rollout_depth", rule, self.self_rollout_depth)
        passes = self.self_rollout_gradient_passes
        if not 0 <= passes <= self.self_rollout_depth:
            rule = "from 0 to self_rollout_depth"
            raise V2WError("ObjectiveConfig.self_rollout_gradient_passes", rule, passes)
        if not 0 <= self.motion_weight < math.inf:
            rule = "a number of at least 0"
            raise V2WError("ObjectiveConfig.motion_weight", rule, self.motion_weight)
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
    condition: WarpedPrevious | None = None,
) -> tuple[Tensor, Tensor]:
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
        condition: of a model with one.

    Returns:
        the error, and the motion head's means [B, T, 6]; [B, T, 0] without a head.
    """
    noised = NoisedFrames(schedule, latents, levels, noise)
    x = noised.latents
    if condition is not None:
        assert actions is not None
        x = torch.cat([x, condition(frames_before(latents), actions)], dim=2)
    elif unet.config.in_channels > latents.shape[2]:
        x = concat_first_frame(x, latents[:, :1])
    output, _ = unet(x, noised.level, actions, action_mask, context=context)
    predicted, means = split_motion(output, latents.shape[2])
    return noised.error(predicted, config), means


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
    levels, noise = level.expand(batch, num_frames), noise_like(latents, generator)
    error, _ = diffusion_forcing_error(unet, schedule, latents, levels, noise, None, None, config)
    return error.mean()


def motion_error(
    head: MotionHead,
    means: Tensor,
    actions: Tensor,
    motion: Tensor,
    levels: Tensor,
    known: Tensor,
    num_levels: int,
) -> Tensor:
    """Mean loss of the motion head over frames of high noise levels whose action is known.

    Args:
        means: [B, T, 6], of the head.
        actions, motion: [B, T, A], normalised; command and displacement that lead to each frame.
        levels: [B, T], noise levels; of the highest share MOTION_LEVELS counts.
        known: [B, T], False where the action is the null action.
    """
    chosen = (known & (levels >= (1 - MOTION_LEVELS) * num_levels)).float()
    loss = head.loss(means, actions, motion)
    return (loss * chosen).sum() / chosen.sum().clamp(min=1)


def noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of a CPU generator, shape and device of ``latents``."""
    return torch.randn(latents.shape, generator=generator).to(latents.device)


class NoisedFrames:
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
