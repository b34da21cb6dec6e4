"""Rollouts over a cached history: what a planner and a node call.

The history is encoded once and shared by all candidates: ``rollout`` begins with K candidate action
sequences, ``imagine`` is a rollout to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.images import ImageArray
from v2w_core.rollout.autoregressive import AutoregressiveRollout
from v2w_core.rollout.candidate_rollout import CandidateRollout
from v2w_core.rollout.history import EncodedHistory, draw_noise
from v2w_core.rollout.interfaces import Dynamics, StepBackend
from v2w_core.rollout.memory_budget import micro_batch_size
from v2w_core.rollout.request import resolve_request
from v2w_core.rollout.result import Rollouts

#: Longest horizon of a rollout, inside the trained window or past it.
MAX_HORIZON = 1000


class Session:
    """The encoded history of one moment, ready to imagine futures.

    Made by ``WorldModel.start``. Not thread-safe; one lock around a model's sessions.

    Args:
        latents: [T, C, h, w] of the newest ``num_history`` frames.
        actions: [T - 1, A], normalised; ``actions[i]`` leads from frame i to frame i + 1.
        seed: of the history's noise and, by default, of rollouts.
    """

    @torch.inference_mode()
    def __init__(self, model: Dynamics, latents: Tensor, actions: Tensor, seed: int) -> None:
        self.model = model
        self.backend: StepBackend = model.backend
        self.seed = seed
        unknown = model.tensor(np.zeros((1, model.config.action.dim)))
        self.history = EncodedHistory.encode(
            model, latents, torch.cat([unknown, actions]),
            draw_noise(model, model.config.num_frames, seed),
        )  # fmt: skip

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return self.history.cache.num_frames

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

    @torch.inference_mode()
    def append(self, frame: ImageArray, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it.

        The frame joins the cache; the history is not encoded again. ``SamplingConfig.past_window``
        says what happens when the trained window is full.
        """
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        self.history = self.history.append(
            self.model.encode(np.asarray(frame)[None]), self.model.tensor(spec.normalise(checked))
        )

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
    ) -> Rollouts:
        """Imagines every candidate to the end; arguments and errors as of :meth:`rollout`."""
        rollout = self.rollout(
            candidates, num_sampling_steps=num_sampling_steps, guidance_scale=guidance_scale,
            seed=seed, batch_size=batch_size, bounds=bounds, interrupt=interrupt,
        )  # fmt: skip
        return rollout.advance(np.shape(candidates)[1])

    @torch.inference_mode()
    def rollout(
        self,
        candidates: ArrayLike,
        *,
        num_sampling_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        bounds: bool = True,
        interrupt: Callable[[], bool] | None = None,
    ) -> CandidateRollout:
        """Begins the rollout of every candidate from the shared history.

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

        Raises:
            V2WError: actions of a wrong shape, NaN or out of bounds; a horizon past MAX_HORIZON;
                a memory budget that is too small for one candidate.
        """
        request = resolve_request(
            self, candidates, MAX_HORIZON, num_sampling_steps=num_sampling_steps,
            guidance_scale=guidance_scale, seed=seed, batch_size=batch_size, bounds=bounds,
            interrupt=interrupt,
        )  # fmt: skip
        horizon, history, backend = request.actions.shape[1], self.history, self.backend
        num_suffix = horizon if horizon <= self.max_horizon else self.model.config.num_frames
        size = micro_batch_size(
            self.model, len(request.actions), num_suffix, guided=request.guidance_scale != 1.0,
            wanted=batch_size, max_batch_size=backend.max_batch_size,
        )  # fmt: skip
        return CandidateRollout(
            self.model,
            request.actions,
            size,
            partial(AutoregressiveRollout, history, backend, request),
            backend.rollout_context,
        )
