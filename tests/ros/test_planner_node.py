from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import (
    NO_CHECKS,
    PATIENCE_S,
    Nodes,
    Robot,
    begins_to_drive,
    pose_goal,
    stopped,
    wait_for,
)
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Plan as PlanService
from visualization_msgs.msg import MarkerArray

from v2w.demo.action_client import ThreadedActionClient
from v2w.errors import CODES
from v2w.messages.conversions import duration_message, trajectory_markers
from v2w.messages.images import compressed_message
from v2w.nodes.diagnostics import LATCHED

POSE, IMAGE = PlanService.Request.GOAL_POSE, PlanService.Request.GOAL_IMAGE
AHEAD = pose_goal(1.0, 0.0, frame_id="base_link")
SMALL = {"num_iterations": 2, "num_candidates": 8}
#: A PNG that claims to have 2^30 pixels.
BOMB = bytearray(compressed_message(np.zeros((8, 8, 3), np.uint8), AHEAD.header, "png").data)
BOMB[16:24] = (2**15).to_bytes(4, "big") * 2
#: More than any test waits for: such a plan only ends by being cancelled.
ENDLESS = {"num_iterations": 1000, "num_candidates": 64, "time_budget": duration_message(100.0)}


@pytest.fixture(scope="module", autouse=True)
def planner(nodes: Nodes, robot: Robot, checkpoint: Path) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "horizon": 6, "status_period": 0.2}
    patient = {"max_history_age": 60.0, "buffer_duration": 60.0} | NO_CHECKS
    values["max_waiting_requests"] = 2
    nodes.start(["planner_node"], {"planner_node": values | patient})
    robot.ready("planner_node")


def set_parameter(robot: Robot, name: str, value: bool | int | float) -> Any:
    wrapped = Parameter(name, value=value).to_parameter_msg()
    request = SetParameters.Request(parameters=[wrapped])
    return robot.call(SetParameters, "planner_node/set_parameters", request).results[0]


def test_a_pose_ahead_gives_a_path_that_leads_there(robot: Robot) -> None:
    paths: list[PathMessage] = []
    markers: list[MarkerArray] = []
    robot.node.create_subscription(PathMessage, "planner_node/optimal_path", paths.append, 10)
    robot.node.create_subscription(
        MarkerArray, "planner_node/candidate_trajectories", markers.append, 10
    )
    time.sleep(0.3)
    answer = robot.plan(
        goal_type=POSE,
        goal_pose=AHEAD,
        num_iterations=4,
        num_candidates=32,
        return_frames=True,
        seed=1,
    )
    assert (answer.error_code, answer.error_msg) == (0, "")
    assert answer.plan.horizon == 6
    assert len(answer.path.poses) == 7
    first, last = (answer.path.poses[i].pose.position.x for i in (0, -1))
    assert last - first > 0.5
    assert len(answer.best.compressed_frames) == 6
    assert np.isfinite(answer.best.cost)
    assert not answer.goal_reached
    assert answer.goal_distance == pytest.approx(1.0, abs=0.01)
    wait_for(lambda: paths and markers, PATIENCE_S, "path and markers")
    assert len(markers[-1].markers) > 1


def test_the_same_seed_gives_the_same_kind_of_plan_and_an_image_goal_is_understood(
    robot: Robot,
) -> None:
    frame = np.zeros((40, 50, 3), np.uint8)
    frame[:, 25:] = 255
    goal = compressed_message(frame, AHEAD.header, "png")
    answer = robot.plan(goal_type=IMAGE, goal_image=goal, **SMALL)
    assert (answer.error_code, answer.error_msg) == (0, "")
    assert answer.frames_imagined >= 2 * (8 * 2 + 2 * 4)  # a quarter goes on after two
    assert not answer.best.compressed_frames


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"goal_type": 7}, "INVALID_REQUEST"),
        ({"goal_type": IMAGE}, "INVALID_REQUEST"),
        ({"goal_type": IMAGE, "goal_image": CompressedImage(data=b"no image")}, "INVALID_REQUEST"),
        ({"goal_type": IMAGE, "goal_image": CompressedImage(data=b"\x80\x04.")}, "INVALID_REQUEST"),
        ({"goal_type": IMAGE, "goal_image": CompressedImage(data=BOMB)}, "INVALID_REQUEST"),
        ({"goal_pose": pose_goal(float("nan"), 0.0)}, "INVALID_REQUEST"),
        ({"goal_pose": pose_goal(1.0, 0.0, frame_id="map")}, "TF_ERROR"),
        ({"goal_pose": AHEAD, "num_candidates": 100000}, "INVALID_REQUEST"),
        ({"goal_pose": AHEAD, "time_budget": duration_message(-1.0)}, "INVALID_REQUEST"),
    ],
)
def test_bad_goals_get_their_code(robot: Robot, fields: dict[str, Any], code: str) -> None:
    began = time.monotonic()
    answer = robot.plan(**fields)
    assert answer.error_code == CODES[code], answer.error_msg
    assert time.monotonic() - began < 5.0
    assert answer.error_msg
    assert not answer.plan.data


