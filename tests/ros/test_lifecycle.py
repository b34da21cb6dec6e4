from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_harness import DOMAINS, PATIENCE_S, Nodes, Robot, pose_goal, wait_for
from v2w_msgs.msg import ModelStatus


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
    ("values", "named"),
    [
        ({"checkpoint": "/nowhere"}, "checkpoint"),
        ({"checkpoint": "", "device": "cpu"}, "parameter checkpoint"),
    ],
)
def test_a_node_that_starts_by_itself_ends_with_code_2(
    managed: Nodes, values: dict[str, str], named: str
) -> None:
    managed.start(["world_model_node"], {"world_model_node": values})
    assert managed.processes["world_model_node"].wait(timeout=PATIENCE_S) == 2
    assert named in managed.log("world_model_node")
