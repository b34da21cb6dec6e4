"""Model predictive path integral: a softly weighted mean of the candidates instead of elites."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from planners.bounds import Bounds
from planners.optimizers.base import (
    OptimizerState,
    best_of,
    checked_costs,
    generator,
    place_known,
    start_values,
)
from planners.optimizers.noise import coloured_noise
from planners.protocols import FloatArray
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class MPPIState(OptimizerState):
    """Gaussian ``mean`` [horizon, A]; ``std`` [A] shrinks by a fixed factor an iteration."""

    std: FloatArray


@dataclass(frozen=True)
class MPPI:
    """Weights exp(-(cost - lowest) / (temperature * spread of the costs)).

    Args:
        temperature: relative to the standard deviation of the finite costs, so that it holds for
            costs of any unit; small values follow the cheapest candidates only.
        noise_exponent: colour of the noise, 0 white .. 3 almost constant sequences.
        initial_std: first standard deviation, as a fraction of half the range of each bound.
        decay: factor on the standard deviation after each iteration.
    """

    temperature: float = 0.2
    noise_exponent: float = 2.0
    initial_std: float = 0.6
    decay: float = 0.7

    def __post_init__(self) -> None:
        for name in ("temperature", "initial_std", "decay"):
            if getattr(self, name) <= 0:
                raise V2WError(f"MPPI.{name}", "a positive number", getattr(self, name))

    def init(
        self,
        bounds: Bounds,
        horizon: int,
        *,
        num_candidates: int,
        seed: int = 0,
        warm_start: ArrayLike | None = None,
    ) -> MPPIState:
        start = start_values(bounds, horizon, num_candidates, seed, warm_start)
        return MPPIState(**vars(start), std=self.initial_std * bounds.half_range)

    def ask(self, state: MPPIState, *, final: bool = False) -> FloatArray:
        shape = (state.num_candidates, state.horizon, state.bounds.dim)
        noise = coloured_noise(generator(state), *shape, self.noise_exponent)
        return place_known(state, state.mean + state.std * noise, include_mean=True)

    def tell(self, state: MPPIState, candidates: FloatArray, costs: ArrayLike) -> MPPIState:
        new_costs = checked_costs(candidates, costs)
        best_sequence, best_cost = best_of(state, candidates, new_costs)
        mean = state.mean
        finite = np.isfinite(new_costs)
        if finite.any():
            kept, kept_costs = candidates[finite], new_costs[finite]
            scale = self.temperature * max(float(kept_costs.std()), 1e-12)
            weights = np.exp(-(kept_costs - kept_costs.min()) / scale)
            mean = np.tensordot(weights / weights.sum(), kept, axes=1).astype(np.float32)
        return replace(
            state,
            iteration=state.iteration + 1,
            mean=mean,
            std=(self.decay * state.std).astype(np.float32),
            best_sequence=best_sequence,
            best_cost=best_cost,
        )
