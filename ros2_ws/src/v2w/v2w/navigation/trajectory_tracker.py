"""From planned body-frame steps to velocity commands, with a watchdog. Knows no ROS.

A plan is a list of displacements (dx, dy, dyaw), one for each step of ``dt_s``. The tracker holds
the constant twist that makes exactly that displacement, and adds a small correction towards where
the robot should be by now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.geometry import integrate_actions, relative_motion
from v2w_core.spec import ActionSpec

NS = 1_000_000_000
Twist = tuple[float, float, float]
STOP: Twist = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TrackerConfig:
    """How a plan is driven.

    Attributes:
        gain: correction towards the planned pose, 1/s (0: none).
        odometry_timeout_s: without a pose newer than this the robot stops [s].
        settle_s: after the last step, corrections go on for this long, then zeros, then silence.
    """

    gain: float = 1.5
    odometry_timeout_s: float = 0.5
    settle_s: float = 0.5


def twist_of(displacement: ArrayLike, dt_s: float) -> Twist:
    """The constant body twist (m/s, m/s, rad/s) that moves by (dx, dy, dyaw) in ``dt_s``."""
    dx, dy, dyaw = (float(v) for v in np.asarray(displacement, dtype=np.float64))
    half = dyaw / 2.0
    shape = 1.0 - half * half / 3.0 if abs(half) < 1e-4 else half / math.tan(half)
    return (shape * dx + half * dy) / dt_s, (shape * dy - half * dx) / dt_s, dyaw / dt_s


class TrajectoryTracker:
    """One plan at a time; ``command(now)`` is called at a fixed rate.

    Attributes:
        config: may be replaced at any time; the next command follows it.
        stopped_because: why a plan was given up.
        finished: the last plan was driven to its end.
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

    def follow(self, actions: ArrayLike, start_pose: ArrayLike, now_ns: int) -> None:
        """Drive these actions [n, A] from ``start_pose`` (x, y, yaw); step 0 begins now."""
        steps = np.asarray(actions, dtype=np.float64)[:, self._columns]
        self._path = integrate_actions(steps, start_pose)
        self._twists = [twist_of(step, self._dt_s) for step in steps]
        self._start_ns = now_ns
        self.stopped_because = ""
        self.finished = False

    def stop(self, reason: str = "") -> None:
        """Forget the plan; the next command is zero, then silence."""
        if self._path is not None:
            self._path = self._path[:0]
            self.stopped_because = reason

    @property
    def active(self) -> bool:
        return self._path is not None

    def command(self, now_ns: int, pose: ArrayLike | None, pose_ns: int) -> Twist | None:
        """The body twist to publish now, or None when there is nothing to do.

        Args:
            pose: newest (x, y, yaw) of the odometry, or None when there is none.
            pose_ns: its stamp; when it is too old the robot stops and the plan is dropped.
        """
        if self._path is None:
            return None
        if len(self._path) == 0:
            self._path = None
            return STOP
        age_s = (now_ns - pose_ns) / NS
        if pose is None or age_s > self.config.odometry_timeout_s:
            self.stop(f"no odometry for {age_s:.2f} s")
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
        error = relative_motion(pose, self._reference(index, elapsed_s))
        twist = np.asarray(forward) + self.config.gain * error
        limited = np.clip(twist, self._low, self._high)
        return float(limited[0]), float(limited[1]), float(limited[2])

    def _reference(self, index: int, elapsed_s: float) -> NDArray[np.float64]:
        """Where the plan is at ``elapsed_s``: (x, y, yaw) along the twist of its step."""
        assert self._path is not None
        share = min(elapsed_s - index * self._dt_s, self._dt_s)
        vx, vy, wz = self._twists[index]
        turn = wz * share
        half = turn / 2.0
        chord = share if abs(half) < 1e-6 else share * math.sin(half) / half
        cos, sin = math.cos(half), math.sin(half)
        step = (chord * (cos * vx - sin * vy), chord * (sin * vx + cos * vy), turn)
        return np.asarray(integrate_actions(np.asarray([step]), self._path[index])[-1])
