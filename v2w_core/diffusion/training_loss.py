"""The loss of a training step: diffusion forcing, or teacher forcing on recorded or imagined pasts.

A teacher-forced pass imagines every frame of a clip given the frames before it. Put in their place,
the imagined frames are the past of another such pass, whose frames are then two steps deep, and so
on: after d passes every frame is as a rollout makes it from the frame d steps before, or from the
last recorded one (self-rollouts, after Self Forcing, arXiv 2506.08009, with the passes in parallel
over the frames).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_core.diffusion.objective import (
    NoisedFrames,
    ObjectiveConfig,
    diffusion_forcing_error,
    draw_noise_levels,
    motion_error,
    noise_like,
)
from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.models.attention import Context
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.motion_head import MotionHead, split_motion
from v2w_core.models.unet import UNet
from v2w_core.models.warped_previous import WarpedPrevious, frames_before


@dataclass(frozen=True)
class Trained:
    """The network and what belongs to it.

    Attributes:
        condition: makes the condition's channels, of a model with one.
        motion_head: trains the motion head, of a model with one.
    """

    unet: UNet
    schedule: NoiseSchedule
    condition: WarpedPrevious | None = None
    motion_head: MotionHead | None = None

    def teacher_forced(
        self,
        past: Tensor,
        past_level: Tensor,
        targets: Tensor,
        target_level: Tensor,
        before: Tensor,
        clips: ForcedClips,
        action_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocity and motion means of the targets.

        Args:
            past, targets: [B, T, C, H, W], noisy, of levels [B, T].
            before: [B, T, C, H, W], the clean past: what the condition moves.
            clips: only the actions are used.
            action_mask: [B, T].
        """
        if self.condition is not None:
            earlier = frames_before(before)
            moved = self.condition(earlier, clips.actions)
            past_moved = moved
            if clips.past_actions is not None:
                past_moved = self.condition(earlier, clips.past_actions)
            past = torch.cat([past, past_moved], dim=2)
            targets = torch.cat([targets, moved], dim=2)
        _, output = self.unet.forward_teacher_forced(
            past, past_level, targets, target_level, clips.actions, action_mask,
            clips.past_actions,
        )  # fmt: skip
        return split_motion(output, before.shape[2])


@dataclass(frozen=True)
class ForcedClips:
    """Clips for teacher forcing, each [B, T, ...].

    Attributes:
        latents: [B, T, C, H, W], clean.
        actions: [B, T, A], normalised; the command that leads to each frame.
        action_mask: [B, T], False where the action is the null action.
        past_actions: [B, T, A], of the past frames where they are others; None: the same.
        motion: [B, T, A], the displacement that led to each frame; None: not measured.
    """

    latents: Tensor
    actions: Tensor
    action_mask: Tensor
    past_actions: Tensor | None = None
    motion: Tensor | None = None


