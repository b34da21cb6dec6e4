"""The rollout of one batch of candidates, frame by frame, on any back end.

One frame is denoised at a time. A finished frame joins the candidates' part of the cache, noised to
the small history level (Vid2World section 4.3, Algorithm 2) or as its last denoising pass left it
(``SamplingConfig.imagined_history``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import Interrupted
from v2w_core.rollout.base_session import RolloutRequest
from v2w_core.rollout.frame_denoiser import FrameDenoiser
from v2w_core.rollout.history import (
    EncodedHistory,
    at_history_level,
    condition_of,
    draw_noise,
)
from v2w_core.rollout.interfaces import Imagined, NoisyFrames, StepBackend

#: Added to a request's seed for the noise of imagined frames, so that it is not the history's.
IMAGINED_SEED = 1_000_003


class AutoregressiveRollout:
    """The state of a rollout: what some candidates lead to, as far as it was advanced.

    Args:
        history: shared by the candidates.
        backend: computes the steps.
        request: how frames are sampled, of this and other batches.
        actions: [K, horizon, A], normalised, of this batch.
    """

    def __init__(
        self, history: EncodedHistory, backend: StepBackend, request: RolloutRequest,
        actions: Tensor,
    ) -> None:  # fmt: skip
        self._history, self._model, self._backend = history, history.model, backend
        self._request, self._actions = request, actions
        horizon = actions.shape[1]
        noise = draw_noise(self._model, 2 * horizon, request.seed + IMAGINED_SEED)
        self._initial_noise, self._history_noise = noise[0::2], noise[1::2]
        self._generator = torch.Generator().manual_seed(request.seed)
        self._action_mask = torch.ones(len(actions), 1, dtype=torch.bool, device=actions.device)
        self._reuse = self._model.config.sampling.imagined_history == "reuse"
        self._num_joining = horizon if self._reuse else horizon - 1
        self._past = backend.start(history.cache, len(actions), self._num_joining)
        self._num_past = history.cache.num_frames
        self._newest: NoisyFrames | None = None  # imagined, and not in the past yet
        self._latents: list[Tensor] = []
        self._motion: list[Tensor] = []

    def advance(self, num_frames: int) -> Imagined:
        """Imagines more frames; returns all frames so far."""
        for _ in range(num_frames):
            if self._request.interrupt is not None and self._request.interrupt():
                raise Interrupted
            self._next_frame()
        return Imagined(torch.cat(self._latents, dim=1), torch.cat(self._motion, dim=1))

    def select(self, indices: Tensor) -> None:
        """Only the candidates ``indices`` [K'], ascending, go on."""
        self._actions, self._action_mask = self._actions[indices], self._action_mask[indices]
        self._past = self._backend.select(self._past, indices)
        self._latents = [frame[indices] for frame in self._latents]
        self._motion = [frame[indices] for frame in self._motion]
        if self._newest is not None:
            self._newest = NoisyFrames(*(item[indices] for item in self._newest))

    def _next_frame(self) -> None:
        step, sampling = len(self._latents), self._model.config.sampling
        if self._num_past + (self._newest is not None) >= self._model.config.num_frames:
            self._slide_window()
        action = self._actions[:, step : step + 1]
        condition = condition_of(self._model, self._frame_before(), action)
        denoiser = FrameDenoiser(
            self._backend, self._past, self._newest, action, self._action_mask, condition,
            scale=self._request.guidance_scale, rescale=sampling.guidance_rescale,
            keep=self._reuse,
        )  # fmt: skip
        x = self._initial_noise[step].expand(len(action), 1, *self._initial_noise.shape[1:])
        x = ddim_sample(
            denoiser, self._model.schedule, x, self._request.num_steps, eta=sampling.eta,
            generator=self._generator,
        )  # fmt: skip
        self._latents.append(x)
        assert denoiser.motion is not None
        self._motion.append(denoiser.motion)
        self._num_past += self._newest is not None or self._reuse
        if self._reuse:
            self._past = denoiser.past_after
        else:
            self._past = denoiser.past
            noise = self._history_noise[step].expand_as(x)
            self._newest = at_history_level(
                self._model, x, noise, action, self._action_mask, condition
            )

    def _frame_before(self) -> Tensor:
        """The newest frame of every candidate, clean, [K, 1, C, h, w]."""
        if self._latents:
            return self._latents[-1]
        newest = self._history.latents[-1:]
        return newest.expand(len(self._actions), *newest.shape)

    def _slide_window(self) -> None:
        """The trained window is full: its oldest frame is evicted, or a new window begins."""
        config = self._model.config
        if config.sampling.past_window == "ring":
            self._past = self._backend.evict(self._past, config.sampling.num_sinks)
            self._num_past -= 1
        else:
            self._past, self._newest = self._reencode_context(), None
            self._num_past = config.num_history

    def _reencode_context(self) -> Any:
        """The back end's state of the newest ``num_history`` frames, camera's and imagined."""
        step, num_history = len(self._latents), self._model.config.num_history
        frames = self._history.followed_by(self._latents, self._actions[:, :step])
        empty, num_suffix = self._history.cache.emptied(), num_history + self._num_joining - step
        past = self._backend.start(empty, len(self._actions), num_suffix)
        for index in range(num_history):  # one by one: a back end computes steps only
            _, past = self._backend.step(*frames.frame(index), past)
        return past