def test_the_time_budget_is_kept(robot: Robot) -> None:
    began = time.monotonic()
    answer = robot.plan(goal_type=IMAGE, goal_image=image(), num_iterations=1000, num_candidates=64,
                        time_budget=duration_message(0.5))  # fmt: skip
    assert answer.error_code == 0
    assert answer.timed_out
    assert time.monotonic() - began < 15.0


def test_candidates_that_were_not_scored_are_not_drawn() -> None:
    paths = np.zeros((3, 4, 3))
    drawn = trajectory_markers(paths, np.array([2.0, np.inf, 1.0]), 0, "odom").markers[1:]
    assert [marker.color.r for marker in drawn] == [1.0, 0.0]
    assert len(trajectory_markers(paths, np.full(3, np.inf), 0, "odom").markers) == 1


def image() -> CompressedImage:
    return compressed_message(np.full((32, 32, 3), 90, np.uint8), AHEAD.header)


def test_action_gives_feedback_and_a_result(robot: Robot) -> None:
    seen: list[Any] = []
    goal = PlanAction.Goal(goal_type=IMAGE, goal_image=image(), num_iterations=3, num_candidates=8)
    handle = robot.send_goal(goal, seen.append)
    future = handle.get_result_async()
    wait_for(future.done, PATIENCE_S, "the result")
    assert future.result().status == GoalStatus.STATUS_SUCCEEDED
    assert future.result().result.error_code == 0
    wait_for(lambda: len(seen) == 3, PATIENCE_S, "feedback")
    assert [message.feedback.iteration for message in seen] == [1, 2, 3]
    costs = [message.feedback.best_cost for message in seen]
    assert costs == sorted(costs, reverse=True)
    assert all(m.feedback.mean_cost >= m.feedback.best_cost for m in seen)
    assert len(seen[-1].feedback.best_path.poses) == 7


