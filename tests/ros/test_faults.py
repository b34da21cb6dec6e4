"""Faults while a plan is driven, or made: the time from the fault to the stop, at the topic."""

from __future__ import annotations

import array
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from base_robot import BaseRobot
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import DOMAINS, Nodes, pose_goal, wait_for
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService

from v2w.demo.action_client import ThreadedActionClient
from v2w.errors import CODES
from v2w.messages import conversions
from v2w.messages.conversions import duration_message
from v2w.messages.images import compressed_message

NAME = "planner_node"
#: What a busy machine may add to the times that are asked for [s].
LATE_S = 0.25
PERIOD_S, FRAME_S = 0.05, 1.0 / 30.0
AHEAD = pose_goal(5.0, 0.0, frame_id="base_link")
PICTURE = compressed_message(np.full((32, 32, 3), 90, np.uint8), AHEAD.header)
#: Such a plan ends by its time or by being given up.
LONG = {"goal_pose": AHEAD, "num_iterations": 1000, "num_candidates": 1024}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Nodes]:
    running = Nodes(next(DOMAINS), tmp_path_factory.mktemp("logs"))
    values = {
        "checkpoint": str(checkpoint), "device": "cpu", "horizon": 8, "execute_steps": 8,
        "num_candidates": 32, "num_iterations": 3, "publish_velocity": True, "status_period": 0.2,
        "max_history_age": 2.0,
    }  # fmt: skip
    running.start([NAME], {NAME: values})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def base(nodes: Nodes) -> Iterator[BaseRobot]:
    robot = BaseRobot(nodes.domain)
    robot.client = ThreadedActionClient(robot.node, PlanAction, f"{NAME}/plan")
    robot.ready()
    yield robot
    robot.close()


@pytest.fixture
def robot(base: BaseRobot) -> Iterator[BaseRobot]:
    """The robot, standing, with a planner that has nothing to complain about."""
    base.reset()
    wait_for(lambda: fine(base), 20.0, f"all checks; last: {base.status}")
    yield base
    base.reset()
    base.call(Trigger, f"{NAME}/stop", Trigger.Request())


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


# -- the camera ---------------------------------------------------------------------------------


def refill(message: Image, value: int | None, kept: list[Any] | None = None) -> None:
    data = np.frombuffer(message.data, np.uint8)
    if kept is not None:
        kept = kept or kept.append(data.copy()) or kept
        data = kept[0]
    else:
        data = np.full_like(data, value)
    message.data = array.array("B", data.tobytes())


def freezes(robot: BaseRobot) -> None:
    robot.change_image = partial(refill, value=None, kept=[])


def goes(robot: BaseRobot, value: int) -> None:
    robot.change_image = partial(refill, value=value)


def recodes(robot: BaseRobot, encoding: str) -> None:
    robot.change_image = lambda message: setattr(message, "encoding", encoding)


def shortens(robot: BaseRobot) -> None:
    robot.change_image = lambda message: setattr(message, "data", message.data[:100])


def loses_camera(robot: BaseRobot) -> None:
    robot.change_image = lambda message: False


CAMERA = {
    "stops": (loses_camera, 0.5, "no camera image"),
    "freezes": (freezes, 4 * FRAME_S, "frozen"),
    "goes black": (partial(goes, value=0), 4 * FRAME_S, "dark"),
    "goes white": (partial(goes, value=255), 4 * FRAME_S, "contrast"),
    "changes encoding": (partial(recodes, encoding="bgr8"), 2 * FRAME_S, "changed from"),
    "is unreadable": (partial(recodes, encoding="32FC1"), 2 * FRAME_S, "depth"),
    "sends short data": (shortens, 2 * FRAME_S, "too few"),
}


@pytest.mark.parametrize("what", CAMERA)
def test_a_camera_that_fails_stops_the_robot(robot: BaseRobot, what: str) -> None:
    fault, within_s, why = CAMERA[what]
    _, result = drives(robot)
    measured = robot.stops(lambda: fault(robot))
    report(f"camera {what}", measured)
    assert measured[0] < within_s + LATE_S
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == CODES["NOT_DRIVEN"]
    assert why in answer.result.error_msg and answer.result.error_msg.startswith("stopped: camera")
    wait_for(lambda: why in robot.status.message, 5.0, "the status to say why")


@pytest.mark.parametrize("what", ["freezes", "goes black"])
def test_an_image_goal_needs_a_camera_that_is_alive(robot: BaseRobot, what: str) -> None:
    fault, _, why = CAMERA[what]
    fault(robot)
    wait_for(lambda: not fine(robot), 5.0, "the status to say so")
    answer = robot.call(
        PlanService, f"{NAME}/plan", PlanService.Request(goal_type=1, goal_image=PICTURE)
    )
    assert answer.error_code == CODES["NO_VALID_PLAN"]
    assert why in answer.error_msg
    assert not robot.moving


