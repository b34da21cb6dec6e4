"""Blocked motion: where a command did not get the robot, the next plan does not lead.

The model was trained on displacements that happened, so it imagines a way through a wall. Odometry
knows better as soon as one command was blocked, and remembers it for this drive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import Cost, CostContext, Costs, WeightedSum
from planners.protocols import Pose
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions, relative_motion

#: A command counts as blocked when it was longer than this (m) ...
LEAST_M = 0.1
#: ... and more than this share of it is missing.
BLOCKED_SHARE = 0.5
#: The newest places that are remembered.
MOST_PLACES = 256
#: Cost of a way through a wall that was touched: more than any goal is worth (metres, views).
WALL = 10.0


@dataclass(frozen=True)
class BlockedMotion:
    """1 for a sequence that leads on where the robot was blocked, 0 for one that does not.

    Args:
        places: [N, 3]: where the robot was stopped (x m, y m) and in which direction it could not
            go on (rad), in the current body frame.
        half_width_m: how far to either side the wall is believed to go on.
        depth_m: how far beyond the cost is 1; it rises from 0.
    """

    places: NDArray[np.float64]
    half_width_m: float = 0.35
    depth_m: float = 0.1

    def __post_init__(self) -> None:
        if self.places.ndim != 2 or self.places.shape[1] != 3:
            raise V2WError("BlockedMotion.places", "shape [N, 3]", self.places.shape)

    @property
    def needs_rollouts(self) -> bool:
        return False

    def __call__(self, context: CostContext) -> Costs:
        if not len(self.places):
            return np.zeros(context.num_candidates)
        path = context.poses[:, 1:, None, :2] - self.places[:, :2]  # [K, horizon, N, 2]
        cosine, sine = np.cos(self.places[:, 2]), np.sin(self.places[:, 2])
        ahead = path[..., 0] * cosine + path[..., 1] * sine
        beside = np.abs(path[..., 1] * cosine - path[..., 0] * sine)
        depth = np.where(beside < self.half_width_m, ahead, 0.0).max(axis=(1, 2))
        return np.asarray(np.clip(depth / self.depth_m, 0.0, 1.0), dtype=np.float64)


@dataclass
class BlockedMotionMemory:
    """What one drive has learned of walls. All poses (x m, y m, yaw rad) in one fixed frame.

    Attributes:
        places: where commands were blocked and in which direction (x, y, rad).
    """

    places: list[NDArray[np.float64]] = field(default_factory=list)
    _sent: tuple[Pose, NDArray[np.floating]] | None = None

    def sent(self, pose: Pose, actions: NDArray[np.floating]) -> None:
        """Planar displacements [n, 3] that the robot was commanded to make from ``pose``."""
        self._sent = pose, np.asarray(actions)

    def forget_sent(self) -> None:
        """What was sent last was not executed to its end: it tells nothing."""
        self._sent = None

    def executed(self, pose: Pose) -> None:
        """What was sent last has been executed and the robot stands at ``pose``."""
        sent, self._sent = self._sent, None
        place = None if sent is None else blocked(*sent, pose)
        if place is not None:
            self.places.append(place)
            del self.places[:-MOST_PLACES]

    def added_to(self, cost: Cost, pose: Pose, weight: float = WALL) -> Cost:
        """The cost of a plan from ``pose``; ways through a touched wall cost ``weight`` more."""
        if not self.places:
            return cost
        places = np.asarray(relative_motion(pose, np.stack(self.places)), dtype=np.float64)
        return WeightedSum({"goal": (1.0, cost), "blocked_motion": (weight, BlockedMotion(places))})


def blocked(before: Pose, commanded: NDArray[np.floating], now: Pose) -> NDArray[np.float64] | None:
    """Where and in which direction (x, y, rad) the commands were blocked; None: they were not.

    The direction is that of the missing motion: of a robot that slides along a wall, it is the
    wall's normal, so that the way along the wall stays open.

    Args:
        before, now: poses around the commands, in one fixed frame.
        commanded: planar displacements [n, 3] of the body frame.
    """
    wanted = integrate_actions(commanded, before)[-1]
    commanded_m = float(np.hypot(wanted[0] - before[0], wanted[1] - before[1]))
    x, y = wanted[0] - now[0], wanted[1] - now[1]
    if commanded_m < LEAST_M or np.hypot(x, y) <= BLOCKED_SHARE * commanded_m:
        return None
    return np.array([now[0], now[1], np.arctan2(y, x)])
