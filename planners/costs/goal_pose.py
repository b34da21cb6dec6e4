"""How far the integrated actions stay from a goal pose; nothing is imagined."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import CostContext, Costs
from planners.costs.soft_minimum import SoftMinimum
from v2w_core.errors import V2WError
from v2w_core.geometry import wrap_angle


@dataclass(frozen=True)
class GoalPose:
    """Distance in metres, plus the yaw error in radians times ``yaw_weight_m``.

    Args:
        goal: (x m, y m, yaw rad) in the current body frame (x forward, y left, yaw to the left).
        yaw_weight_m: metres that one radian of yaw error is worth.
        soft_minimum: how the distances of the steps become one cost.
    """

    goal: tuple[float, float, float]
    yaw_weight_m: float = 0.5
    soft_minimum: SoftMinimum = field(default_factory=lambda: SoftMinimum(temperature=0.2))

    def __post_init__(self) -> None:
        if len(self.goal) != 3 or not np.isfinite(np.asarray(self.goal, dtype=float)).all():
            raise V2WError("GoalPose.goal", "three finite numbers x, y, yaw", self.goal)
        if self.yaw_weight_m < 0:
            raise V2WError("GoalPose.yaw_weight_m", "at least 0", self.yaw_weight_m)

    def distances(self, poses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances [...] of poses [..., 3] in the current body frame."""
        x, y, yaw = self.goal
        metres = np.hypot(poses[..., 0] - x, poses[..., 1] - y)
        radians = np.abs(wrap_angle(poses[..., 2] - yaw))
        return np.asarray(metres + self.yaw_weight_m * radians, dtype=np.float64)

    @property
    def needs_rollouts(self) -> bool:
        return False

    def __call__(self, context: CostContext) -> Costs:
        return self.soft_minimum(self.distances(context.poses[:, 1:]))
