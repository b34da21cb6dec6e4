"""Autoregressive rollout over a cached history: what a planner and a node call.

A :class:`Session` holds the encoded history of one moment. ``imagine`` rolls out K candidate
action sequences from it; the history's cache is stored once and shared by all of them. One frame
is denoised at a time; a finished frame joins the candidates' own part of the cache, held at the
small history noise level (Vid2World section 4.3, Algorithm 2) or as its last denoising pass left
it (``SamplingConfig.imagined_history``). When the trained window is full, the newest frames are
encoded anew, or the oldest frame leaves the cache (``SamplingConfig.past_window``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.device import exact_float32
from v2w_core.errors import V2WError
from v2w_core.models.temporal_cache import Cache
from v2w_core.narrowing import Narrowing
from v2w_core.rollout.autoregressive import Imagining
from v2w_core.rollout.interfaces import Dynamics, Frames
from v2w_core.rollout.micro_batches import in_micro_batches, micro_batch
from v2w_core.rollout.request import Asked, asked_for
from v2w_core.rollout.result import Rollouts, UInt8Array

if TYPE_CHECKING:
    from v2w_core.rollout.interfaces import Stepper

#: Longest horizon of a rollout, inside the trained window or past it.
MAX_HORIZON = 1000


class Session:
    """The encoded history of one moment, ready to imagine futures.

    Made by :meth:`WorldModel.start`. Not thread-safe; one lock around a model's sessions.
    """

    def __init__(self, model: Dynamics, latents: Tensor, actions: Tensor, seed: int) -> None:
        self.model = model
        self.backend: Stepper = model.backend
        self.seed = seed
        self._ring = model.config.sampling.past_window == "ring"
        self._held_noise = self._noise(model.config.num_frames, seed)
        self._latents = latents  # [T, C, h, w] of the newest frames
        unknown = model.tensor(np.zeros((1, model.config.action.dim)))
        self._actions = torch.cat([unknown, actions])  # [T, A] that led to them
        self._encode_history()

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return self._cache.num_frames

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

    @torch.inference_mode()
    def _encode_history(self) -> None:
        frames = self._encoded_first(self._latents[None], self._actions[None])
        self._cache = self._joined(frames, None)
        self._num_seen = self.num_history

    @torch.inference_mode()
    def append(self, frame: UInt8Array, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it.

        Streaming: the frame joins the cache, the history is not encoded again. When the trained
        window is full, see :class:`SamplingConfig`'s ``past_window``.
        """
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        action_t = self.model.tensor(spec.normalise(checked))
        latent = self.model.encode(np.asarray(frame)[None])
        newest = self.model.config.num_history
        self._latents = torch.cat([self._latents, latent])[-newest:]
        self._actions = torch.cat([self._actions, action_t])[-newest:]
        if self.num_history == self.model.config.num_frames - 1:
            if not self._ring:
                self._encode_history()
                return
            self._cache = self._cache.forget(self.model.config.sampling.num_sinks)
        noise = self._held_noise[None, [self._num_seen % len(self._held_noise)]]
        known = torch.ones(1, 1, dtype=torch.bool, device=latent.device)
        frames = self._held(latent[None], noise, action_t[None], known)
        self._cache = self._joined(frames, self._cache)
        self._num_seen += 1

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
        """Roll out every candidate from the shared history.

        Args:
            candidates: [K, horizon, A] physical units, within the ActionSpec's bounds. The horizon
                may leave the trained window.
            num_sampling_steps, guidance_scale: the configuration's when None.
            seed: of the noise; the session's when None. All candidates share the same noise, so
                that they differ by their actions only and the batch size changes nothing.
            batch_size: candidates computed at once, or as many of them as the back end takes; as
                many as the model's memory budget allows when None.
            bounds: False accepts actions outside the bounds (recorded ones may be).
            interrupt: asked before every frame; True gives the rollout up.
            narrowing: gives up most candidates on the way. The rollouts are those of the chosen
                ones, and the same as without.

        Raises:
            V2WError: actions of a wrong shape, NaN or out of bounds; a horizon past MAX_HORIZON;
                a memory budget that is too small for one candidate.
            Interrupted: ``interrupt`` said so.
        """
        began = time.perf_counter()
        asked = asked_for(
            self, candidates, num_sampling_steps, guidance_scale, seed, bounds, MAX_HORIZON
        )
        num_candidates, horizon = asked.actions.shape[:2]
        if batch_size is not None and batch_size < 1:
            raise V2WError("batch_size", "at least 1", batch_size)
        most_at_once = self.backend.most_at_once
        if batch_size is None:
            num_own = horizon if horizon <= self.max_horizon else self.model.config.num_frames
            guided = asked.guidance_scale != 1.0
            batch_size = micro_batch(
                self.model, num_candidates, num_own, guided=guided, most_at_once=most_at_once
            )
        elif most_at_once is not None:
            batch_size = min(batch_size, most_at_once)
        with self.backend.rolling_out():
            if narrowing is None:
                latents, num_frames = self._imagine(asked, batch_size, interrupt)
            else:
                latents, num_frames = self._narrowed(asked, batch_size, interrupt, narrowing)
        return Rollouts(latents, time.perf_counter() - began, num_frames, self.model)

    def _imagine(
        self, asked: Asked, batch_size: int, interrupt: Callable[[], bool] | None
    ) -> tuple[Tensor, int]:
        """Latents [K, horizon, C, h, w] and the number of frames."""
        num_candidates, horizon = asked.actions.shape[:2]
        latents = in_micro_batches(
            asked.actions,
            batch_size,
            lambda part: Imagining(self, part, asked, interrupt).until(horizon),
        )
        return latents, num_candidates * horizon

    def _narrowed(
        self,
        asked: Asked,
        batch_size: int,
        interrupt: Callable[[], bool] | None,
        narrowing: Narrowing,
    ) -> tuple[Tensor, int]:
        """The same of the chosen candidates. They go on where they are if all are one batch and
        had all their denoising steps; else the past of all would have to be held."""
        began = time.perf_counter()
        num_candidates, horizon = asked.actions.shape[:2]
        early = narrowing.early(asked)
        num_frames = early.actions.shape[1]
        latest: list[Imagining] = []

        def begin(part: Tensor) -> Tensor:
            latest.clear()  # one past at a time
            latest.append(Imagining(self, part, early, interrupt))
            return latest[0].until(num_frames)

        latents = in_micro_batches(asked.actions, batch_size, begin)
        done, elapsed_s = num_candidates * num_frames, time.perf_counter() - began
        chosen = narrowing.chosen(Rollouts(latents, elapsed_s, done, self.model))
        batch = latest.pop()
        if len(batch.actions) == num_candidates and early.num_steps == asked.num_steps:
            batch.only(chosen)
            return batch.until(horizon), done + len(chosen) * (horizon - num_frames)
        del batch
        rest, num_more = self._imagine(
            asked._replace(actions=asked.actions[chosen]), batch_size, interrupt
        )
        return rest, done + num_more

    def _encoded_first(self, latents: Tensor, actions: Tensor) -> Frames:
        """Frames [B, T, ...] as a history begins: the first of them has no known action."""
        noise = self._held_noise[: latents.shape[1]].expand_as(latents)
        known = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        known[:, 0] = False
        return self._held(latents, noise, actions, known)

    def _joined(self, frames: Frames, cache: Cache | None) -> Cache:
        """The cache with these frames (batch 1), which all candidates share."""
        with exact_float32():
            _, after = self.model.unet(*frames, cache=cache)
        joined: Cache = after
        return joined.share()

    def _held(self, latents: Tensor, noise: Tensor, actions: Tensor, mask: Tensor) -> Frames:
        """Frames at the history noise level."""
        level = torch.full(
            latents.shape[:2],
            self.model.config.sampling.history_level,
            dtype=torch.long,
            device=latents.device,
        )
        return Frames(self.model.schedule.add_noise(latents, noise, level), level, actions, mask)

    def _noise(self, num_frames: int, seed: int) -> Tensor:
        """Noise [num_frames, C, h, w]; frame i's is the same for any num_frames >= i."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.model.config.latent_shape
        frames = [torch.randn(shape, generator=generator) for _ in range(num_frames)]
        return torch.stack(frames).to(self.model.device, self.model.dtype)
