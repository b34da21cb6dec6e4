"""From planned body-frame steps to velocity commands, with a watchdog. Knows no ROS.

A plan is a list of displacements (dx, dy, dyaw), one for each step of ``dt_s``. During a step the
tracker commands the constant twist that makes exactly that displacement, and adds a small
correction towards where the robot should be by now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w.safety.limits import STOP, Twist
from v2w_core.geometry import integrate_actions, relative_motion
from v2w_core.spec import ActionSpec

__all__ = ["NS", "STOP", "TrackerConfig", "TrajectoryTracker", "Twist", "twist_of"]

NS = 1_000_000_000
#: How much of an error to the side a base that cannot go sideways steers against [rad/m].
STEERING = 2.0


@dataclass(frozen=True)
class TrackerConfig:
    """How a plan is driven.

    Attributes:
        gain: correction towards the planned pose [1/s]; 0 for none.
        odometry_timeout_s: without a pose newer than this the robot stops [s].
        settle_s: how long corrections go on after the last step [s]; then one zero command is
            given, and none after it.
        max_deviation_m: further from where it should be the plan is given up [m].
        holonomic: the base can go sideways; one that cannot steers instead.
    """

    gain: float = 1.5
    odometry_timeout_s: float = 0.5
    settle_s: float = 0.5
    max_deviation_m: float = math.inf
    holonomic: bool = True


def twist_of(displacement: ArrayLike, dt_s: float) -> Twist:
    """The constant body twist (m/s, m/s, rad/s) that moves by (dx, dy, dyaw) in ``dt_s``."""
    dx, dy, dyaw = (float(v) for v in np.asarray(displacement, dtype=np.float64))
    half = dyaw / 2.0
    shape = 1.0 - half * half / 3.0 if abs(half) < 1e-4 else half / math.tan(half)
    return (shape * dx + half * dy) / dt_s, (shape * dy - half * dx) / dt_s, dyaw / dt_s


class TrajectoryTracker:
    """Tracks one plan at a time; :meth:`command` is called at a fixed rate.

    Args:
        action: the action space, which must be planar; its bounds limit the commands.
        config: how plans are driven.

    Attributes:
        config: may be replaced at any time; the next command follows it.
        stopped_because: why the last plan was given up; empty when it was not.
        finished: whether the last plan was driven to its end.
    """

    def __init__(self, action: ActionSpec, config: TrackerConfig) -> None:
        self.config = config
        self._columns = list(action.planar_indices())
        self._dt_s = action.dt_s
        low = np.minimum(np.asarray(action.low)[self._columns], 0.0)
        high = np.maximum(np.asarray(action.high)[self._columns], 0.0)
        self._low, self._high = low / action.dt_s, high / action.dt_s
        self._path: NDArray[np.float64] | None = None
        self._twists: list[Twist] = []
        self._start_ns = 0
        self.stopped_because = ""
        self.finished = False

    def follow(
        self, actions: ArrayLike, start_pose: ArrayLike, now_ns: int, steps_done: float = 0.0
    ) -> None:
        """Begin a plan.

        Args:
            actions: [n, A] in physical units.
            start_pose: (x m, y m, yaw rad) where the plan begins, in the odometry frame.
            now_ns: the time now, by a clock that is never set [ns].
            steps_done: how many steps, and parts of one, lie behind the robot already.
        """
        steps = np.asarray(actions, dtype=np.float64)[:, self._columns]
        self._path = integrate_actions(steps, start_pose)
        self._twists = [twist_of(step, self._dt_s) for step in steps]
        self._start_ns = now_ns - round(steps_done * self._dt_s * NS)
        self.stopped_because = ""
        self.finished = False

    def stop(self, reason: str = "") -> None:
        """Forget the plan; the next command is zero, then silence."""
        if self._path is not None:
            self._path = self._path[:0]
            self.stopped_because = reason

    @property
    def active(self) -> bool:
        """Whether there is a plan that is not ended by its last, zero command yet."""
        return self._path is not None

    def command(self, now_ns: int, pose: ArrayLike | None, pose_ns: int) -> Twist | None:
        """The body twist (m/s, m/s, rad/s) to publish now, or None when there is nothing to do.

        Args:
            now_ns: the time now, by the clock of ``follow`` [ns].
            pose: newest (x m, y m, yaw rad) of the odometry, or None when there is none.
            pose_ns: when it came, by the same clock [ns]; when that is too long ago the robot stops
                and the plan is dropped.
        """
        if self._path is None:
            return None
        if len(self._path) == 0:
            self._path = None
            return STOP
        missing = self._missing_odometry(now_ns, pose, pose_ns)
        if missing or pose is None:
            self.stop(missing)
            self._path = None
            return STOP
        elapsed_s = (now_ns - self._start_ns) / NS
        if elapsed_s < 0.0:
            self.stop("time jumped backwards")
            self._path = None
            return STOP
        total_s = len(self._twists) * self._dt_s
        if elapsed_s >= total_s + self.config.settle_s:
            self._path = None
            self.finished = True
            return STOP
        index = min(int(elapsed_s / self._dt_s), len(self._twists) - 1)
        forward = self._twists[index] if elapsed_s < total_s else STOP
        error = np.asarray(relative_motion(pose, self._reference(index, elapsed_s)))
        off_m = math.hypot(error[0], error[1])
        if not off_m <= self.config.max_deviation_m:
            self.stop(
                f"moving as commanded: {off_m:.2f} m from where the plan should have led by now"
            )
            self._path = None
            return STOP
        if not self.config.holonomic:
            error = np.array([error[0], 0.0, error[2] + STEERING * error[1] * np.sign(forward[0])])
        twist = np.asarray(forward) + self.config.gain * error
        limited = np.clip(twist, self._low, self._high)
        return float(limited[0]), float(limited[1]), float(limited[2])

    def _missing_odometry(self, now_ns: int, pose: ArrayLike | None, pose_ns: int) -> str:
        """Why the odometry is not good enough to drive by; empty when it is."""
        if pose is None:
            return "no odometry at all since the node was activated, or since time jumped"
        age_s = (now_ns - pose_ns) / NS
        return f"no odometry for {age_s:.2f} s" if age_s > self.config.odometry_timeout_s else ""

    def _reference(self, index: int, elapsed_s: float) -> NDArray[np.float64]:
        """Where the robot should be at ``elapsed_s``: (x, y, yaw) along the twist of its step."""
        assert self._path is not None
        share = min(elapsed_s - index * self._dt_s, self._dt_s)
        vx, vy, wz = self._twists[index]
        turn = wz * share
        half = turn / 2.0
        chord = share if abs(half) < 1e-6 else share * math.sin(half) / half
        cos, sin = math.cos(half), math.sin(half)
        step = (chord * (cos * vx - sin * vy), chord * (sin * vx + cos * vy), turn)
        return np.asarray(integrate_actions(np.asarray([step]), self._path[index])[-1])
