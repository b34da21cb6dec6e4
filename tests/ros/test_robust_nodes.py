"""Nothing that a peer sends ends a node, and nothing that fails inside one does."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from ros_harness import (
    DOMAINS,
    NO_CHECKS,
    PATIENCE_S,
    Nodes,
    Robot,
    pose_goal,
    sequence,
    stopped,
    wait_for,
)
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Imagine
from v2w_msgs.srv import Plan as PlanService

from v2w.bringup import node_processes
from v2w.demo.action_client import ThreadedActionClient
from v2w.errors import CODES
from v2w.messages import conversions
from v2w.messages.conversions import duration_message
from v2w.messages.images import compressed_message

MODEL, PLANNER = "world_model_node", "planner_node"
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))
AHEAD = pose_goal(1.0, 0.0, frame_id="base_link")
SMALL = {"num_iterations": 1, "num_candidates": 4}
PATIENT = {"max_history_age": 60.0, "buffer_duration": 60.0, "status_period": 0.2}


@pytest.fixture(scope="module", autouse=True)
def started(nodes: Nodes, robot: Robot, checkpoint: Path) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "autostart": False} | PATIENT
    planner = values | {"horizon": 4, "num_candidates": 2}
    nodes.start([MODEL, PLANNER], {MODEL: values | {"warm_up_candidates": 1}, PLANNER: planner})
    for name in (MODEL, PLANNER):
        wait_for(lambda name=name: state(robot, name) == State.PRIMARY_STATE_UNCONFIGURED)


@pytest.fixture
def alive(nodes: Nodes) -> Iterator[None]:
    yield
    assert {name: p.poll() for name, p in nodes.processes.items()} == dict.fromkeys(
        nodes.processes
    ), [nodes.log(name)[-3000:] for name in nodes.processes]


pytestmark = pytest.mark.usefixtures("alive")


def state(robot: Robot, name: str) -> int:
    return int(robot.call(GetState, f"{name}/get_state", GetState.Request()).current_state.id)


def change(robot: Robot, name: str, *transitions: int) -> list[bool]:
    wanted = [ChangeState.Request(transition=Transition(id=number)) for number in transitions]
    return [bool(robot.call(ChangeState, f"{name}/change_state", w).success) for w in wanted]


def test_transitions_that_a_state_does_not_have_are_refused(robot: Robot) -> None:
    """200 in a row of four clients at once."""
    wrong = [Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP, 99, 255]
    clients = [robot.node.create_client(ChangeState, f"{PLANNER}/change_state") for _ in range(4)]
    answers: list[bool] = []

    def asks(client: Any, number: int) -> None:
        assert client.wait_for_service(PATIENCE_S)
        for turn in range(50):
            transition = Transition(id=number, label="" if turn % 2 else "no_such_thing")
            future = client.call_async(ChangeState.Request(transition=transition))
            wait_for(future.done, PATIENCE_S, "a refusal")
            answers.append(future.result().success)

    threads = [
        threading.Thread(target=asks, args=pair) for pair in zip(clients, wrong, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == [False] * 200
    assert state(robot, PLANNER) == State.PRIMARY_STATE_UNCONFIGURED


CYCLE = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)


@pytest.mark.parametrize("name", [MODEL, PLANNER])
def test_requests_while_the_node_goes_through_its_states(robot: Robot, name: str) -> None:
    over, codes = threading.Event(), []
    kind, service, request = (
        (Imagine, f"{MODEL}/imagine", Imagine.Request(candidates=[sequence(FORWARD)]))
        if name == MODEL
        else (PlanService, f"{PLANNER}/plan", PlanService.Request(goal_pose=AHEAD, **SMALL))
    )
    action = ThreadedActionClient(robot.node, PlanAction, f"{PLANNER}/plan")

    def asks() -> None:
        client = robot.node.create_client(kind, service)
        assert client.wait_for_service(PATIENCE_S)
        while not over.is_set():
            future = client.call_async(request)
            wait_for(future.done, PATIENCE_S, "an answer")
            codes.append(future.result().error_code)
        robot.node.destroy_client(client)

    def sends() -> None:
        assert action.wait_for_server(PATIENCE_S)
        while not over.is_set():
            goal = action.send_goal_async(PlanAction.Goal(goal_pose=AHEAD, **SMALL))
            wait_for(goal.done, PATIENCE_S, "a goal")
            result = goal.result().get_result_async()
            wait_for(result.done, PATIENCE_S, "a result")
            codes.append(result.result().result.error_code)

    askers = [threading.Thread(target=asks), threading.Thread(target=asks)]
    if name == PLANNER:
        askers.append(threading.Thread(target=sends))
    for thread in askers:
        thread.start()
    try:
        for _ in range(30 if name == PLANNER else 10):
            assert change(robot, name, *CYCLE) == [True] * 4
    finally:
        over.set()
        for thread in askers:
            thread.join(PATIENCE_S)
    known = {"NONE", "NOT_READY", "HISTORY_UNAVAILABLE", "HISTORY_STALE", "NO_VALID_PLAN"}
    assert set(codes) <= {CODES[code] for code in known}
    assert CODES["NOT_READY"] in codes
    assert state(robot, name) == State.PRIMARY_STATE_UNCONFIGURED


@pytest.fixture(scope="module")
def active(robot: Robot, started: None) -> None:
    for name in (MODEL, PLANNER):
        for transition in CYCLE[:2]:
            if state(robot, name) != State.PRIMARY_STATE_ACTIVE:
                assert change(robot, name, transition) == [True]
        robot.ready(name)


@pytest.fixture(scope="module")
def diagnosed(robot: Robot) -> Callable[[str], dict[str, str]]:
    seen: dict[str, dict[str, str]] = {}

    def note(message: DiagnosticArray) -> None:
        for entry in message.status:
            name = entry.name.partition(":")[0].strip("/")
            seen[name] = {value.key: value.value for value in entry.values}

    robot.node.create_subscription(DiagnosticArray, "/diagnostics", note, 10)

    def values(name: str) -> dict[str, str]:
        wait_for(lambda: name in seen, PATIENCE_S, "diagnostics")
        return seen[name]

    return values


@pytest.mark.usefixtures("active")
def test_odometry_that_is_no_pose_is_dropped_and_counted(
    robot: Robot, diagnosed: Callable[[str], dict[str, str]]
) -> None:
    publisher = robot.node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
    before = {name: int(diagnosed(name)["messages dropped"]) for name in (MODEL, PLANNER)}
    wait_for(lambda: publisher.get_subscription_count() == 2, PATIENCE_S, "the nodes")

    def dropped() -> bool:
        for value in (1e200, 1e308, float("nan"), float("inf"), 0.0):
            stamp = robot.node.get_clock().now().nanoseconds
            message = Odometry(header=conversions.header_message(stamp, "odom"))
            q = message.pose.pose.orientation
            q.x, q.y, q.z, q.w = (value,) * 4
            publisher.publish(message)
        time.sleep(0.1)
        return all(int(diagnosed(n)["messages dropped"]) >= before[n] + 5 for n in before)

    wait_for(dropped, PATIENCE_S, "the counters")
    robot.node.destroy_publisher(publisher)
    for name in before:
        robot.ready(name)
        assert diagnosed(name)["errors in callbacks"] == "0"


@pytest.mark.usefixtures("active")
@pytest.mark.parametrize("kind", [SetParameters, SetParametersAtomically])
def test_a_parameter_of_a_type_that_does_not_exist_is_refused(
    robot: Robot, diagnosed: Callable[[str], dict[str, str]], kind: Any
) -> None:
    wrong = ParameterMessage(name="horizon", value=ParameterValue(type=77))
    right = Parameter("settle_time", value=1.25).to_parameter_msg()
    name = "set_parameters" if kind is SetParameters else "set_parameters_atomically"
    answer = robot.call(kind, f"{PLANNER}/{name}", kind.Request(parameters=[wrong, right]))
    results = answer.results if kind is SetParameters else [answer.result]
    assert [result.successful for result in results] == [False, True][: len(results)]
    assert "'horizon'" in results[0].reason and "77" in results[0].reason
    assert diagnosed(PLANNER)["errors in callbacks"] == "0"


@pytest.mark.usefixtures("active")
def test_a_service_asked_by_twelve_clients_at_once_answers_every_call(robot: Robot) -> None:
    request = PlanService.Request(goal_pose=AHEAD, **SMALL)
    answers = ask_at_once(robot, PlanService, f"{PLANNER}/plan", [request] * 12, calls=4)
    assert len(answers) == 48
    assert {a.error_code for a in answers} <= {0, CODES["BUSY"]}


def ask_at_once(
    robot: Robot, kind: Any, name: str, requests: list[Any], calls: int = 1
) -> list[Any]:
    """The answers to every request, each of a client of its own."""
    clients = [robot.node.create_client(kind, name) for _ in requests]
    for client in clients:
        assert client.wait_for_service(PATIENCE_S)
    futures = [
        client.call_async(request)
        for _ in range(calls)
        for client, request in zip(clients, requests, strict=True)
    ]
    wait_for(lambda: all(f.done() for f in futures), PATIENCE_S, "all answers")
    for client in clients:
        robot.node.destroy_client(client)
    return [future.result() for future in futures]


@pytest.mark.usefixtures("active")
def test_a_hundred_clients_of_the_service_and_thirty_of_the_action_are_all_answered(
    robot: Robot,
) -> None:
    others = Robot(robot.node.context.get_domain_id(), publishes=False)
    slow = PlanService.Request(goal_type=1, goal_image=picture(32), num_iterations=100)
    slow.time_budget = duration_message(0.3)
    goal = PlanAction.Goal(goal_pose=AHEAD, **SMALL)
    actions = [ThreadedActionClient(others.node, PlanAction, f"{PLANNER}/plan") for _ in range(30)]
    try:
        for action in actions:
            assert action.wait_for_server(PATIENCE_S)
        began = time.monotonic()
        goals = [action.send_goal_async(goal) for action in actions]
        answers = ask_at_once(robot, PlanService, f"{PLANNER}/plan", [slow] * 100)
        wait_for(lambda: all(g.done() for g in goals), PATIENCE_S, "all goals")
        results = [g.result().get_result_async() for g in goals]
        wait_for(lambda: all(r.done() for r in results), PATIENCE_S, "all results")
        print(f"answered after {time.monotonic() - began:.1f} s")
    finally:
        others.close()
    codes = [a.error_code for a in answers] + [r.result().result.error_code for r in results]
    assert len(codes) == 130
    assert set(codes) <= {0, CODES["BUSY"], CODES["TIMEOUT"]}


def picture(size: int, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return compressed_message(noise, conversions.header_message(0, ""))


@pytest.mark.usefixtures("active")
def test_goals_with_large_pictures_leave_nothing_behind(robot: Robot, nodes: Nodes) -> None:
    process = psutil.Process(nodes.processes[PLANNER].pid)
    sizes = []
    pictures = [picture(3464, seed) for seed in range(2)]  # 12 MP, about 10 MB
    for number in range(10):
        goal = PlanAction.Goal(goal_type=1, goal_image=pictures[number % 2], **SMALL)
        result = robot.send_goal(goal).get_result_async()
        wait_for(result.done, PATIENCE_S, "the result")
        assert result.result().result.error_code == 0, result.result().result.error_msg
        sizes.append(process.memory_info().rss / 2**20)
    print("MiB after each goal:", [round(size) for size in sizes])
    assert sizes[-1] - sizes[4] < 60, sizes


@pytest.mark.usefixtures("active")
def test_a_request_that_would_take_minutes_is_refused_with_the_figure(robot: Robot) -> None:
    many = [sequence(np.tile(FORWARD, (2, 1)))] * 64
    answer = robot.imagine(candidates=many, num_sampling_steps=1000, frame_format=0)
    assert answer.error_code == CODES["INVALID_REQUEST"]
    assert "512 frames x 1000 sampling steps" in answer.error_msg
    assert "max_request_time" in answer.error_msg and "120 s" in answer.error_msg


@pytest.mark.usefixtures("active")
def test_a_camera_that_cannot_be_read_is_reported_and_recovers(robot: Robot) -> None:
    robot.encoding = "yuv9_unheard_of"
    status = robot.reaches(MODEL, ModelStatus.WAITING_FOR_HISTORY)
    assert "camera" in status.message and "yuv9_unheard_of" in status.message
    robot.encoding = "rgb8"
    robot.ready(MODEL)


@pytest.mark.usefixtures("active")
def test_a_request_whose_client_is_gone_ends(robot: Robot) -> None:
    other = Robot(robot.node.context.get_domain_id(), publishes=False)
    client = other.node.create_client(PlanService, f"{PLANNER}/plan")
    assert client.wait_for_service(PATIENCE_S)
    endless = PlanService.Request(goal_type=1, goal_image=picture(32), num_iterations=1000)
    endless.time_budget = duration_message(300.0)
    client.call_async(endless)
    robot.reaches(PLANNER, ModelStatus.BUSY)
    time.sleep(2.5)
    assert robot.status[PLANNER].state == ModelStatus.BUSY
    other.close()
    began = time.monotonic()
    robot.ready(PLANNER)
    print(f"over {time.monotonic() - began:.1f} s after its client had left")


@pytest.mark.usefixtures("active")
def test_an_interrupt_while_a_request_is_computed_ends_the_nodes_cleanly(
    robot: Robot, nodes: Nodes
) -> None:
    client = robot.node.create_client(Imagine, f"{MODEL}/imagine")
    assert client.wait_for_service(PATIENCE_S)
    longer = Parameter("max_request_time", value=86400.0).to_parameter_msg()
    request = SetParameters.Request(parameters=[longer])
    assert robot.call(SetParameters, f"{MODEL}/set_parameters", request).results[0].successful
    many = [sequence(np.tile(FORWARD, (2, 1)))] * 64
    client.call_async(Imagine.Request(candidates=many, num_sampling_steps=200, frame_format=0))
    robot.reaches(MODEL, ModelStatus.BUSY)
    began = time.monotonic()
    assert nodes.stop() == {MODEL: 0, PLANNER: 0}
    assert time.monotonic() - began < 8.0
    nodes.processes.clear()
    assert "Traceback" not in nodes.log(MODEL)


def test_an_error_in_a_callback_stops_the_robot_and_the_node_goes_on(
    tmp_path: Path, checkpoint: Path
) -> None:
    nodes, broken = Nodes(next(DOMAINS), tmp_path), tmp_path / "broken"
    values = {"checkpoint": str(checkpoint), "device": "cpu", "horizon": 6} | PATIENT
    values |= {"publish_velocity": True, "settle_time": 5.0, "odometry_timeout": 10.0}
    values |= {"execute_steps": 6} | NO_CHECKS  # this robot never moves
    script = Path(__file__).parent / "node_with_faults.py"
    python, _, _, *arguments = node_processes.commands([PLANNER], overrides={PLANNER: values})[
        PLANNER
    ]
    environment = os.environ | {"ROS_DOMAIN_ID": str(nodes.domain), "OMP_NUM_THREADS": "1"}
    with (tmp_path / f"{PLANNER}.log").open("wb") as log:
        nodes.processes[PLANNER] = subprocess.Popen(
            [python, str(script), str(broken), *arguments], env=environment,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    robot = Robot(nodes.domain)
    robot.velocity = 0.0
    try:
        robot.ready(PLANNER)
        assert robot.plan(goal_pose=AHEAD, num_iterations=2, num_candidates=8).error_code == 0
        wait_for(lambda: robot.commands and not stopped(robot), PATIENCE_S, "driving")
        broken.touch()
        wait_for(lambda: stopped(robot), PATIENCE_S, "a stop")
        message = robot.reaches(PLANNER, ModelStatus.ERROR).message
        assert "in a callback" in message and "a bug in two lines" in message
        broken.unlink()
        robot.ready(PLANNER)
        assert stopped(robot), "the plan is not driven on"
        assert nodes.log(PLANNER).count("Traceback") < 30, "not at the rate of the commands"
    finally:
        robot.close()
        assert nodes.stop() == {PLANNER: 0}
