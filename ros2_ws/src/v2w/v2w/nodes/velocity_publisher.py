"""Velocity commands on cmd_vel, and on ~/executing whether a plan is being driven."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Bool

from v2w.messages import conversions
from v2w.nodes.diagnostics import LATCHED
from v2w.safety import limits

#: How long subscribers may take to confirm the last command [s].
LAST_COMMAND_S = 0.5


class VelocityPublisher:
    """The output of a :class:`~v2w.safety.supervisor.SafetySupervisor`; nothing else uses it.

    Args:
        node: has the parameters cmd_vel_topic and enable_stamped_cmd_vel.
        base_frame: the body frame, for stamped commands.
    """

    def __init__(self, node: Node, base_frame: Callable[[], str]) -> None:
        self._node, self._base_frame = node, base_frame
        self._stamped = node.get_parameter("enable_stamped_cmd_vel").value
        kind, topic = TwistStamped if self._stamped else Twist, node.get_parameter("cmd_vel_topic")
        self._commands = node.create_publisher(kind, topic.value, 1)
        self._executing = node.create_publisher(Bool, "~/executing", LATCHED)
        self._was_executing: bool | None = None

    def publish(self, twist: limits.Twist) -> None:
        """Publish one command: (m/s, m/s, rad/s) in the body frame."""
        message = Twist()
        message.linear.x, message.linear.y, message.angular.z = twist
        if self._stamped:
            now_ns = int(self._node.get_clock().now().nanoseconds)
            header = conversions.header_message(now_ns, self._base_frame())
            message = TwistStamped(header=header, twist=message)
        self._commands.publish(message)

    def publish_last(self, twist: limits.Twist) -> None:
        """Publish a command, and wait until reliable subscribers have acknowledged it.

        The wait ends after LAST_COMMAND_S whether they have or not.
        """
        self.publish(twist)
        self._commands.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))

    def report_executing(self, executing: bool) -> None:
        """Publish ~/executing when it changes, and the first time."""
        if executing != self._was_executing:
            self._was_executing = executing
            self._executing.publish(Bool(data=executing))

    def report_stop(self, reason: str) -> None:
        """Warn in the log why a plan was given up."""
        self._node.get_logger().warning(f"stopped: {reason}")
