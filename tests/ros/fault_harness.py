"""What the fault tests share: a planner that drives, and ways to break it and its robot."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from base_robot import BaseRobot
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import Nodes, pose_goal, wait_for
from v2w_msgs.action import Plan as PlanAction

from v2w.messages import conversions
from v2w.messages.images import compressed_message

NAME = "planner_node"
#: What a busy machine may add to the times that are asked for [s].
LATE_S = 0.25
PERIOD_S, FRAME_S = 0.05, 1.0 / 30.0
AHEAD = pose_goal(5.0, 0.0, frame_id="base_link")
PICTURE = compressed_message(np.full((32, 32, 3), 90, np.uint8), AHEAD.header)
#: Such a plan ends by its time or by being given up.
LONG = {"goal_pose": AHEAD, "num_iterations": 1000, "num_candidates": 1024}
#: Parameters of a planner that drives the plans of the tiny model.
DRIVES = {
    "device": "cpu", "horizon": 8, "execute_steps": 8, "num_candidates": 32, "num_iterations": 3,
    "publish_velocity": True, "status_period": 0.2, "max_history_age": 2.0,
}  # fmt: skip


def fine(robot: BaseRobot) -> bool:
    robot.ready()
    return all(line.partition(": ")[2].startswith("OK") for line in robot.status.checks)


def send(robot: BaseRobot, on_feedback: Callable[[Any], None] | None = None, **goal: Any) -> Any:
    """(handle, future of the result) of an accepted goal."""
    assert robot.client.wait_for_server(20.0)
    future = robot.client.send_goal_async(PlanAction.Goal(**goal), feedback_callback=on_feedback)
    wait_for(future.done, 20.0, "the goal to be accepted")
    return future.result(), future.result().get_result_async()


def drives(robot: BaseRobot, metres: float = 0.1, **goal: Any) -> tuple[Any, Any]:
    """Drive ahead; returns as soon as it has gone some way."""
    for _ in range(3):  # a busy machine may stop it before
        here = robot.true_pose.copy()
        handle, result = send(robot, **(goal or {"goal_pose": AHEAD}))
        wait_for(
            lambda h=here, r=result: (
                r.done() or (robot.moving and math.dist(robot.true_pose[:2], h[:2]) > metres)
            ),
            20.0,
            "driving",
        )
        if not result.done():
            return handle, result
        time.sleep(1.0)  # what was wrong leaves the history
        wait_for(lambda: fine(robot), 20.0, "all checks")
    raise AssertionError(result.result().result.error_msg)


def ended(result: Any, timeout_s: float = 20.0) -> Any:
    wait_for(result.done, timeout_s, "the result")
    return result.result()


def set_parameter(robot: BaseRobot, name: str, value: Any) -> None:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    result = robot.call(SetParameters, f"{NAME}/set_parameters", request).results[0]
    assert result.successful, result.reason


def report(what: str, measured: tuple[float, float]) -> None:
    print(f"FAULT {what}: zero after {measured[0]:.3f} s, {measured[1]:.3f} m")


def loses_camera(robot: BaseRobot) -> None:
    robot.change_image = lambda message: False


def shifts(robot: BaseRobot, x: float = 0.0, yaw: float = 0.0) -> None:
    def change(message: Odometry) -> None:
        ox, oy, _, oyaw = conversions.planar_pose(message.pose.pose)
        message.pose.pose = conversions.pose_message(ox + x, oy, oyaw + yaw)

    robot.change_odometry = change


def suspends(nodes: Nodes) -> None:
    """The planner stands still for a second."""
    nodes.processes[NAME].send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    nodes.processes[NAME].send_signal(signal.SIGCONT)
