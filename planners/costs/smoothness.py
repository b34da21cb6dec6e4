"""Changes of the action from step to step, and effort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planners.costs.base import CostContext, Costs
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class Smoothness:
    """Mean squared change between steps, relative to half the range of each bound.

    0 for a constant sequence, 4 for one that jumps from bound to bound at every step. The step
    from the action before (``context.previous_action``) counts where that is known.

    Args:
        effort: weight of the mean squared distance from the action nearest to zero.
    """

    effort: float = 0.0

    def __post_init__(self) -> None:
        if self.effort < 0:
            raise V2WError("Smoothness.effort", "at least 0", self.effort)

    @property
    def needs_rollouts(self) -> bool:
        return False

    def __call__(self, context: CostContext) -> Costs:
        low, high = np.asarray(context.spec.low), np.asarray(context.spec.high)
        half_range = (high - low) / 2
        actions = context.candidates.astype(np.float64)
        series = actions
        if context.previous_action is not None:
            before = np.broadcast_to(context.previous_action, actions[:, :1].shape)
            series = np.concatenate([before, actions], axis=1)
        cost = np.zeros(context.num_candidates)
        if series.shape[1] > 1:
            cost += np.square(np.diff(series, axis=1) / half_range).mean(axis=(1, 2))
        if self.effort:
            rest = np.clip(0.0, low, high)
            cost += self.effort * np.square((actions - rest) / half_range).mean(axis=(1, 2))
        return cost
