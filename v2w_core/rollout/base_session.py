"""Sessions: ``rollout`` begins with K candidates, ``imagine`` is a rollout to the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.rollout.candidate_rollout import CandidateRollout
from v2w_core.rollout.interfaces import Dynamics
from v2w_core.rollout.result import Rollouts
from v2w_core.spec import FloatArray


class RolloutRequest(NamedTuple):
    """Actions [K, horizon, A] and how frames are sampled from them.

    Attributes:
        actions: normalised.
        commands: the same in physical units.
    """

    actions: Tensor
    commands: FloatArray
    num_steps: int
    guidance_scale: float
    seed: int
    interrupt: Callable[[], bool] | None


class BaseSession(ABC):
    """The history of one moment, ready to imagine futures; made by ``WorldModel.start``.

    Not thread-safe; one lock around a model's sessions.
    """

    model: Dynamics
    seed: int
    horizon_limit: int | None = None  # of a rollout; None: the end of the trained window

    @property
    @abstractmethod
    def num_history(self) -> int:
        """Frames in the history."""

    @property
    def predicts_motion(self) -> bool:
        """Whether ``Rollouts.motion`` is predicted; otherwise it is the commands."""
        return self.model.motion_head is not None

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

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
            candidates: [K, horizon, A] physical units, within the ActionSpec's bounds.
            num_sampling_steps, guidance_scale: the configuration's when None.
            seed: of the noise; the session's when None. All candidates share the same noise, so
                that they differ by their actions only and the batch size changes nothing.
            batch_size: candidates computed at once, or as many of them as the back end takes; None:
                as many as the model's memory budget allows, of a WindowSession one.
            bounds: False accepts actions outside the bounds (recorded ones may be).
            interrupt: asked before every frame; True gives the rollout up.

        Raises:
            V2WError: actions of a wrong shape, NaN or out of bounds; a horizon that is too long; a
                memory budget that is too small for one candidate.
        """
        spec, sampling = self.model.config.action, self.model.config.sampling
        actions = spec.validate(candidates, field="candidates", bounds=bounds)
        longest = self.max_horizon if self.horizon_limit is None else self.horizon_limit
        if actions.ndim != 3 or actions.shape[0] == 0:
            raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
        if actions.shape[1] > longest:
            rule = f"at most {longest} steps after {self.num_history} history frames"
            raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
        if batch_size is not None and batch_size < 1:
            raise V2WError("batch_size", "at least 1", batch_size)
        request = RolloutRequest(
            self.model.tensor(spec.normalise(actions)),
            actions,
            sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
            sampling.guidance_scale if guidance_scale is None else guidance_scale,
            self.seed if seed is None else seed,
            interrupt,
        )
        return self._begin(request, batch_size)

    @abstractmethod
    def _begin(self, request: RolloutRequest, batch_size: int | None) -> CandidateRollout:
        """The rollout of a checked request."""
