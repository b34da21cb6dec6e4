"""Screening: all candidates are imagined a little way or coarsely, and some of them in full.

The coarse look gives no costs that could be compared with those of a full one, only an order of the
candidates that were left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import Costs
from planners.protocols import CandidateRollout, FloatArray, Rollouts
from planners.settings import ImaginationSettings


class Screened(NamedTuple):
    """What screening leaves.

    Attributes:
        coarse_costs: [K], of the coarse look.
        chosen: indices [K'] of the candidates that were imagined in full, ascending.
        rollouts: of those.
        frames_imagined: in both looks.
    """

    coarse_costs: Costs
    chosen: NDArray[np.intp]
    rollouts: Rollouts
    frames_imagined: int


class BeginRollout(Protocol):
    """Begins the rollout of candidates [K, horizon, A] with so many denoising steps a frame."""

    def __call__(
        self, candidates: FloatArray, num_sampling_steps: int | None
    ) -> CandidateRollout: ...


def screen(
    candidates: FloatArray,
    settings: ImaginationSettings,
    begin: BeginRollout,
    coarse_cost: Callable[[FloatArray, Rollouts], Costs],
) -> Screened:
    """Imagines the candidates coarsely, and in full those that cost least by then.

    Args:
        candidates: [K, horizon, A].
        settings: its ``screens`` is True of the horizon.
        coarse_cost: costs [K] of the beginnings of candidates, given their rollouts.
    """
    horizon = candidates.shape[1]
    num_frames = min(settings.screening_horizon or horizon, horizon)
    num_steps = settings.screening_steps or settings.num_sampling_steps
    rollout = begin(candidates, num_steps)
    early = rollout.advance(num_frames)
    costs = coarse_cost(np.ascontiguousarray(candidates[:, :num_frames]), early)
    num_chosen = math.ceil(settings.screening_fraction * len(candidates))
    chosen = np.sort(np.argsort(costs, kind="stable")[:num_chosen])
    if num_steps == settings.num_sampling_steps:
        rollout.select(chosen)
        found = rollout.advance(horizon - num_frames)
        return Screened(costs, chosen, found, found.frames_imagined)
    del rollout  # its cache, before another one begins
    found = begin(candidates[chosen], settings.num_sampling_steps).advance(horizon)
    return Screened(costs, chosen, found, early.frames_imagined + found.frames_imagined)