class SlowHandle:
    """The client's handle, returning from a request long after its answer has come."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def send_goal_request(self, request: Any) -> Any:
        number = self._handle.send_goal_request(request)
        time.sleep(1.0)
        return number


def test_an_answer_that_comes_at_once_is_not_lost(robot: Robot) -> None:
    client = ThreadedActionClient(robot.node, PlanAction, "planner_node/plan")
    assert client.wait_for_server(PATIENCE_S)
    client._client_handle = SlowHandle(client._client_handle)
    goal = PlanAction.Goal(goal_type=IMAGE, goal_image=image(), num_iterations=1, num_candidates=4)
    future = client.send_goal_async(goal)
    wait_for(future.done, PATIENCE_S, "the goal to be accepted")
    result = future.result().get_result_async()
    wait_for(result.done, PATIENCE_S, "the result")


def test_requests_wait_for_their_turn_and_too_many_are_refused(robot: Robot) -> None:
    """The plan action, then the service twice: one at work, two waiting; one more is too many."""
    seen: list[Any] = []
    goal = PlanAction.Goal(goal_type=IMAGE, goal_image=image(), **ENDLESS)
    handle = robot.plans(goal, seen)
    client = robot.node.create_client(PlanService, "planner_node/plan")
    assert client.wait_for_service(PATIENCE_S)
    answered: list[int] = []
    waiting = []
    for number in range(2):
        future = client.call_async(PlanService.Request(goal_pose=AHEAD, **SMALL))
        future.add_done_callback(lambda _, n=number: answered.append(n))
        waiting.append(future)
        wait_for(
            lambda: robot.status["planner_node"].requests_waiting == len(waiting),
            PATIENCE_S,
            "a request to wait",
        )
    assert robot.status["planner_node"].state == ModelStatus.BUSY
    refused = robot.plan(goal_pose=AHEAD, **SMALL)
    assert refused.error_code == CODES["BUSY"], refused.error_msg
    assert "2 waiting" in refused.error_msg
    assert not answered
    cancel = handle.cancel_goal_async()
    future = handle.get_result_async()
    wait_for(future.done, PATIENCE_S, "the cancelled result")
    assert cancel.done()
    assert future.result().status == GoalStatus.STATUS_CANCELED
    wait_for(lambda: len(answered) == 2, PATIENCE_S, "those that waited")
    assert answered == [0, 1]
    assert [future.result().error_code for future in waiting] == [0, 0]
    robot.node.destroy_client(client)


def test_a_goal_that_is_cancelled_while_it_waits_is_never_planned(robot: Robot) -> None:
    seen: list[Any] = []
    goal = PlanAction.Goal(goal_type=IMAGE, goal_image=image(), **ENDLESS)
    first = robot.plans(goal, seen)
    second = robot.send_goal(goal, seen.append)
    for handle in (second, first):
        cancel = handle.cancel_goal_async()
        wait_for(cancel.done, PATIENCE_S, "the cancelling")
    results = [handle.get_result_async() for handle in (first, second)]
    wait_for(lambda: all(r.done() for r in results), PATIENCE_S, "the cancelled results")
    assert all(r.result().status == GoalStatus.STATUS_CANCELED for r in results)
    assert {message.goal_id.uuid.tobytes() for message in seen} == {first.goal_id.uuid.tobytes()}
    assert robot.plan(goal_pose=AHEAD, **SMALL).error_code == 0


def test_parameters_are_checked(robot: Robot) -> None:
    assert not set_parameter(robot, "num_candidates", 1).successful
    assert not set_parameter(robot, "horizon", True).successful
    assert set_parameter(robot, "num_candidates", 16).successful


def test_a_horizon_beyond_the_window_of_the_model_is_refused(robot: Robot) -> None:
    result = set_parameter(robot, "horizon", 9)
    assert not result.successful
    assert "parameter horizon" in result.reason and "at most 8 steps" in result.reason
    assert not set_parameter(robot, "max_horizon", 5).successful
    assert set_parameter(robot, "horizon", 8).successful
    assert robot.plan(goal_pose=AHEAD, **SMALL).error_code == 0
    assert set_parameter(robot, "horizon", 6).successful


def test_nothing_is_driven_unless_it_is_allowed(robot: Robot) -> None:
    robot.commands.clear()
    assert robot.plan(goal_pose=AHEAD, **SMALL).error_code == 0
    time.sleep(0.3)
    assert not robot.commands


@pytest.fixture
def driving(robot: Robot) -> Iterator[None]:
    assert set_parameter(robot, "publish_velocity", True).successful
    robot.velocity = 0.0
    robot.commands.clear()
    yield
    set_parameter(robot, "publish_velocity", False)


@pytest.mark.usefixtures("driving")
def test_a_plan_is_driven_and_ends_with_a_stop(robot: Robot) -> None:
    assert robot.plan(goal_pose=AHEAD, num_iterations=4, num_candidates=32).error_code == 0
    wait_for(lambda: stopped(robot), PATIENCE_S, "driving, then a stop")
    assert max(command.linear.x for command in robot.commands) > 0.1
    time.sleep(0.3)
    count = len(robot.commands)
    time.sleep(0.3)
    assert len(robot.commands) == count, "silent after the stop"


@pytest.mark.usefixtures("driving")
def test_the_watchdog_stops_when_odometry_ends(robot: Robot, nodes: Nodes) -> None:
    assert set_parameter(robot, "settle_time", 5.0).successful
    # another goal: on the way to the last one this robot did not move, which counts as a wall
    elsewhere = pose_goal(1.0, 0.5, frame_id="base_link")
    begins_to_drive(robot, elsewhere)
    robot.odometry_on = False
    assert set_parameter(robot, "odometry_timeout", 0.5).successful
    wait_for(lambda: "no odometry for" in nodes.log("planner_node"), PATIENCE_S, "the watchdog")
    wait_for(lambda: stopped(robot), PATIENCE_S, "a stop")
    robot.odometry_on = True


def test_a_plan_that_took_too_long_is_answered_but_not_driven(robot: Robot, nodes: Nodes) -> None:
    robot.velocity = 0.0
    assert set_parameter(robot, "max_plan_age", 0.05).successful
    assert set_parameter(robot, "publish_velocity", True).successful
    robot.commands.clear()
    elsewhere = pose_goal(1.0, -0.5, frame_id="base_link")
    answer = robot.plan(goal_pose=elsewhere, **SMALL)
    assert answer.error_code == 0 and answer.plan.data
    wait_for(lambda: "is not driven" in nodes.log("planner_node"), PATIENCE_S, "a warning")
    time.sleep(0.3)
    assert not robot.commands
    assert set_parameter(robot, "max_plan_age", 600.0).successful


def test_an_interrupt_ends_a_plan_that_is_running_and_stops_the_robot(
    robot: Robot, nodes: Nodes
) -> None:
    assert set_parameter(robot, "publish_velocity", True).successful
    assert set_parameter(robot, "settle_time", 5.0).successful
    robot.ready("planner_node")
    robot.commands.clear()
    elsewhere = pose_goal(0.5, -1.0, frame_id="base_link")
    begins_to_drive(robot, elsewhere)
    seen: list[Any] = []
    executing: list[Bool] = []
    robot.plans(PlanAction.Goal(goal_type=IMAGE, goal_image=image(), **ENDLESS), seen)
    robot.node.create_subscription(Bool, "planner_node/executing", executing.append, LATCHED)
    wait_for(lambda: executing, PATIENCE_S, "whether it drives")
    assert executing[-1].data and not stopped(robot)
    assert nodes.stop() == {"planner_node": 0}
    wait_for(lambda: stopped(robot), 5.0, "a stop")
    wait_for(lambda: not executing[-1].data, 5.0, "that nothing is driven")
