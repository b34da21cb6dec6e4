"""CMA-ES (pycma) as one of the optimisers. Needs the package ``cma``."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planners.optimizers.base import Optimizer, OptimizerState, ScoredCandidates
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
class CMAES(Optimizer[CMAState]):
    """Adapts a full covariance over horizon * A numbers: for many iterations, not for three.

    Args:
        initial_std: first step size, as a fraction of half the range of each bound.
    """

    initial_std: float = 0.5

    def _start(self, start: OptimizerState, *, warm: bool) -> CMAState:
        try:
            import cma
        except ImportError as error:
            raise V2WError("optimizer", "cma_es needs: pip install cma", str(error)) from error
        bounds = start.bounds
        if start.mean.size == 1:
            raise V2WError("optimizer", "cma_es needs at least two numbers to choose", 1)
        options = {
            "bounds": [-1.0, 1.0],
            "popsize": max(start.num_candidates, 2),
            "randn": _Normal(start.seed),
            "seed": np.nan,
            "verbose": -9,
            "tolflatfitness": 10**6,
        }
        origin = np.clip((start.mean - bounds.centre) / bounds.half_range, -0.95, 0.95)
        strategy = cma.CMAEvolutionStrategy(origin.ravel(), self.initial_std, options)
        return CMAState(**vars(start), strategy=strategy)

    def _sample(self, state: CMAState, rng: np.random.Generator, final: bool) -> FloatArray:
        _, points = _asked(state)  # with random numbers of the strategy's own
        points = points[: state.num_candidates]
        shape = (len(points), state.horizon, state.bounds.dim)
        samples = state.bounds.centre + state.bounds.half_range * points.reshape(shape)
        return samples.astype(np.float32)

    def _update(self, state: CMAState, scored: ScoredCandidates) -> CMAState:
        costs, candidates = scored.costs, scored.candidates
        finite = costs[np.isfinite(costs)]
        if not len(finite):
            return state
        strategy, points = _asked(state)
        # only the order counts: behind those with a cost the others that are ranked, then the rest
        unscored, highest = scored.unscored, float(finite.max())
        padded = np.full(len(points), highest + len(unscored) + 1.0)
        padded[: len(costs)][np.isfinite(costs)] = finite
        padded[unscored] = highest + 1.0 + np.arange(len(unscored))
        centre, half = state.bounds.centre, state.bounds.half_range
        flat = np.clip((candidates - centre) / half, -1.0, 1.0).reshape(len(candidates), -1)
        moved = np.abs(flat - points[: len(flat)]).max(axis=1) > 1e-3
        told = [flat[i] if i < len(flat) and moved[i] else p for i, p in enumerate(points)]
        strategy.tell(told, padded.tolist())
        favourite = np.asarray(strategy.result.xfavorite).reshape(state.mean.shape)
        return replace(
            state, strategy=strategy, mean=(centre + half * favourite).astype(np.float32)
        )


def _asked(state: CMAState) -> tuple[Any, NDArray[np.float64]]:
    """A copy of the strategy that has just asked, and its points [K, horizon * A] in [-1, 1]."""
    strategy = copy.deepcopy(state.strategy)
    return strategy, np.asarray(strategy.ask(), dtype=np.float64)
