"""Model predictive path integral: a softly weighted mean of the candidates instead of elites."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planners.optimizers.base import Optimizer, OptimizerState, ScoredCandidates
from planners.optimizers.noise import coloured_noise
from planners.protocols import FloatArray
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class MPPIState(OptimizerState):
    """Gaussian ``mean`` [horizon, A]; ``std`` [A] shrinks by a fixed factor an iteration."""

    std: FloatArray


@dataclass(frozen=True)
class MPPI(Optimizer[MPPIState]):
    """Weights exp(-(cost - lowest) / (temperature * spread of the costs)).

    A weight needs a cost: candidates of which only the order is known have none.

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

    def _start(self, start: OptimizerState, *, warm: bool) -> MPPIState:
        return MPPIState(**vars(start), std=self.initial_std * start.bounds.half_range)

    def _sample(self, state: MPPIState, rng: np.random.Generator, final: bool) -> FloatArray:
        shape = (state.num_candidates, state.horizon, state.bounds.dim)
        samples = state.mean + state.std * coloured_noise(rng, *shape, self.noise_exponent)
        samples[0] = state.mean
        return samples

    def _update(self, state: MPPIState, scored: ScoredCandidates) -> MPPIState:
        mean, costs = state.mean, scored.costs
        finite = np.isfinite(costs)
        if finite.any():
            kept, kept_costs = scored.candidates[finite], costs[finite]
            scale = self.temperature * max(float(kept_costs.std()), 1e-12)
            weights = np.exp(-(kept_costs - kept_costs.min()) / scale)
            mean = np.tensordot(weights / weights.sum(), kept, axes=1).astype(np.float32)
        return replace(state, mean=mean, std=(self.decay * state.std).astype(np.float32))
