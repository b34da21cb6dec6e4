"""watchdog_node: velocity commands pass through it, and the base is stopped when they end.

For a base that keeps the last command. It is a process of its own, so that it outlives a planner
that is killed.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import State, TransitionCallbackReturn

from v2w import parameters
from v2w.nodes import lifecycle
from v2w.nodes.lifecycle import AutostartNode
from v2w.nodes.velocity_publisher import LAST_COMMAND_S
from v2w.safety import limits
from v2w.safety.command_watchdog import CommandWatchdog
from v2w.safety.supervisor import steady_ns

#: How often the node looks whether a command has become too old [s].
LOOK_S = 0.02


class WatchdogNode(AutostartNode):
    """Passes cmd_vel_in_topic on to cmd_vel_topic while it is active."""

    def __init__(self) -> None:
        super().__init__("watchdog_node", parameters.WATCHDOG)
        stamped = self.get_parameter("enable_stamped_cmd_vel").value
        self._kind = TwistStamped if stamped else Twist
        self._output = self.create_publisher(
            self._kind, self.get_parameter("cmd_vel_topic").value, 1
        )
        self._newest: Any = None  # the message that is being passed on
        self._watchdog = CommandWatchdog(self._send, steady_ns, self._timeout_s)
        self._input: Any = None
        # One group, so that a command and the look at its age come one after the other.
        group = self._group = MutuallyExclusiveCallbackGroup()
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOK_S, self._look, callback_group=group, clock=clock)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Subscribe to the commands."""
        self._input = self.create_subscription(
            self._kind, self.get_parameter("cmd_vel_in_topic").value, self._on_command, 1,
            callback_group=self._group,
        )  # fmt: skip
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop the base, and pass nothing on."""
        self._close()
        return super().on_deactivate(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Stop the base, from any state."""
        self._close()
        return super().on_shutdown(state)

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """Stop the base after a transition that failed with an exception."""
        self._close()
        return super().on_error(state)

    def stop_robot(self, reason: str) -> None:
        self._watchdog.end()

    def release(self) -> None:
        """Stop the base, wait a little until it has confirmed that, and destroy the node."""
        if self.context.ok():
            self._close()
        super().release()

    @property
    def _timeout_s(self) -> float:
        return float(self.get_parameter("command_timeout").value)

    def _close(self) -> None:
        given, self._input = self._input, None
        if given is not None:
            self.destroy_subscription(given)
        if self._watchdog.end():
            self._output.wait_for_all_acked(Duration(seconds=LAST_COMMAND_S))

    def _on_command(self, message: Any) -> None:
        if self._input is None:
            return
        twist = message.twist if self._kind is TwistStamped else message
        self._newest = message
        problem = self._watchdog.command((twist.linear.x, twist.linear.y, twist.angular.z))
        if problem:
            self.get_logger().warning(f"stopped: {problem}", throttle_duration_sec=1.0)

    def _look(self) -> None:
        self._watchdog.timeout_s = self._timeout_s
        problem = self._watchdog.look()
        if problem:
            self.get_logger().warning(f"stopped: {problem}")

    def _send(self, twist: limits.Twist) -> None:
        message = self._kind()
        body = message
        if self._kind is TwistStamped:
            message.header.stamp = self.get_clock().now().to_msg()
            message.header.frame_id = self._newest.header.frame_id if self._newest else ""
            body = message.twist
        body.linear.x, body.linear.y, body.angular.z = twist
        self._output.publish(message)


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(WatchdogNode)


if __name__ == "__main__":
    main()
