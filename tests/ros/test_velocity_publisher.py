"""Velocity commands of the planner: cmd_vel, ~/executing, and the last command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ros_harness import DOMAINS, wait_for
from std_msgs.msg import Bool

from v2w.nodes import velocity_publisher
from v2w.nodes.diagnostics import LATCHED
from v2w.nodes.velocity_publisher import VelocityPublisher


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(DOMAINS))
    node = rclpy.create_node("velocity", context=context)
    node.declare_parameter("cmd_vel_topic", "base/cmd_vel")
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def received(node: Node, enough: Callable[[], Any]) -> None:
    """Spins until there is enough."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spun() -> Any:
        executor.spin_once(0.02)
        return enough()

    wait_for(spun, 20.0, "messages")
    executor.shutdown()


@pytest.mark.parametrize("stamped", [False, True])
def test_commands_and_whether_a_plan_is_driven(node: Node, stamped: bool) -> None:
    node.declare_parameter("enable_stamped_cmd_vel", stamped)
    commands: list[Any] = []
    executing: list[bool] = []
    kind = TwistStamped if stamped else Twist
    node.create_subscription(kind, "base/cmd_vel", commands.append, 10)
    node.create_subscription(
        Bool, "velocity/executing", lambda m: executing.append(m.data), LATCHED
    )
    output = VelocityPublisher(node, lambda: "base_footprint")
    wait_for(lambda: node.count_subscribers("base/cmd_vel"), 20.0, "discovery")
    output.report_executing(True)
    output.report_executing(True)
    output.publish((0.5, -0.25, 0.125))
    received(node, lambda: commands and executing)
    twist = commands[0].twist if stamped else commands[0]
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.5, -0.25, 0.125)
    if stamped:
        assert commands[0].header.frame_id == "base_footprint"
    assert executing == [True]
    output.report_executing(False)
    received(node, lambda: len(executing) == 2)
    assert executing == [True, False]


def test_the_last_command_is_waited_for(node: Node) -> None:
    node.declare_parameter("enable_stamped_cmd_vel", False)
    output = VelocityPublisher(node, lambda: "base_link")
    order: list[Any] = []
    output._commands = SimpleNamespace(
        publish=lambda message: order.append(message.linear.x),
        wait_for_all_acked=lambda timeout: order.append(timeout.nanoseconds / 1e9),
    )
    output.publish_last((0.25, 0.0, 0.0))
    assert order == [0.25, velocity_publisher.LAST_COMMAND_S]
