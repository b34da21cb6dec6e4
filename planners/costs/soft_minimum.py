"""From a distance at every step to one cost: when along the way should the goal be reached?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import V2WError


@dataclass(frozen=True)
class SoftMinimum:
    """A soft minimum over the steps, with a small weight on where the sequence ends.

    cost = (1 - final_weight) * softmin_t(distance_t) + final_weight * distance_horizon, where
    softmin(d) = -temperature * log(mean(exp(-d / temperature))).

    The goal may be nearer than the horizon, so the best step counts more than the last one. The
    mean inside the logarithm makes a sequence that arrives early and stays cheaper than one that
    arrives at the last step or passes by: a robot that replans does not put its arrival off.

    Args:
        temperature: in units of the distance; towards 0 only the best step counts, towards
            infinity the mean over all steps.
        final_weight: 0 .. 1.
    """

    temperature: float
    final_weight: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise V2WError("SoftMinimum.temperature", "a positive number", self.temperature)
        if not 0 <= self.final_weight <= 1:
            raise V2WError("SoftMinimum.final_weight", "from 0 to 1", self.final_weight)

    def __call__(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Distances [..., horizon] -> costs [...]; NaN stays NaN."""
        values = np.asarray(distances, dtype=np.float64)
        lowest = values.min(axis=-1, keepdims=True)
        weights = np.exp(-(values - lowest) / self.temperature)
        soft = lowest[..., 0] - self.temperature * np.log(weights.mean(axis=-1))
        cost = (1 - self.final_weight) * soft + self.final_weight * values[..., -1]
        return np.asarray(cost, dtype=np.float64)