# -- the odometry -------------------------------------------------------------------------------


def shifts(robot: BaseRobot, x: float = 0.0, yaw: float = 0.0) -> None:
    def change(message: Odometry) -> None:
        ox, oy, _, oyaw = conversions.planar_pose(message.pose.pose)
        message.pose.pose = conversions.pose_message(ox + x, oy, oyaw + yaw)

    robot.change_odometry = change


def sticks(robot: BaseRobot) -> None:
    kept: list[Any] = []

    def change(message: Odometry) -> None:
        kept.append(message.pose.pose)
        message.pose.pose = kept[0]

    robot.change_odometry = change


def is_ahead_then_silent(robot: BaseRobot) -> None:
    seen: list[int] = []

    def change(message: Odometry) -> Any:
        seen.append(1)
        message.header.stamp.sec += 10
        return len(seen) <= 3 or False

    robot.change_odometry = change


def loses_odometry(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: False


def says_nan(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.position, "x", math.nan)


def is_huge(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.position, "y", 1e300)


def has_a_huge_quaternion(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.orientation, "z", 1e200)


def is_blocked(robot: BaseRobot) -> None:
    robot.blocked = True


ODOMETRY = {
    "jumps 5 m": (partial(shifts, x=5.0), FRAME_S, "jumped"),
    "jumps half a turn": (partial(shifts, yaw=math.pi), FRAME_S, "jumped"),
    "sticks with fresh stamps": (sticks, 0.5, "commanded but not moving"),
    "shows a blocked robot": (is_blocked, 0.5, "commanded but not moving"),
    "is 10 s ahead, then silent": (is_ahead_then_silent, 0.5, "ahead of the clock"),
    "ends": (loses_odometry, 0.5, "no odometry for"),
    "is NaN": (says_nan, FRAME_S, "finite"),
    "is huge": (is_huge, FRAME_S, "coordinates within"),
    "has a huge quaternion": (has_a_huge_quaternion, FRAME_S, "odometry plausible"),
}


@pytest.mark.parametrize("what", ODOMETRY)
def test_odometry_that_fails_stops_the_robot(robot: BaseRobot, what: str) -> None:
    fault, within_s, why = ODOMETRY[what]
    _, result = drives(robot)
    measured = robot.stops(lambda: fault(robot))
    report(f"odometry {what}", measured)
    assert measured[0] < within_s + LATE_S
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert why in answer.result.error_msg
    time.sleep(0.3)
    assert not robot.moving, "the plan was dropped"


# -- clocks -------------------------------------------------------------------------------------


def test_a_clock_that_is_not_there_stops_the_robot(robot: BaseRobot) -> None:
    _, result = drives(robot)
    try:
        measured = robot.stops(lambda: set_parameter(robot, "use_sim_time", True))
        report("use_sim_time without /clock", measured)
        assert measured[0] < 0.5 + LATE_S
        assert "clock alive" in ended(result).result.error_msg
    finally:
        set_parameter(robot, "use_sim_time", False)


def test_a_clock_that_stops_stops_the_robot(robot: BaseRobot) -> None:
    publisher = robot.node.create_publisher(Clock, "/clock", 10)
    timer = robot.node.create_timer(
        0.02, lambda: publisher.publish(Clock(clock=robot.node.get_clock().now().to_msg()))
    )
    try:
        set_parameter(robot, "use_sim_time", True)
        time.sleep(0.5)
        wait_for(lambda: fine(robot), 20.0, "all checks")
        _, result = drives(robot)
        measured = robot.stops(timer.cancel)
        report("/clock stops", measured)
        assert measured[0] < 0.5 + LATE_S
        assert "clock alive: time stands still" in ended(result).result.error_msg
    finally:
        robot.node.destroy_timer(timer)
        robot.node.destroy_publisher(publisher)
        set_parameter(robot, "use_sim_time", False)


def test_a_process_that_stood_still_drops_its_plan(robot: BaseRobot, nodes: Nodes) -> None:
    _, result = drives(robot)
    measured = robot.stops(lambda: suspended(robot, nodes))
    report("SIGSTOP for 1 s while driving", measured)
    assert measured[0] < 1.0 + PERIOD_S + LATE_S
    assert "stood still" in ended(result).result.error_msg


def test_a_base_that_cannot_go_sideways_is_never_told_to(robot: BaseRobot) -> None:
    set_parameter(robot, "holonomic", False)
    try:
        count = len(robot.commands)
        _, result = send(robot, goal_pose=pose_goal(1.0, 1.0, frame_id="base_link"))
        answer = ended(result).result
        assert answer.driven and not answer.not_driven_because
        assert all(twist.linear.y == 0.0 for _, twist in robot.commands[count:])
        end = answer.path.poses[-1].pose.position
        assert math.dist(robot.true_pose[:2], (end.x, end.y)) < 0.25
    finally:
        set_parameter(robot, "holonomic", True)


# -- goals --------------------------------------------------------------------------------------


def test_a_goal_lives_until_the_robot_stands(robot: BaseRobot) -> None:
    seen: list[Any] = []
    _, result = send(robot, lambda m: seen.append(m.feedback), goal_pose=AHEAD)
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_SUCCEEDED, answer.result.error_msg
    assert answer.result.driven and not answer.result.not_driven_because
    end = answer.result.path.poses[-1].pose.position
    assert math.dist(robot.true_pose[:2], (end.x, end.y)) < 0.15
    assert not robot.moving
    assert max(math.hypot(t.linear.x, t.linear.y) for _, t in robot.commands) < 0.5 + 1e-6
    phases = [feedback.phase for feedback in seen]
    assert phases == sorted(phases) and phases[-1] == PlanAction.Feedback.DRIVING
    best = [feedback.best for feedback in seen if feedback.best.actions.horizon]
    assert len(best) == 1 and best[0].actions.horizon == 8


def test_cancelling_stops_the_robot(robot: BaseRobot) -> None:
    handle, result = drives(robot)
    measured = robot.stops(handle.cancel_goal_async)
    report("cancelled", measured)
    assert measured[0] < PERIOD_S + LATE_S
    assert ended(result).status == GoalStatus.STATUS_CANCELED


def test_stop_stops_the_robot_and_voids_the_plan_that_is_made(robot: BaseRobot) -> None:
    _, result = drives(robot)
    measured = robot.stops(lambda: robot.call(Trigger, f"{NAME}/stop", Trigger.Request()))
    report("~/stop", measured)
    assert measured[0] < PERIOD_S + LATE_S
    assert "~/stop was called" in ended(result).result.error_msg
    _, result = send(robot, **LONG, time_budget=duration_message(1.0))
    time.sleep(0.3)
    assert robot.call(Trigger, f"{NAME}/stop", Trigger.Request()).success
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "told to stop" in answer.result.error_msg
    assert not robot.moving


def test_a_newer_goal_pre_empts_the_one_that_is_driven_or_made(robot: BaseRobot) -> None:
    _, driven = drives(robot)
    began = time.monotonic()
    _, made = send(robot, **LONG, time_budget=duration_message(20.0))
    assert "pre-empted" in ended(driven).result.error_msg
    report("pre-empted while driven", (time.monotonic() - began, 0.0))
    assert time.monotonic() - began < 0.5 + LATE_S
    wait_for(lambda: not robot.moving, 1.0, "a stop")
    began = time.monotonic()
    seen: list[float] = []
    _, newest = send(
        robot, lambda m: seen.append(time.monotonic() - began) if m.feedback.phase else None,
        goal_pose=AHEAD,
    )  # fmt: skip
    answer = ended(made)
    report("pre-empted while planned", (time.monotonic() - began, 0.0))
    assert answer.status == GoalStatus.STATUS_ABORTED and "pre-empted" in answer.result.error_msg
    wait_for(lambda: seen or newest.done(), 10.0, "the newer one to be driven")
    assert seen and seen[0] < 1.0 + LATE_S, newest.done() and newest.result().result.error_msg


CLIENT = """
import sys, rclpy
from rclpy.action import ActionClient
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService
from v2w.messages.conversions import duration_message
import test_faults as t
rclpy.init()
node = rclpy.create_node("other_client")
if sys.argv[1] == "action":
    client = ActionClient(node, PlanAction, "planner_node/plan")
    client.wait_for_server()
    goal = PlanAction.Goal(**t.LONG, time_budget=duration_message(1.5))
    future = client.send_goal_async(goal)
    rclpy.spin_until_future_complete(node, future)
else:
    client = node.create_client(PlanService, "planner_node/plan")
    client.wait_for_service()
    client.call_async(PlanService.Request(**t.LONG, time_budget=duration_message(1.5)))
    rclpy.spin_once(node, timeout_sec=0.3)
print("sent", flush=True)
rclpy.spin(node)
"""


@pytest.mark.parametrize("kind", ["action", "service"])
def test_a_plan_whose_client_died_is_not_driven(robot: BaseRobot, nodes: Nodes, kind: str) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"ROS_DOMAIN_ID": str(nodes.domain), "PYTHONPATH": paths}
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, kind], env=environment, stdout=subprocess.PIPE
    )
    assert client.stdout is not None and client.stdout.readline() == b"sent\n"
    time.sleep(0.3)
    count = len(robot.commands)
    client.send_signal(signal.SIGKILL)
    said = nodes.log(NAME).count("the client is gone")
    time.sleep(2.0)
    assert not robot.moving and len(robot.commands) == count
    assert nodes.log(NAME).count("the client is gone") > said
    client.wait()
    robot.ready()


