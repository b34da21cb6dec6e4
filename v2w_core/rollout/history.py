"""The encoded history of one moment, which all candidates of a rollout have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_core.device import exact_float32
from v2w_core.models.temporal_cache import Cache
from v2w_core.models.warped_previous import frames_before
from v2w_core.rollout.interfaces import Dynamics, NoisyFrames


@dataclass(frozen=True)
class EncodedHistory:
    """Camera frames in a cache, at the history noise level. Appending returns another history.

    Attributes:
        cache: the network's state after all frames, batch 1.
        latents: [T, C, h, w], clean, of the newest ``num_history`` frames.
        actions: [T, A], normalised; ``actions[i]`` leads to frame i.
        noise: [num_frames, C, h, w]; the noise of frame i of the trained window.
        num_seen: frames that were encoded so far; chooses the noise of the next one.
    """

    model: Dynamics
    cache: Cache
    latents: Tensor
    actions: Tensor
    noise: Tensor
    num_seen: int

    @classmethod
    def encode(
        cls, model: Dynamics, latents: Tensor, actions: Tensor, noise: Tensor
    ) -> EncodedHistory:
        """Encodes frames ``latents`` [T, C, h, w] in one pass; see the attributes."""
        frames = first_frames(model, latents[None], actions[None], noise)
        cache = _encoded(model, frames, None)
        return cls(model, cache, latents, actions, noise, cache.num_frames)

    def append(self, latent: Tensor, action: Tensor) -> EncodedHistory:
        """With one frame more: ``latent`` [1, C, h, w] and the ``action`` [1, A] that led to it.

        The frame joins the cache; nothing is encoded again unless the trained window is full and
        ``SamplingConfig.past_window`` says "recompute".
        """
        config, cache = self.model.config, self.cache
        latents = torch.cat([self.latents, latent])[-config.num_history :]
        actions = torch.cat([self.actions, action])[-config.num_history :]
        if cache.num_frames == config.num_frames - 1:
            if config.sampling.past_window == "recompute":
                return EncodedHistory.encode(self.model, latents, actions, self.noise)
            cache = cache.evict(config.sampling.num_sinks)
        noise = self.noise[None, [self.num_seen % len(self.noise)]]
        mask = torch.ones(1, 1, dtype=torch.bool, device=latent.device)
        condition = condition_of(self.model, self.latents[None, -1:], action[None])
        frame = at_history_level(self.model, latent[None], noise, action[None], mask, condition)
        cache = _encoded(self.model, frame, cache)
        return replace(
            self, cache=cache, latents=latents, actions=actions, num_seen=self.num_seen + 1
        )

    def followed_by(self, imagined: Sequence[Tensor], actions: Tensor) -> NoisyFrames:
        """The newest ``num_history`` frames of every candidate, as the first of a new window.

        Args:
            imagined: latents [K, 1, C, h, w] of each frame that came after the history.
            actions: [K, T, A] that led to those.
        """
        newest, num_candidates = self.model.config.num_history, len(actions)
        latents = self.latents.expand(num_candidates, *self.latents.shape)
        before = self.actions.expand(num_candidates, *self.actions.shape)
        return first_frames(
            self.model,
            torch.cat([latents, *imagined], dim=1)[:, -newest:],
            torch.cat([before, actions], dim=1)[:, -newest:],
            self.noise,
        )


def condition_of(model: Dynamics, before: Tensor, actions: Tensor) -> Tensor | None:
    """The condition's channels of frames; None where the model has no condition.

    Args:
        before: [B, T, C, h, w], the clean frames before each of them.
        actions: [B, T, A], normalised, each leading from there to the frame itself.
    """
    return None if model.condition is None else model.condition(before, actions)


def with_condition(latents: Tensor, condition: Tensor | None) -> Tensor:
    """Noisy latents as the U-Net is given them, [B, T, C_in, h, w]."""
    return latents if condition is None else torch.cat([latents, condition], dim=2)


def at_history_level(
    model: Dynamics, latents: Tensor, noise: Tensor, actions: Tensor, action_mask: Tensor,
    condition: Tensor | None,
) -> NoisyFrames:  # fmt: skip
    """Clean frames [B, T, C, h, w] at the small noise level of history (Vid2World, Algorithm 2).

    Args:
        condition: see :func:`condition_of`.
    """
    level = torch.full(
        latents.shape[:2], model.config.sampling.history_level, dtype=torch.long,
        device=latents.device,
    )  # fmt: skip
    noisy = model.schedule.add_noise(latents, noise, level)
    return NoisyFrames(with_condition(noisy, condition), level, actions, action_mask)


def first_frames(model: Dynamics, latents: Tensor, actions: Tensor, noise: Tensor) -> NoisyFrames:
    """The first frames [B, T, ...] of a window: no known action leads to the very first of them."""
    mask = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
    mask[:, 0] = False
    condition = condition_of(model, frames_before(latents), actions)
    return at_history_level(
        model, latents, noise[: latents.shape[1]].expand_as(latents), actions, mask, condition
    )


def draw_noise(model: Dynamics, num_frames: int, seed: int) -> Tensor:
    """Noise [num_frames, C, h, w]; frame i's is the same for any ``num_frames`` above i."""
    generator = torch.Generator().manual_seed(seed)
    shape = model.config.latent_shape
    frames = [torch.randn(shape, generator=generator) for _ in range(num_frames)]
    return torch.stack(frames).to(model.device, model.dtype)


def _encoded(model: Dynamics, frames: NoisyFrames, cache: Cache | None) -> Cache:
    """The cache after these frames of batch 1, all of them in the prefix."""
    with exact_float32():
        _, after = model.unet(*frames, cache=cache)
    encoded: Cache = after
    return encoded.as_prefix()
