"""The shipped SROS 2 policy is that of the nodes as they run; and no node runs without security
where that is asked for."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from ros_harness import DOMAINS, PATIENCE_S, Nodes, Robot, wait_for

from v2w.bringup.ros_environment import config_folder
from v2w.nodes.security_policies import policies

NAMES = ("world_model_node", "planner_node", "simulator_node")


@pytest.fixture
def running(tmp_path: Path, checkpoint: Path) -> Iterator[Robot]:
    pytest.importorskip("vizdoom")
    nodes = Nodes(next(DOMAINS), tmp_path)
    model = {"checkpoint": str(checkpoint), "device": "cpu"}
    nodes.start(
        NAMES,
        {
            "simulator_node": {"image_transport": "both"},
            "world_model_node": model | {"warm_up_candidates": 1},
            "planner_node": model | {"num_candidates": 2, "horizon": 4},
        },
    )
    robot = Robot(nodes.domain, publishes=False)
    try:
        for name in NAMES:
            wait_for(lambda name=name: active(robot, name), PATIENCE_S, name)
        yield robot
    finally:
        robot.close()
        nodes.stop()


def active(robot: Robot, name: str) -> bool:
    state = robot.call(GetState, f"{name}/get_state", GetState.Request()).current_state.id
    return bool(state == State.PRIMARY_STATE_ACTIVE)


def test_the_policy_is_that_of_the_running_graph(running: Robot) -> None:
    shipped = (config_folder() / "policies.xml").read_text()
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=running.context.get_domain_id())
    try:
        reader = rclpy.create_node("reader", context=context)
        wait_for(lambda: set(NAMES) <= set(reader.get_node_names()), PATIENCE_S, "the nodes")
        made = policies(reader)
    finally:
        rclpy.shutdown(context=context)
    assert made == shipped, "python -m v2w.nodes.security_policies beside `v2w up --sim` makes it"
    enclaves = {one.get("path"): one for one in ET.fromstring(made).iter("enclave")}
    assert list(enclaves) == [f"/{name}" for name in (*NAMES, "operator")]

    def allowed(enclave: str, right: str) -> set[str | None]:
        found = enclaves[enclave].findall(f".//*[@{right}='ALLOW']/*")
        return {one.text for one in found}

    assert [e for e in enclaves if "/cmd_vel" in allowed(e, "publish")] == ["/planner_node"]
    assert [e for e in enclaves if "/odom" in allowed(e, "publish")] == ["/simulator_node"]
    assert allowed("/planner_node", "execute") == {"/planner_node/plan"}
    assert "/planner_node/set_parameters" in allowed("/operator", "request")


def test_a_node_that_cannot_be_secured_does_not_start(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no keys here; the wheels' Fast DDS was built without security anyway."""
    monkeypatch.setitem(os.environ, "ROS_SECURITY_ENABLE", "true")
    monkeypatch.setitem(os.environ, "ROS_SECURITY_STRATEGY", "Enforce")
    monkeypatch.setitem(os.environ, "ROS_SECURITY_KEYSTORE", str(tmp_path))
    nodes = Nodes(next(DOMAINS), tmp_path)
    nodes.start(["planner_node"], {"planner_node": {"checkpoint": str(checkpoint)}})
    assert nodes.processes["planner_node"].wait(PATIENCE_S) == 2
    log = nodes.log("planner_node")
    assert "cannot start" in log and "Traceback" not in log
