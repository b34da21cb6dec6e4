"""The cross-entropy method with noise coloured in time, elites that are kept and a population that
shrinks (after iCEM)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planners.optimizers.base import Optimizer, OptimizerState, ScoredCandidates
from planners.optimizers.noise import coloured_noise
from planners.protocols import FloatArray
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class CEMState(OptimizerState):
    """Gaussian ``mean`` and ``std`` [horizon, A], and the elites [E, horizon, A] with costs [E].

    Elites compete again in the next iteration with the costs they have: nothing is scored twice.
    One that has none, because it was only looked at coarsely, counts once.
    """

    std: FloatArray
    elites: FloatArray
    elite_costs: NDArray[np.float64]


@dataclass(frozen=True)
class CEM(Optimizer[CEMState]):
    """Samples around a mean, moves it to the cheapest samples, narrows.

    Args:
        elite_fraction: share of ``num_candidates`` that the next mean is made of.
        noise_exponent: colour of the noise, 0 white .. 3 almost constant sequences.
        initial_std: first standard deviation, as a fraction of half the range of each bound.
        warm_std: the same when a warm start is given.
        min_std: the standard deviation never falls below this fraction of half the range.
        momentum: share of the old mean and deviation in the new ones.
        population_decay: below 1, the first iteration asks ``num_candidates`` and each later one
            this share of the one before, but not fewer than there are elites: the distribution is
            narrow by then.
    """

    elite_fraction: float = 0.2
    noise_exponent: float = 2.5
    initial_std: float = 0.6
    warm_std: float = 0.5
    min_std: float = 0.03
    momentum: float = 0.1
    population_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.elite_fraction <= 1:
            raise V2WError("CEM.elite_fraction", "above 0, at most 1", self.elite_fraction)
        if not 0 <= self.momentum < 1:
            raise V2WError("CEM.momentum", "at least 0, below 1", self.momentum)
        if not 0 < self.population_decay <= 1:
            raise V2WError("CEM.population_decay", "above 0, at most 1", self.population_decay)
        for name in ("initial_std", "warm_std", "min_std"):
            if getattr(self, name) <= 0:
                raise V2WError(f"CEM.{name}", "a positive number", getattr(self, name))

    def _start(self, start: OptimizerState, *, warm: bool) -> CEMState:
        fraction = self.warm_std if warm else self.initial_std
        return CEMState(
            **vars(start),
            std=np.broadcast_to(fraction * start.bounds.half_range, start.mean.shape).copy(),
            elites=np.zeros((0, *start.mean.shape), dtype=np.float32),
            elite_costs=np.zeros(0),
        )

    def _sample(self, state: CEMState, rng: np.random.Generator, final: bool) -> FloatArray:
        decayed = round(state.num_candidates * self.population_decay**state.iteration)
        shape = (max(decayed, self._num_elites(state)), state.horizon, state.bounds.dim)
        return state.mean + state.std * coloured_noise(rng, *shape, self.noise_exponent)

    def _update(self, state: CEMState, scored: ScoredCandidates) -> CEMState:
        pool = np.concatenate([state.elites, scored.candidates])
        pool_costs = np.concatenate([state.elite_costs, scored.costs])
        num_elites = self._num_elites(state)
        order = np.argsort(pool_costs, kind="stable")[:num_elites]
        order = order[np.isfinite(pool_costs[order])]
        unscored = scored.candidates[scored.unscored[: num_elites - len(order)]]
        elites, mean, std = np.concatenate([pool[order], unscored]), state.mean, state.std
        if len(elites):
            keep = np.float32(self.momentum)
            floor = self.min_std * state.bounds.half_range
            mean = keep * mean + (1 - keep) * elites.mean(axis=0)
            if len(elites) > 1:
                std = keep * std + (1 - keep) * elites.std(axis=0)
            std = np.maximum(std, floor)
        return replace(
            state,
            mean=mean.astype(np.float32),
            std=std.astype(np.float32),
            elites=pool[order],
            elite_costs=pool_costs[order],
        )

    def _num_elites(self, state: CEMState) -> int:
        return max(1, round(self.elite_fraction * state.num_candidates))
