"""What is remembered of one drive to one goal, from plan to plan."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planners.costs.blocked_motion import BlockedMotionMemory
from planners.costs.visited_views import VisitedViewsMemory
from planners.optimizers.base import shift
from planners.protocols import FloatArray, Pose
from v2w_core.geometry import integrate_actions, wrap_angle
from v2w_core.spec import ActionSpec

#: Metres that a radian counts as, where steps are compared by where they lead.
METRES_A_RADIAN = 0.5


@dataclass
class LastPlan:
    """A plan, and what was executed of it.

    Attributes:
        actions: [horizon, A].
        made_at: by ``time.monotonic`` [s].
        num_sent: of its actions, from the first on, that the robot began to execute.
        path: poses [num_sent + 1, 3] that those lead to, where it stood first; None: unknown.
        is_executed: all that were sent were executed to their end.
    """

    actions: FloatArray
    made_at: float
    num_sent: int = 0
    path: NDArray[np.float64] | None = None
    is_executed: bool = False

    def num_executed(self, pose: Pose | None) -> int:
        """How many of its actions were executed by now.

        Of actions that are being executed, or were given up on the way, it is as many as lead
        nearest to where the robot stands; none where that is not known.
        """
        if self.is_executed or not self.num_sent:
            return self.num_sent
        if self.path is None or pose is None:
            return 0
        away = self.path - np.asarray(pose)
        metres = np.hypot(away[:, 0], away[:, 1])
        return int(np.argmin(metres + METRES_A_RADIAN * np.abs(wrap_angle(away[:, 2]))))


@dataclass
class Drive:
    """One drive to one goal. All poses (x m, y m, yaw rad) are in one fixed frame.

    Another thread than the one that plans may say what was sent and executed.

    Attributes:
        key: what tells goals apart.
        views: what the camera saw on the way.
        blocked_motion: where commands were blocked.
        last_plan: None: there was none, or it is of no use any more.
    """

    key: object = None
    views: VisitedViewsMemory = field(default_factory=VisitedViewsMemory)
    blocked_motion: BlockedMotionMemory = field(default_factory=BlockedMotionMemory)
    last_plan: LastPlan | None = None

    def to(self, key: object) -> Drive:
        """This drive if it leads to that goal; else a new one, which knows nothing yet."""
        return self if key == self.key else Drive(key)

    def planned(self, actions: FloatArray) -> None:
        """A plan [horizon, A] was made; whether it is executed is not known yet."""
        self.last_plan = LastPlan(actions, time.monotonic())

    def sent(self, pose: Pose | None, actions: FloatArray, spec: ActionSpec) -> None:
        """The robot begins to execute these actions [n, A] of the space ``spec`` at ``pose``.

        Where they are the first ones of the last plan, the next plan starts from the rest of it.
        """
        path = None
        if pose is not None and spec.is_planar:
            planar = actions[:, list(spec.planar_indices())]
            self.blocked_motion.sent(pose, planar)
            path = np.asarray(integrate_actions(planar, pose), dtype=np.float64)
        last = self.last_plan
        if last is not None and np.array_equal(last.actions[: len(actions)], actions):
            last.num_sent, last.path, last.is_executed = len(actions), path, False

    def executed(self, pose: Pose | None) -> None:
        """What was sent last has been executed to its end, and the robot stands at ``pose``."""
        if pose is None:
            self.blocked_motion.forget_sent()
        else:
            self.blocked_motion.executed(pose)
        last = self.last_plan
        if last is not None and last.num_sent:
            last.is_executed = True

    def forget_plan(self) -> None:
        """Something else moved the robot: the last plan and what was sent tell nothing."""
        self.last_plan = None
        self.blocked_motion.forget_sent()

    def warm_start(
        self, horizon: int, pose: Pose | None, max_age_s: float
    ) -> NDArray[np.float32] | None:
        """The last plan [horizon, A] without what was executed of it.

        None for a plan of another horizon, or that is older than ``max_age_s``.
        """
        last = self.last_plan
        if last is None or len(last.actions) != horizon:
            return None
        if time.monotonic() - last.made_at > max_age_s:
            return None
        return shift(last.actions, last.num_executed(pose))