def carried(robot: BaseRobot, nodes: Nodes) -> None:
    robot.true_pose = np.add(robot.true_pose, (5.0, 0.0, 0.0))


def restarted(robot: BaseRobot, nodes: Nodes) -> None:
    x, _, yaw = robot.true_pose
    shifts(robot, x=-x, yaw=-yaw)


def blinded(robot: BaseRobot, nodes: Nodes) -> None:
    loses_camera(robot)


def suspended(robot: BaseRobot, nodes: Nodes) -> None:
    nodes.processes[NAME].send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    nodes.processes[NAME].send_signal(signal.SIGCONT)


@pytest.mark.parametrize("what", [carried, restarted, blinded, suspended])
def test_a_plan_of_another_place_or_time_is_not_driven(
    robot: BaseRobot, nodes: Nodes, what: Callable[[BaseRobot, Nodes], None]
) -> None:
    time.sleep(1.0)  # the history must not have the jump of the last case
    count = len(robot.commands)
    _, result = send(robot, **LONG, time_budget=duration_message(1.5))
    time.sleep(0.4)
    what(robot, nodes)
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == CODES["NOT_DRIVEN"]
    print(f"FAULT {what.__name__} while planned: {answer.result.error_msg}")
    assert answer.result.plan.horizon and not answer.result.driven
    assert answer.result.not_driven_because
    time.sleep(0.3)
    assert len(robot.commands) == count


