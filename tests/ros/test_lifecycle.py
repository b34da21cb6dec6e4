from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_harness import (
    DOMAINS,
    NO_CHECKS,
    PATIENCE_S,
    Nodes,
    Robot,
    begins_to_drive,
    pose_goal,
    stopped,
    wait_for,
)
from std_msgs.msg import Bool, Header
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Plan

from v2w.errors import CODES
from v2w.messages.conversions import duration_message
from v2w.messages.images import compressed_message
from v2w.nodes.diagnostics import LATCHED

MODEL = "world_model_node"


def change(robot: Robot, node: str, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(robot.call(ChangeState, f"{node}/change_state", request).success)


@pytest.fixture
def managed(tmp_path: Path) -> Nodes:
    nodes = Nodes(next(DOMAINS), tmp_path)
    yield nodes
    nodes.stop()


def test_a_manager_can_drive_the_transitions(managed: Nodes, checkpoint: Path) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "autostart": False}
    values |= {"max_history_age": 60.0, "buffer_duration": 60.0}  # whatever the machine does beside
    managed.start(["planner_node"], {"planner_node": values | {"status_period": 0.2}})
    robot = Robot(managed.domain, compressed=True)
    try:
        assert change(robot, "planner_node", Transition.TRANSITION_CONFIGURE)
        robot.reaches("planner_node", ModelStatus.UNKNOWN)
        assert change(robot, "planner_node", Transition.TRANSITION_ACTIVATE)
        robot.ready("planner_node")
        assert robot.plan(goal_pose=pose_goal(9.0, 0.0), num_iterations=1).error_code == 0
        assert change(robot, "planner_node", Transition.TRANSITION_DEACTIVATE)
        assert change(robot, "planner_node", Transition.TRANSITION_CLEANUP)
        wait_for(lambda: "not configured" in robot.status["planner_node"].message)
        assert change(robot, "planner_node", Transition.TRANSITION_CONFIGURE)
        assert change(robot, "planner_node", Transition.TRANSITION_ACTIVATE)
        robot.ready("planner_node")
    finally:
        robot.close()


def test_a_node_warms_up_before_it_can_be_ready(managed: Nodes, checkpoint: Path) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "autostart": False}
    values |= {"warm_up_candidates": 1024}  # long enough for the status to be seen
    managed.start(["world_model_node"], {"world_model_node": values})
    robot = Robot(managed.domain)
    try:
        states: list[int] = []
        robot.node.create_subscription(
            ModelStatus, "world_model_node/status", lambda m: states.append(m.state), 20
        )
        wait_for(lambda: robot.node.count_publishers("world_model_node/status") == 1)
        time.sleep(0.5)
        assert change(robot, "world_model_node", Transition.TRANSITION_CONFIGURE)
        assert change(robot, "world_model_node", Transition.TRANSITION_ACTIVATE)
        wait_for(lambda: ModelStatus.READY in states, PATIENCE_S, "READY")
        order = [ModelStatus.LOADING, ModelStatus.WARMING_UP, ModelStatus.READY]
        assert [state for state in dict.fromkeys(states) if state in order] == order
        assert "warm after" in managed.log("world_model_node")
    finally:
        robot.close()


def test_requests_that_wait_are_answered_when_the_node_is_deactivated(
    managed: Nodes, checkpoint: Path
) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "autostart": False, "horizon": 6}
    values |= {"max_history_age": 60.0, "buffer_duration": 60.0}
    managed.start(["planner_node"], {"planner_node": values})
    robot = Robot(managed.domain)
    try:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert change(robot, "planner_node", transition)
        robot.ready("planner_node")
        client = robot.node.create_client(Plan, "planner_node/plan")
        assert client.wait_for_service(PATIENCE_S)
        goal = compressed_message(np.full((32, 32, 3), 90, np.uint8), Header())
        endless = Plan.Request(goal_type=1, goal_image=goal, num_iterations=1000)
        endless.time_budget = duration_message(100.0)
        futures = [client.call_async(endless) for _ in range(3)]
        waits = "all three to come"
        wait_for(lambda: robot.status["planner_node"].requests_waiting == 2, PATIENCE_S, waits)
        assert change(robot, "planner_node", Transition.TRANSITION_DEACTIVATE)
        wait_for(lambda: all(f.done() for f in futures), PATIENCE_S, "all three answers")
        refusals = {CODES["NO_VALID_PLAN"], CODES["NOT_READY"]}
        assert {f.result().error_code for f in futures} <= refusals
        assert change(robot, "planner_node", Transition.TRANSITION_ACTIVATE)
        robot.ready("planner_node")
        assert robot.plan(goal_pose=pose_goal(9.0, 0.0), num_iterations=1).error_code == 0
    finally:
        robot.close()


