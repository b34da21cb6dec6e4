"""Optimisers of action sequences: init / ask / tell over an explicit, frozen state.

Nothing is hidden in the optimiser object: the random numbers of an ``ask`` follow from the state's
seed and iteration, so that the same state always asks the same candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planners.bounds import Bounds
from planners.protocols import FloatArray
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class OptimizerState:
    """What every optimiser carries from one iteration to the next.

    Attributes:
        bounds: limits that every asked candidate keeps.
        horizon: steps of a sequence.
        num_candidates: candidates an ``ask`` returns, at most.
        seed: of all random numbers.
        iteration: how often ``tell`` was called.
        proposals: sequences [N, horizon, A] that the first ``ask`` returns first (warm starts).
        mean: [horizon, A], where the next candidates are sampled around.
        best_sequence, best_cost: the cheapest sequence told so far; before any finite cost was
            told, the starting point and infinity.
    """

    bounds: Bounds
    horizon: int
    num_candidates: int
    seed: int
    iteration: int
    proposals: FloatArray
    mean: FloatArray
    best_sequence: FloatArray
    best_cost: float


StateT = TypeVar("StateT", bound=OptimizerState)


class Optimizer(Protocol[StateT]):
    """Any black-box optimiser of sequences [horizon, A]; lower cost is better."""

    def init(
        self,
        bounds: Bounds,
        horizon: int,
        *,
        num_candidates: int,
        seed: int = 0,
        warm_start: ArrayLike | None = None,
    ) -> StateT:
        """The first state. ``warm_start``: one sequence [horizon, A] or several [N, horizon, A]."""
        ...

    def ask(self, state: StateT, *, final: bool = False) -> FloatArray:
        """Candidates [num_candidates or fewer, horizon, A] within the bounds.

        ``final``: it is the last time.
        """
        ...

    def tell(self, state: StateT, candidates: FloatArray, costs: ArrayLike) -> StateT:
        """The state after scoring the asked candidates; NaN and infinity count as worst."""
        ...


def start_values(
    bounds: Bounds, horizon: int, num_candidates: int, seed: int, warm_start: ArrayLike | None
) -> OptimizerState:
    """The common part of every optimiser's ``init``: checked values and the starting point.

    Without a warm start the mean is the action nearest to zero and nothing is proposed but that.

    Raises:
        V2WError: horizon or num_candidates below 1, or a warm start of another shape.
    """
    for name, value in (("horizon", horizon), ("num_candidates", num_candidates)):
        if value < 1:
            raise V2WError(name, "at least 1", value)
    rest = np.broadcast_to(bounds.rest, (1, horizon, bounds.dim))
    proposals = bounds.apply(rest)
    if warm_start is not None:
        given = np.asarray(warm_start, dtype=np.float32)
        given = given[None] if given.ndim == 2 else given
        if given.ndim != 3 or given.shape[1:] != (horizon, bounds.dim):
            rule = f"shape [{horizon}, {bounds.dim}] or [N, {horizon}, {bounds.dim}]"
            raise V2WError("warm_start", rule, list(np.shape(warm_start)))
        if not np.isfinite(given).all():
            raise V2WError("warm_start", "finite numbers")
        proposals = np.concatenate([bounds.apply(given), proposals])
    return OptimizerState(
        bounds=bounds,
        horizon=horizon,
        num_candidates=num_candidates,
        seed=seed,
        iteration=0,
        proposals=proposals,
        mean=proposals[0],
        best_sequence=proposals[0],
        best_cost=float("inf"),
    )


def generator(state: OptimizerState) -> np.random.Generator:
    """The random numbers of this state's ``ask``."""
    return np.random.default_rng([abs(state.seed), state.iteration])


def place_known(state: OptimizerState, samples: FloatArray, *, include_mean: bool) -> FloatArray:
    """Samples [K, horizon, A] within the limits, the first of them replaced by what is known:
    the proposals in the first iteration, and the mean where it is asked for."""
    candidates = state.bounds.apply(samples)
    if state.iteration == 0:
        known = state.proposals[: len(candidates)]
        candidates[: len(known)] = known
    elif include_mean:
        candidates[0] = state.bounds.apply(state.mean)
    return candidates


def checked_costs(candidates: FloatArray, costs: ArrayLike) -> NDArray[np.float64]:
    """Costs [K] as float64 with NaN (and minus infinity) turned into infinity."""
    array = np.array(costs, dtype=np.float64)
    if array.shape != (len(candidates),):
        raise V2WError("costs", f"one for each of {len(candidates)} candidates", array.shape)
    array[~np.isfinite(array)] = np.inf
    return array


def best_of(
    state: OptimizerState, candidates: FloatArray, costs: NDArray[np.float64]
) -> tuple[FloatArray, float]:
    """The cheapest sequence so far, given newly scored ones."""
    index = int(np.argmin(costs))
    if costs[index] < state.best_cost:
        return candidates[index].copy(), float(costs[index])
    return state.best_sequence, state.best_cost


def shift(sequence: ArrayLike, num_steps: int, fill: ArrayLike | None = None) -> FloatArray:
    """A plan [horizon, A] after its first ``num_steps`` actions were executed.

    The end is filled with ``fill`` [A], or with the last action repeated.
    """
    array = np.asarray(sequence, dtype=np.float32)
    num_steps = min(max(num_steps, 0), len(array))
    last = array[-1] if fill is None else np.asarray(fill, dtype=np.float32)
    return np.concatenate([array[num_steps:], np.broadcast_to(last, (num_steps, array.shape[1]))])