def training_loss(
    trained: Trained,
    latents: Tensor,
    actions: Tensor,
    config: ObjectiveConfig,
    generator: torch.Generator,
    progress: float = 1.0,
    *,
    context: Context | None = None,
    zero_first_action: bool = False,
    motion: Tensor | None = None,
) -> Tensor:
    """Scalar loss of one step: diffusion forcing or, for a share of the steps, teacher forcing.

    Args:
        trained: the network.
        latents: [B, T, C, H, W], clean and normalised.
        actions: [B, T, A] normalised; actions[:, t] leads from frame t to t+1 (the last is unused).
        generator: CPU generator of levels, noise and dropout; makes a step reproducible.
        progress: share of the training that is done, 0..1.
        context: text and image tokens, for models with ``context_dim`` (diffusion forcing only).
        zero_first_action: whether frame 0 has a zero action, dropped out like any other, instead
            of the null action (see ``CompatConfig``).
        motion: [B, T, A], as ``actions``, the displacement that was measured; None: the actions.
    """
    forced = bool(torch.rand((), generator=generator) < config.forced_probability)
    motion = actions if motion is None else motion
    if forced:
        half = max(len(latents) // 2, 1)
        latents, actions, motion = latents[:half], actions[:half], motion[:half]
    batch, num_frames = latents.shape[:2]
    keep = torch.rand(batch, num_frames, generator=generator) >= config.action_dropout
    keep[:, 0] &= zero_first_action
    clips = ForcedClips(
        latents, shift_actions(actions), keep.to(latents.device), motion=shift_actions(motion)
    )
    if forced:
        return _teacher_forcing_loss(trained, clips, config, generator, progress)
    num_levels = trained.schedule.num_levels
    levels = draw_noise_levels(batch, num_frames, num_levels, config, generator)
    noise = noise_like(latents, generator)
    error, means = diffusion_forcing_error(
        trained.unet, trained.schedule, latents, levels, noise, clips.actions, clips.action_mask,
        config, context, trained.condition,
    )  # fmt: skip
    return error.mean() + _weighted_motion_error(trained, means, clips, levels, config)


def _teacher_forcing_loss(
    trained: Trained,
    clips: ForcedClips,
    config: ObjectiveConfig,
    generator: torch.Generator,
    progress: float,
) -> Tensor:
    schedule, latents, shape = trained.schedule, clips.latents, clips.latents.shape[:2]
    low = torch.rand(shape, generator=generator).square() * (config.forced_past_max_level + 1)
    high = 1 - torch.rand(shape, generator=generator).square()
    last = schedule.num_levels - 1
    high = (high * schedule.num_levels).long().clamp(max=last)
    blind = torch.rand(shape, generator=generator) < config.blind_probability
    clips = with_displacements(clips, config, generator)
    imagines = config.imagined_past_probability if progress >= config.imagined_past_after else 0
    before = latents
    if bool(torch.rand((), generator=generator) < imagines):
        depth = draw_depth(config, progress, generator)
        before, clips = imagined_past(trained, clips, config, depth, generator)
    past_noise, noise = noise_like(latents, generator), noise_like(latents, generator)
    past = NoisedFrames(schedule, before, low.long().clamp(max=last), past_noise)
    targets = NoisedFrames(schedule, latents, torch.where(blind, last, high), noise)
    predicted, means = trained.teacher_forced(
        past.latents, past.level, targets.latents, targets.level, before, clips, clips.action_mask
    )
    error = targets.error(predicted, config)[:, 1:].mean()  # the first frame has no past
    return error + _weighted_motion_error(trained, means, clips, targets.level, config)


def with_displacements(
    clips: ForcedClips, config: ObjectiveConfig, generator: torch.Generator
) -> ForcedClips:
    """Some clips have the displacement as their past frames' action."""
    if config.displacement_probability == 0 or clips.motion is None:
        return clips
    chosen = torch.rand(len(clips.latents), 1, 1, generator=generator)
    measured = (chosen < config.displacement_probability).to(clips.latents.device)
    past_actions = torch.where(measured, clips.motion, clips.actions)
    return replace(clips, past_actions=past_actions)


def draw_depth(config: ObjectiveConfig, progress: float, generator: torch.Generator) -> int:
    """How many frames deep the imagined past of a step is.

    Drawn between 1 and a limit that grows from 1, where imagined pasts begin, to
    ``self_rollout_depth`` at the end of the training.
    """
    if config.self_rollout_depth == 1:
        return 1
    left = 1 - config.imagined_past_after
    grown = 1.0 if left == 0 else (progress - config.imagined_past_after) / left
    limit = 1 + round(min(max(grown, 0.0), 1.0) * (config.self_rollout_depth - 1))
    return int(torch.randint(1, limit + 1, (), generator=generator))


def imagined_past(
    trained: Trained,
    clips: ForcedClips,
    config: ObjectiveConfig,
    depth: int,
    generator: torch.Generator,
) -> tuple[Tensor, ForcedClips]:
    """The clips [B, T, C, H, W] with imagined frames from a random frame on.

    Each is imagined in one sampling step from pure noise, given the frames before it: recorded ones
    in the first pass, and the frames that the pass before imagined in each further one. The noise
    is the same in all passes, so that a frame no longer changes once all before it are final.

    Returns:
        the frames, and the clips with the command as the action of imagined past frames: what the
        robot will be told is all that is known of them.
    """
    latents, schedule = clips.latents, trained.schedule
    shape, last = latents.shape[:2], schedule.num_levels - 1
    action_mask = torch.ones(shape, dtype=torch.bool, device=latents.device)
    action_mask[:, 0] = False
    clean = torch.zeros(shape, dtype=torch.long, device=latents.device)
    noise = noise_like(latents, generator)
    level = torch.full_like(clean, last)
    cut = torch.randint(config.min_past, shape[1] + 1, (shape[0], 1), generator=generator)
    after = (torch.arange(shape[1])[None] >= cut).to(latents.device)
    if clips.past_actions is not None:
        told = torch.where(after[..., None], clips.actions, clips.past_actions)
        clips = replace(clips, past_actions=told)
    frames = latents
    for index in range(depth):
        learned = index >= depth - config.self_rollout_gradient_passes
        with contextlib.nullcontext() if learned else torch.no_grad():
            velocity, _ = trained.teacher_forced(
                frames, clean, noise, level, frames, clips, action_mask
            )
            imagined, _ = schedule.from_velocity(noise, velocity.float(), level)
            imagined = imagined / schedule.scale[last]
            frames = torch.where(after[..., None, None, None], imagined, latents)
    return frames, clips


def _weighted_motion_error(
    trained: Trained, means: Tensor, clips: ForcedClips, levels: Tensor, config: ObjectiveConfig
) -> Tensor | float:
    """The motion head's share of the loss; 0 without a head."""
    if trained.motion_head is None or clips.motion is None:
        return 0.0
    known = clips.action_mask.clone()
    known[:, 0] = False  # nothing is known of the motion before a clip
    error = motion_error(
        trained.motion_head, means, clips.actions, clips.motion, levels.to(means.device), known,
        trained.schedule.num_levels,
    )  # fmt: skip
    return config.motion_weight * error
