"""Drives plans: velocity commands from activation to deactivation, ended by a stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from rclpy.duration import Duration

from v2w.navigation.trajectory_tracker import STOP, TrackerConfig, VelocityTracker

if TYPE_CHECKING:
    from v2w.navigation.planning import PlanningCore
    from v2w.nodes.planner_node import PlannerNode

#: How long subscribers may take to confirm the last command [s].
LAST_COMMAND_S = 0.5


class Driver:
    """What one activation of the node drives.

    Commands come from a timer, plans from the thread of the model, and the end from that of the
    lifecycle: whatever is decided and published here is under one lock, so that nothing follows
    the stop of :meth:`close`, not even of a plan that was begun before.
    """

    def __init__(self, node: PlannerNode, core: PlanningCore) -> None:
        self._node, self._core = node, core
        self._tracker = VelocityTracker(node.model.config.action, self._config())
        self._lock = threading.Lock()
        self._closed = False

    def follow(self, actions: Any, pose: tuple[float, float, float]) -> None:
        """Drive these actions [n, A] from ``pose`` on; nothing after :meth:`close`."""
        with self._lock:
            if self._closed:
                return
            self._core.sent(pose, actions)
            self._tracker.follow(actions, pose, self._node.now_ns)
            self._node.report_executing(True)

    def stop(self, reason: str) -> None:
        """Give up what is driven; the command that says so is published now."""
        with self._lock:
            if not self._closed and self._tracker.active:
                self._tracker.stop(reason)
                self._command()

    def close(self) -> None:
        """The last word: zero if anything was driven, and no command after it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._tracker.active:
                self._node.publish_twist(STOP)
                self._node.cmd_vel.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))
            self._node.report_executing(False)

    def tick(self) -> None:
        """Called at the rate of the commands."""
        with self._lock:
            if not self._closed:
                self._command()

    def _command(self) -> None:
        node, tracker = self._node, self._tracker
        if not node.get_parameter("publish_velocity").value:
            tracker.stop("publish_velocity was switched off")
        tracker.config = self._config()
        newest = node.history.newest_pose()
        stamp, pose = (0, None) if newest is None else newest
        planar = None if pose is None else (pose[0], pose[1], pose[3])
        twist = tracker.command(node.now_ns, planar, stamp)
        if twist is not None:
            node.publish_twist(twist)
        if tracker.finished and planar is not None:
            tracker.finished = False
            self._core.executed(planar)
        if tracker.stopped_because:
            node.get_logger().warning(f"stopped: {tracker.stopped_because}")
            tracker.stopped_because = ""
        node.report_executing(tracker.active)

    def _config(self) -> TrackerConfig:
        names = ("tracking_gain", "odometry_timeout", "settle_time")
        return TrackerConfig(*(self._node.get_parameter(name).value for name in names))
