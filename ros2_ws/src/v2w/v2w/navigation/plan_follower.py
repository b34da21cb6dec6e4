"""Follows plans with velocity commands until the node is deactivated, then stops. Knows no ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from numpy.typing import ArrayLike

from v2w.navigation.sensor_history import HistoryBuffer
from v2w.navigation.trajectory_tracker import STOP, TrackerConfig, TrajectoryTracker, Twist

if TYPE_CHECKING:
    from v2w.navigation.planning import PlanningCore


class VelocityOutput(Protocol):
    """Where velocity commands go."""

    def publish(self, twist: Twist) -> None:
        """Send one command: (m/s, m/s, rad/s) in the body frame."""

    def publish_last(self, twist: Twist) -> None:
        """Send a command, and wait a little until its receivers have confirmed it."""

    def report_executing(self, executing: bool) -> None:
        """Say whether a plan is being driven."""

    def report_stop(self, reason: str) -> None:
        """Say why a plan was given up."""


class PlanFollower:
    """Drives the plans of one activation of the node.

    :meth:`tick` is called by a timer, :meth:`follow` by the thread of the model, and :meth:`close`
    by that of the lifecycle. One lock is around whatever they decide and send, so that no command
    follows the stop of :meth:`close`, not even that of a plan that was begun before.

    Args:
        tracker: turns plans into commands.
        history: has the newest pose of the robot.
        core: learns from what was driven.
        clock: the time now [ns], by the clock of the odometry's stamps.
        output: gets the commands.
    """

    def __init__(
        self,
        tracker: TrajectoryTracker,
        history: HistoryBuffer,
        core: PlanningCore,
        clock: Callable[[], int],
        output: VelocityOutput,
    ) -> None:
        self._tracker, self._history, self._core = tracker, history, core
        self._clock, self._output = clock, output
        self._lock = threading.Lock()
        self._closed = False

    def follow(self, actions: ArrayLike, pose: tuple[float, float, float]) -> None:
        """Drive actions [n, A] from ``pose`` (x m, y m, yaw rad) on; nothing after close."""
        with self._lock:
            if self._closed:
                return
            self._core.sent(pose, actions)
            self._tracker.follow(actions, pose, self._clock())
            self._output.report_executing(True)

    def tick(self, config: TrackerConfig, allowed: bool = True) -> None:
        """Send the command for now; called at the rate of the commands.

        Args:
            config: how to drive from here on.
            allowed: False stops the robot and gives the plan up.
        """
        with self._lock:
            if self._closed:
                return
            self._tracker.config = config
            if not allowed:
                self._tracker.stop("publish_velocity was switched off")
            self._command()

    def stop(self, reason: str) -> None:
        """Give up the plan that is being driven; the stop is sent now."""
        with self._lock:
            if not self._closed and self._tracker.active:
                self._tracker.stop(reason)
                self._command()

    def close(self) -> None:
        """Send a stop if a plan is being driven, and no command after it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._tracker.active:
                self._output.publish_last(STOP)
            self._output.report_executing(False)

    def _command(self) -> None:
        tracker, output = self._tracker, self._output
        newest = self._history.newest_pose()
        stamp, pose = (0, None) if newest is None else newest
        planar = None if pose is None else (pose[0], pose[1], pose[3])
        twist = tracker.command(self._clock(), planar, stamp)
        if twist is not None:
            output.publish(twist)
        if tracker.finished and planar is not None:
            tracker.finished = False
            self._core.executed(planar)
        if tracker.stopped_because:
            output.report_stop(tracker.stopped_because)
            tracker.stopped_because = ""
        output.report_executing(tracker.active)