def test_deactivation_ends_a_plan_within_an_iteration_and_stops_the_robot(
    managed: Nodes, checkpoint: Path
) -> None:
    values = {"checkpoint": str(checkpoint), "device": "cpu", "autostart": False, "horizon": 6}
    values |= {"max_history_age": 60.0, "buffer_duration": 60.0} | NO_CHECKS
    values |= {"publish_velocity": True, "settle_time": 5.0}
    values |= {"max_candidates": 100000, "num_candidates": 16}
    managed.start(["planner_node"], {"planner_node": values})
    robot = Robot(managed.domain)
    robot.velocity = 0.0
    try:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert change(robot, "planner_node", transition)
        executing: list[Bool] = []
        robot.node.create_subscription(Bool, "planner_node/executing", executing.append, LATCHED)
        robot.ready("planner_node")
        begins_to_drive(robot, pose_goal(9.0, 0.0))
        client = robot.node.create_client(Plan, "planner_node/plan")
        assert client.wait_for_service(PATIENCE_S)
        goal = compressed_message(np.full((32, 32, 3), 90, np.uint8), Header())
        endless = Plan.Request(goal_type=1, goal_image=goal, num_candidates=100000)
        endless.time_budget = duration_message(500.0)
        future = client.call_async(endless)
        wait_for(lambda: robot.status["planner_node"].state == ModelStatus.BUSY)
        assert change(robot, "planner_node", Transition.TRANSITION_DEACTIVATE)
        wait_for(future.done, PATIENCE_S, "the answer")
        assert future.result().error_code == CODES["NO_VALID_PLAN"]
        assert "deactivated" in future.result().error_msg
        wait_for(lambda: stopped(robot) and not executing[-1].data, PATIENCE_S, "a stop")
        count = len(robot.commands)
        time.sleep(0.3)
        assert len(robot.commands) == count
    finally:
        robot.close()


def test_a_bad_checkpoint_leaves_a_managed_node_unconfigured(
    managed: Nodes, tmp_path: Path
) -> None:
    values = {"checkpoint": str(tmp_path / "nothing"), "autostart": False}
    managed.start(["world_model_node"], {"world_model_node": values})
    robot = Robot(managed.domain)
    try:
        assert not change(robot, "world_model_node", Transition.TRANSITION_CONFIGURE)
        assert "nothing" in robot.reaches("world_model_node", ModelStatus.ERROR).message
    finally:
        robot.close()


@pytest.mark.parametrize(
    ("node", "values", "named"),
    [
        (MODEL, {"checkpoint": "/nowhere"}, "checkpoint"),
        (MODEL, {"checkpoint": "", "device": "cpu"}, "parameter checkpoint"),
        (MODEL, {"device": "cuda:77", "strict_backend": True}, "cuda:77"),
        (MODEL, {"device": "cpu", "precision": "bf16", "strict_backend": True}, "back end eager"),
        ("planner_node", {"device": "cpu", "horizon": 9}, "parameter horizon: at most 8 steps"),
    ],
)
def test_a_node_that_starts_by_itself_ends_with_code_2(
    managed: Nodes, checkpoint: Path, node: str, values: dict[str, Any], named: str
) -> None:
    given = {"checkpoint": str(checkpoint)} | values
    managed.start([node], {node: given})
    assert managed.processes[node].wait(timeout=PATIENCE_S) == 2
    assert named in managed.log(node)
