"""Optimisers of action sequences: init / ask / tell over an explicit, frozen state.

Nothing is hidden in the optimiser object: the random numbers of an ``ask`` follow from the state's
seed and iteration, so that the same state always asks the same candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast, final

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


@dataclass(frozen=True)
class ScoredCandidates:
    """What an update learns from.

    Attributes:
        candidates: [K, horizon, A], as they were asked for.
        costs: float64 [K]; infinity for those that are worthless or were not scored in full.
        ranking: indices [N], N <= K, best first: those with a finite cost by their cost, and behind
            them those of which only the order is known.
    """

    candidates: FloatArray
    costs: NDArray[np.float64]
    ranking: NDArray[np.intp]

    @property
    def unscored(self) -> NDArray[np.intp]:
        """The part of the ranking that has no cost."""
        return self.ranking[~np.isfinite(self.costs[self.ranking])]


class Optimizer(ABC, Generic[StateT]):
    """A black-box optimiser of sequences [horizon, A]; lower cost is better.

    A new one is a frozen dataclass of settings with two methods: ``_sample`` and ``_update``. What
    it carries from one iteration to the next beside :class:`OptimizerState` is a subclass of that
    state, made by ``_start``. Limits, warm starts, checks of costs and the best sequence so far are
    the same for all of them.
    """

    @final
    def init(
        self,
        bounds: Bounds,
        horizon: int,
        *,
        num_candidates: int,
        seed: int = 0,
        warm_start: ArrayLike | None = None,
    ) -> StateT:
        """The first state.

        Args:
            bounds: limits of every candidate.
            horizon: steps of a sequence.
            num_candidates: most that an ``ask`` returns.
            seed: of all random numbers.
            warm_start: one sequence [horizon, A] or several [N, horizon, A] to start from.

        Raises:
            V2WError: horizon or num_candidates below 1, or a warm start of another shape.
        """
        start = start_values(bounds, horizon, num_candidates, seed, warm_start)
        return self._start(start, warm=warm_start is not None)

    @final
    def ask(self, state: StateT, *, final: bool = False) -> FloatArray:
        """Candidates [num_candidates or fewer, horizon, A] within the bounds.

        The first iteration's begin with the proposals, the final one's with the mean.

        Args:
            state: the same state always asks the same candidates.
            final: it is the last time.
        """
        rng = np.random.default_rng([abs(state.seed), state.iteration])
        candidates = state.bounds.apply(self._sample(state, rng, final))
        if state.iteration == 0:
            known = state.proposals[: len(candidates)]
            candidates[: len(known)] = known
        elif final:
            candidates[0] = state.bounds.apply(state.mean)
        return candidates

    @final
    def tell(
        self,
        state: StateT,
        candidates: FloatArray,
        costs: ArrayLike,
        ranking: ArrayLike | None = None,
    ) -> StateT:
        """The state after scoring the asked candidates.

        Args:
            state: the one that asked.
            candidates: [K, horizon, A], what it asked for.
            costs: [K]; NaN and infinity count as worst, or as unknown for those in the ranking.
            ranking: indices, best first, that also order candidates without a cost of their own
                (see :mod:`planners.screening`); all with a finite cost are better than those.

        Raises:
            V2WError: costs of another shape, or a ranking that is none.
        """
        finite_or_inf = checked_costs(candidates, costs)
        scored = ScoredCandidates(candidates, finite_or_inf, full_ranking(finite_or_inf, ranking))
        best_sequence, best_cost = state.best_sequence, state.best_cost
        best = int(np.argmin(scored.costs))
        if scored.costs[best] < best_cost:
            best_sequence, best_cost = candidates[best].copy(), float(scored.costs[best])
        return replace(
            self._update(state, scored),
            iteration=state.iteration + 1,
            best_sequence=best_sequence,
            best_cost=best_cost,
        )

    def _start(self, start: OptimizerState, *, warm: bool) -> StateT:
        """The first state, made of the part that all optimisers have in common.

        Only an optimiser whose state is a subclass needs to write this.

        Args:
            start: bounds, proposals and the mean to begin with.
            warm: the mean is a warm start.
        """
        return cast("StateT", start)

    @abstractmethod
    def _sample(self, state: StateT, rng: np.random.Generator, final: bool) -> FloatArray:
        """Samples [num_candidates or fewer, horizon, A]; they may lie outside the bounds.

        Args:
            state: not to be changed.
            rng: the random numbers of this iteration.
            final: it is the last time.
        """

    @abstractmethod
    def _update(self, state: StateT, scored: ScoredCandidates) -> StateT:
        """The state with the algorithm's own fields and ``mean`` moved; the rest is left alone.

        Is called even where no cost is finite.
        """


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


def checked_costs(candidates: FloatArray, costs: ArrayLike) -> NDArray[np.float64]:
    """Costs [K] as float64 with NaN (and minus infinity) turned into infinity."""
    array = np.array(costs, dtype=np.float64)
    if array.shape != (len(candidates),):
        raise V2WError("costs", f"one for each of {len(candidates)} candidates", array.shape)
    array[~np.isfinite(array)] = np.inf
    return array


def full_ranking(costs: NDArray[np.float64], ranking: ArrayLike | None) -> NDArray[np.intp]:
    """Indices of the finite costs [K], lowest first, and then those of the ranking without one."""
    order = np.argsort(costs, kind="stable")
    order = order[np.isfinite(costs[order])]
    if ranking is None:
        return order
    given = np.asarray(ranking)
    known = set(range(len(costs)))
    if given.ndim != 1 or len(set(given.tolist())) != given.size or not known.issuperset(given):
        rule = f"some of the indices 0 to {len(costs) - 1}, each once"
        raise V2WError("ranking", rule, given.tolist())
    given = given.astype(np.intp)
    return np.concatenate([order, given[~np.isfinite(costs[given])]])


def shift(sequence: ArrayLike, num_steps: int, fill: ArrayLike | None = None) -> FloatArray:
    """A plan [horizon, A] after its first ``num_steps`` actions were executed.

    The end is filled with ``fill`` [A], or with the last action repeated.
    """
    array = np.asarray(sequence, dtype=np.float32)
    num_steps = min(max(num_steps, 0), len(array))
    last = array[-1] if fill is None else np.asarray(fill, dtype=np.float32)
    return np.concatenate([array[num_steps:], np.broadcast_to(last, (num_steps, array.shape[1]))])
