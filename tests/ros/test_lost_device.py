from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_harness import DOMAINS, PATIENCE_S, Nodes, Robot, sequence, wait_for
from v2w_msgs.msg import ModelStatus

from v2w import graph
from v2w.errors import CODES

NODE = "world_model_node"
SCRIPT = Path(__file__).parent / "node_that_loses_its_device.py"
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))
#: The trial rollout takes one step a denoising step; then some of the first request.
STEPS = 12


@pytest.fixture
def start(tmp_path: Path, checkpoint: Path) -> Iterator[Callable[[bool], tuple[Nodes, Robot]]]:
    nodes = Nodes(next(DOMAINS), tmp_path)
    robots = []

    def started(strict: bool) -> tuple[Nodes, Robot]:
        values = {"checkpoint": str(checkpoint), "device": "cpu", "strict_backend": strict}
        values |= {"status_period": 0.2, "max_history_age": 60.0, "buffer_duration": 60.0}
        python, _, _, *arguments = graph.commands([NODE], overrides={NODE: values})[NODE]
        command = [python, str(SCRIPT), str(STEPS), *arguments, "-p", "backend:=onnx"]
        environment = os.environ | {"ROS_DOMAIN_ID": str(nodes.domain), "OMP_NUM_THREADS": "1"}
        with (tmp_path / f"{NODE}.log").open("wb") as log:
            nodes.processes[NODE] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        robots.append(Robot(nodes.domain))
        robots[0].ready(NODE)
        assert robots[0].status[NODE].backend == "dying"
        return nodes, robots[0]

    yield started
    for robot in robots:
        robot.close()
    nodes.stop()


def until_it_dies(robot: Robot) -> int:
    """The error_code of the request in which the device was lost, or of the one after it."""

    def gone() -> bool:
        status = robot.status[NODE]
        return bool(status.degraded or status.state == ModelStatus.ERROR)

    code = 0
    for _ in range(STEPS):
        code = robot.imagine(candidates=[sequence(FORWARD)]).error_code
        if code or gone():
            break
    wait_for(gone, PATIENCE_S, "the status to say so")
    return code


def test_a_node_falls_back_to_the_cpu_and_answers(
    start: Callable[[bool], tuple[Nodes, Robot]],
) -> None:
    nodes, robot = start(False)
    assert until_it_dies(robot) == 0
    seen: list[DiagnosticArray] = []
    robot.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, 10)
    robot.ready(NODE)
    status = robot.status[NODE]
    assert (status.backend, status.device, status.degraded) == ("eager", "cpu", True)
    assert "unspecified launch failure" in status.message
    assert "falling back to eager on the CPU" in nodes.log(NODE)
    assert robot.imagine(candidates=[sequence(FORWARD)]).error_code == 0
    wait_for(lambda: seen, PATIENCE_S, "diagnostics")
    assert seen[-1].status[0].level == DiagnosticStatus.WARN


def test_a_strict_node_answers_with_an_error_and_says_why(
    start: Callable[[bool], tuple[Nodes, Robot]],
) -> None:
    nodes, robot = start(True)
    assert until_it_dies(robot) == CODES["MODEL_ERROR"]
    status = robot.reaches(NODE, ModelStatus.ERROR)
    assert "unspecified launch failure" in status.message
    answer = robot.imagine(candidates=[sequence(FORWARD)])
    assert answer.error_code == CODES["MODEL_ERROR"]
    assert "unspecified launch failure" in answer.error_msg
    assert nodes.processes[NODE].poll() is None, f"{sys.executable} goes on: a manager may act"
