"""Rollouts of models whose frames look ahead through their statistics: the released checkpoints.

Nothing of their past can be cached, so that every denoising step computes the whole window
(:mod:`v2w_core.diffusion.compat`). The same interface as :class:`v2w_core.rollout.session.Session`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.diffusion.window_sampler import Noise, WindowSampler
from v2w_core.errors import Interrupted
from v2w_core.models.conditioning import beside_first_frame
from v2w_core.narrowing import Narrowing
from v2w_core.rollout.interfaces import Dynamics
from v2w_core.rollout.request import Asked, asked_for
from v2w_core.rollout.result import Rollouts, UInt8Array


class WindowSession:
    """A history of one moment, ready to imagine futures; made by :meth:`WorldModel.start`.

    Args:
        frames: uint8 [T, H, W, 3] of the model's size.
        actions: [T - 1, A] normalised.
    """

    def __init__(self, model: Dynamics, frames: UInt8Array, actions: Tensor, seed: int) -> None:
        self.model = model
        self.seed = seed
        self._frames = frames
        self._actions = actions
        self._latents = model.encode(frames)
        self._tokens = self._look(frames[0])

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return len(self._frames)

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

    def append(self, frame: UInt8Array, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it."""
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        self._frames = np.concatenate([self._frames, self.model.preprocess(frame[None])])
        self._latents = torch.cat([self._latents, self.model.encode(frame[None])])
        self._actions = torch.cat([self._actions, self.model.tensor(spec.normalise(checked))])
        if self.num_history >= self.model.config.num_frames:
            keep = self.model.config.num_history
            self._frames, self._latents = self._frames[-keep:], self._latents[-keep:]
            self._actions = self._actions[len(self._actions) - keep + 1 :]
            self._tokens = self._look(self._frames[0])

    @torch.inference_mode()
    def imagine(
        self,
        candidates: ArrayLike,
        *,
        num_sampling_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        bounds: bool = True,
        interrupt: Callable[[], bool] | None = None,
        narrowing: Narrowing | None = None,
    ) -> Rollouts:
        """As :meth:`v2w_core.rollout.session.Session.imagine`; the whole window at every step.

        The horizon stays inside the trained window; one candidate at once when not told else.
        """
        began = time.perf_counter()
        asked = asked_for(
            self, candidates, num_sampling_steps, guidance_scale, seed, bounds, self.max_horizon
        )

        def imagine(asked: Asked) -> Rollouts:
            latents = self._imagine(asked, batch_size or 1, interrupt)
            number = latents.shape[0] * latents.shape[1]
            return Rollouts(latents, time.perf_counter() - began, number, self.model)

        if narrowing is None:
            return imagine(asked)
        early = imagine(narrowing.early(asked))
        found = imagine(asked._replace(actions=asked.actions[narrowing.chosen(early)]))
        return replace(found, frames_imagined=early.frames_imagined + found.frames_imagined)

    def _imagine(
        self, asked: Asked, batch_size: int, interrupt: Callable[[], bool] | None
    ) -> Tensor:
        """Latents [K, horizon, C, h, w]."""
        config, sampling = self.model.config, self.model.config.sampling
        sampler = WindowSampler(
            self.model.schedule,
            num_steps=asked.num_steps,
            eta=sampling.eta,
            guidance_scale=asked.guidance_scale,
            guidance_rescale=sampling.guidance_rescale,
            history_level=sampling.history_level,
            compat=config.compat,
        )
        num_frames = self.num_history + asked.actions.shape[1]
        parts = []
        for chunk in asked.actions.split(batch_size):
            history = self._latents.expand(len(chunk), *self._latents.shape)
            denoise = _Denoiser(self, chunk, interrupt)
            noise = self._shared_noise(asked.seed)
            latents = sampler.autoregressive(denoise, history, num_frames, noise)
            parts.append(latents[:, self.num_history :])
        return torch.cat(parts)

    @torch.inference_mode()
    def _look(self, frame: UInt8Array) -> Tensor | None:
        """Context tokens [1, L, D] of an image."""
        if self.model.image_context is None:
            return None
        image = self.model.tensor(frame).permute(2, 0, 1)[None] / 127.5 - 1.0
        tokens: Tensor = self.model.image_context(image)
        return tokens

    def _shared_noise(self, seed: int) -> Noise:
        """Draws of one candidate, for all of them: they differ by their actions only."""
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: Sequence[int]) -> Tensor:
            one = torch.randn(tuple(shape)[1:], generator=generator)
            return one.to(self._latents).expand(*shape)

        return draw

    def told(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [K, T, A] that lead to each frame, and which are known [K, T]."""
        past = self._actions.expand(len(candidates), *self._actions.shape)
        first = torch.zeros_like(candidates[:, :1])
        actions = torch.cat([first, past, candidates], dim=1)
        known = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
        known[:, 0] = self.model.config.compat.zero_first_action
        return actions, known


class _Denoiser:
    """Velocity of a window of all candidates; guidance leaves out the newest action."""

    def __init__(
        self, session: WindowSession, candidates: Tensor, interrupt: Callable[[], bool] | None
    ) -> None:
        self.session = session
        self.interrupt = interrupt
        self.actions, self.known = session.told(candidates)

    def __call__(self, x: Tensor, level: Tensor, *, guided: bool) -> Tensor:
        if self.interrupt is not None and self.interrupt():
            raise Interrupted
        model, num_frames = self.session.model, x.shape[1]
        known = self.known[:, :num_frames]
        if not guided:
            known = known.clone()
            known[:, -1] = False
        if model.config.first_frame_channels:
            x = beside_first_frame(x, self.session._latents[None, :1])
        tokens = self.session._tokens
        if tokens is not None:
            tokens = tokens.expand(len(x), -1, -1)
        context = model.frame_context(tokens, num_frames)
        v, _ = model.unet(x, level, self.actions[:, :num_frames], known, context=context)
        out: Tensor = v
        return out
