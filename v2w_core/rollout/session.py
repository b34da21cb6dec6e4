"""Rollouts over a cached history, which is encoded once and shared by all candidates."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.images import ImageArray
from v2w_core.rollout.autoregressive import AutoregressiveRollout
from v2w_core.rollout.base_session import BaseSession, RolloutRequest
from v2w_core.rollout.candidate_rollout import CandidateRollout
from v2w_core.rollout.history import EncodedHistory, draw_noise
from v2w_core.rollout.interfaces import Dynamics, StepBackend
from v2w_core.rollout.memory_budget import micro_batch_size


class Session(BaseSession):
    """The encoded history of one moment; rollouts stay in the trained window or leave it.

    Args:
        latents: [T, C, h, w] of the newest ``num_history`` frames.
        actions: [T - 1, A], normalised; ``actions[i]`` leads from frame i to frame i + 1.
        seed: of the history's noise and, by default, of rollouts.
    """

    horizon_limit = 1000

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
    def latents(self) -> Tensor:
        """[T, C, h, w] of the newest ``num_history`` frames."""
        return self.history.latents

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

    def _begin(self, request: RolloutRequest, batch_size: int | None) -> CandidateRollout:
        horizon, history, backend = request.actions.shape[1], self.history, self.backend
        num_suffix = horizon if horizon <= self.max_horizon else self.model.config.num_frames
        size = micro_batch_size(
            self.model, len(request.actions), num_suffix, guided=request.guidance_scale != 1.0,
            wanted=batch_size, max_batch_size=backend.max_batch_size,
        )  # fmt: skip
        return CandidateRollout(
            self.model,
            request.actions,
            request.commands,
            size,
            partial(AutoregressiveRollout, history, backend, request),
            backend.rollout_context,
        )