def test_a_plan_that_was_hardly_made_and_a_goal_that_is_nowhere(robot: BaseRobot) -> None:
    count = len(robot.commands)
    budget = duration_message(0.001)
    answer = robot.call(
        PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD, time_budget=budget)
    )
    assert answer.error_code == 0 and not answer.driven
    assert "candidates were scored" in answer.error_msg
    for x, rule in ((1e300, "coordinates within"), (1e4, "max_goal_distance")):
        for frame in ("", "base_link"):
            goal = pose_goal(x, 0.0, frame_id=frame)
            answer = robot.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=goal))
            assert answer.error_code == CODES["INVALID_REQUEST"], answer.error_msg
            assert rule in answer.error_msg
    assert len(robot.commands) == count


def test_a_plan_that_is_made_while_the_robot_moves_ends_where_it_should(robot: BaseRobot) -> None:
    first = robot.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD))
    assert first.driven, first.error_msg
    wait_for(lambda: robot.moving, 5.0, "driving")
    time.sleep(0.7)
    second = robot.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD))
    assert second.error_code == 0
    wait_for(lambda: not robot.moving, 10.0, "the end")
    time.sleep(0.2)
    last = second if second.driven else first
    end = last.path.poses[-1].pose.position
    away = math.dist(robot.true_pose[:2], (end.x, end.y))
    print(f"FAULT made while moving: driven {second.driven}, {away:.2f} m from the planned end")
    assert away < 0.8


def test_a_second_planner_of_the_name_refuses_to_activate(
    robot: BaseRobot, nodes: Nodes, checkpoint: Path, tmp_path: Path
) -> None:
    second = Nodes(nodes.domain, tmp_path)
    try:
        second.start([NAME], {NAME: {"checkpoint": str(checkpoint), "device": "cpu"}})
        assert second.processes[NAME].wait(timeout=60.0) == 2
        assert "another /planner_node is active" in second.log(NAME)
    finally:
        second.stop()
    assert nodes.processes[NAME].poll() is None
    other = robot.node.create_publisher(Twist, "cmd_vel", 1)
    wait_for(
        lambda: any("base_robot publishes" in line for line in robot.status.checks), 10.0, "a note"
    )
    robot.node.destroy_publisher(other)


def test_an_interrupted_planner_stops_the_robot(base: BaseRobot, nodes: Nodes) -> None:
    wait_for(lambda: fine(base), 20.0, "all checks")
    drives(base)
    measured = base.stops(lambda: nodes.processes[NAME].send_signal(signal.SIGTERM))
    report("SIGTERM", measured)
    assert measured[0] < 0.3 + LATE_S
    assert nodes.processes[NAME].wait(20.0) == 0
