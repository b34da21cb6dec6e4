"""CMA-ES (pycma) behind the same init / ask / tell. Needs the package ``cma``."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planners.bounds import Bounds
from planners.optimizers.base import (
    OptimizerState,
    best_of,
    checked_costs,
    place_known,
    start_values,
)
from planners.protocols import FloatArray
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class CMAState(OptimizerState):
    """``strategy``: pycma's object; it is copied before every use, never changed in place."""

    strategy: Any


class _Normal:
    """Seeded replacement of numpy's global randn; it is copied together with the strategy."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(abs(seed))

    def __call__(self, *shape: int) -> NDArray[np.float64]:
        return self._rng.standard_normal(shape)


@dataclass(frozen=True)
class CMAES:
    """Adapts a full covariance over horizon * A numbers: for many iterations, not for three.

    Args:
        initial_std: first step size, as a fraction of half the range of each bound.
    """

    initial_std: float = 0.5

    def init(
        self,
        bounds: Bounds,
        horizon: int,
        *,
        num_candidates: int,
        seed: int = 0,
        warm_start: ArrayLike | None = None,
    ) -> CMAState:
        try:
            import cma
        except ImportError as error:
            raise V2WError("optimizer", "cma_es needs: pip install cma", str(error)) from error
        if horizon * bounds.dim == 1:
            raise V2WError("optimizer", "cma_es needs at least two numbers to choose", 1)
        start = start_values(bounds, horizon, num_candidates, seed, warm_start)
        options = {
            "bounds": [-1.0, 1.0],
            "popsize": max(num_candidates, 2),
            "randn": _Normal(seed),
            "seed": np.nan,
            "verbose": -9,
            "tolflatfitness": 10**6,
        }
        origin = np.clip((start.mean - bounds.centre) / bounds.half_range, -0.95, 0.95)
        strategy = cma.CMAEvolutionStrategy(origin.ravel(), self.initial_std, options)
        return CMAState(**vars(start), strategy=strategy)

    def ask(self, state: CMAState, *, final: bool = False) -> FloatArray:
        _, points = _asked(state)
        shape = (len(points), state.horizon, state.bounds.dim)
        samples = state.bounds.centre + state.bounds.half_range * points.reshape(shape)
        candidates = place_known(state, samples.astype(np.float32), include_mean=final)
        return candidates[: state.num_candidates]

    def tell(self, state: CMAState, candidates: FloatArray, costs: ArrayLike) -> CMAState:
        new_costs = checked_costs(candidates, costs)
        best_sequence, best_cost = best_of(state, candidates, new_costs)
        finite = new_costs[np.isfinite(new_costs)]
        strategy, mean = state.strategy, state.mean
        if len(finite):
            strategy, points = _asked(state)
            worst = float(finite.max()) + 1.0
            padded = np.full(len(points), worst)
            padded[: len(new_costs)] = np.where(np.isfinite(new_costs), new_costs, worst)
            centre, half = state.bounds.centre, state.bounds.half_range
            flat = np.clip((candidates - centre) / half, -1.0, 1.0).reshape(len(candidates), -1)
            moved = np.abs(flat - points[: len(flat)]).max(axis=1) > 1e-3
            told = [flat[i] if i < len(flat) and moved[i] else p for i, p in enumerate(points)]
            strategy.tell(told, padded.tolist())
            favourite = np.asarray(strategy.result.xfavorite).reshape(state.mean.shape)
            mean = (centre + half * favourite).astype(np.float32)
        return replace(
            state,
            iteration=state.iteration + 1,
            mean=mean,
            strategy=strategy,
            best_sequence=best_sequence,
            best_cost=best_cost,
        )


def _asked(state: CMAState) -> tuple[Any, NDArray[np.float64]]:
    """A copy of the strategy that has just asked, and its points [K, horizon * A] in [-1, 1]."""
    strategy = copy.deepcopy(state.strategy)
    return strategy, np.asarray(strategy.ask(), dtype=np.float64)
