"""Follows plans with velocity commands until the node is deactivated, then stops. Knows no ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from numpy.typing import ArrayLike

from v2w.navigation.trajectory_tracker import STOP, TrackerConfig, TrajectoryTracker, Twist

if TYPE_CHECKING:
    from v2w.navigation.planning import PlanningCore

#: A plan that was given up for this reason led into something: the drive learns from it.
BLOCKED = "moving as commanded"


class CommandOutput(Protocol):
    """Where velocity commands go: :class:`~v2w.safety.supervisor.SafetySupervisor`."""

    def publish(self, twist: Twist) -> str | None:
        """Send one command: (m/s, m/s, rad/s) in the body frame.

        Returns:
            Why a stop was sent instead, so that the plan must be given up; else nothing.
        """

    def publish_last(self, twist: Twist) -> None:
        """Send a command, and wait a little until its receivers have confirmed it."""

    def report_executing(self, executing: bool) -> None:
        """Say whether a plan is being driven."""

    def report_stop(self, reason: str) -> None:
        """Say why a plan was given up."""


class PoseSource(Protocol):
    """Where the newest pose comes from."""

    def newest_pose(self) -> tuple[int, tuple[float, float, float, float]] | None:
        """(when it came, by the follower's clock [ns], (x, y, z, yaw)), or None."""


class Motion:
    """The driving of one plan.

    Attributes:
        ended: set when the robot was told to stop, and no command for this plan follows.
        reason: why it was given up before its end; empty when it was not.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.reason = ""

    def end(self, reason: str = "") -> None:
        """Note that it has ended; only the first reason counts."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()


class PlanFollower:
    """Drives the plans of one activation of the node.

    :meth:`tick` is called by a timer, :meth:`follow` by the thread of the model, and :meth:`close`
    by that of the lifecycle. One lock is around whatever they decide and send, so that no command
    follows the stop of :meth:`close`, not even that of a plan that was begun before.

    Args:
        tracker: turns plans into commands.
        poses: has the newest pose of the robot.
        core: learns from what was driven.
        clock: the time now [ns], by a clock that is never set.
        output: gets the commands.
    """

    def __init__(
        self,
        tracker: TrajectoryTracker,
        poses: PoseSource,
        core: PlanningCore,
        clock: Callable[[], int],
        output: CommandOutput,
    ) -> None:
        self._tracker, self._poses, self._core = tracker, poses, core
        self._clock, self._output = clock, output
        self._lock = threading.Lock()
        self._closed = False
        self._motion = Motion()
        self._motion.end()

    def follow(
        self, actions: ArrayLike, pose: tuple[float, float, float], steps_done: float = 0.0
    ) -> Motion:
        """Drive actions [n, A] from ``pose`` (x m, y m, yaw rad) on; nothing after close.

        Args:
            steps_done: how many of them lie behind the robot already.
        """
        motion = Motion()
        with self._lock:
            if self._closed:
                motion.end("the node was deactivated")
                return motion
            self._motion.end("pre-empted: another plan is driven")
            self._motion = motion
            self._core.sent(pose, actions)
            self._tracker.follow(actions, pose, self._clock(), steps_done)
            self._output.report_executing(True)
        return motion

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

    def stop(self, reason: str, motion: Motion | None = None) -> bool:
        """Give up the plan that is being driven; the stop is sent now.

        Args:
            motion: only if this is what is being driven; None: whatever it is.

        Returns:
            Whether something was driven.
        """
        with self._lock:
            if self._closed or not self._tracker.active:
                return False
            if motion is not None and motion is not self._motion:
                return False
            self._tracker.stop(reason)
            self._command()
            return True

    @property
    def active(self) -> bool:
        """Whether a plan is being driven."""
        return self._tracker.active

    def close(self) -> None:
        """Send a stop if a plan is being driven, and no command after it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._tracker.active:
                self._output.publish_last(STOP)
            self._output.report_executing(False)
            self._motion.end("the node was deactivated")

    def _command(self) -> None:
        tracker, output = self._tracker, self._output
        newest = self._poses.newest_pose()
        arrived_ns, pose = (0, None) if newest is None else newest
        planar = None if pose is None else (pose[0], pose[1], pose[3])
        twist = tracker.command(self._clock(), planar, arrived_ns)
        if twist is not None:
            refused = output.publish(twist)
            if refused:  # the stop that the tracker asks for now is sent already
                tracker.stop(refused)
                tracker.command(self._clock(), planar, arrived_ns)
        reason, finished = tracker.stopped_because, tracker.finished
        tracker.stopped_because, tracker.finished = "", False
        if planar is not None and (finished or reason.startswith(BLOCKED)):
            self._core.executed(planar)
        if reason:
            output.report_stop(reason)
        if not tracker.active:
            self._motion.end(reason)
        output.report_executing(tracker.active)
