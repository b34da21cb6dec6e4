from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_harness import (
    DOMAINS,
    NO_CHECKS,
    PATIENCE_S,
    Nodes,
    Robot,
    begins_to_drive,
    pose_goal,
    sequence,
    stopped,
    wait_for,
)
from sensor_msgs.msg import CompressedImage
from v2w_msgs.msg import ModelStatus

from v2w.bringup import node_processes
from v2w.errors import CODES
from v2w.messages.images import compressed_message

NODE, PLANNER = "world_model_node", "planner_node"
SCRIPT = Path(__file__).parent / "node_that_loses_its_device.py"
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))
Start = Callable[..., tuple[Nodes, Robot, Path]]


@pytest.fixture
def start(tmp_path: Path, checkpoint: Path) -> Iterator[Start]:
    """Starts a node; the device is lost once the path that comes with it is there."""
    nodes = Nodes(next(DOMAINS), tmp_path)
    robots = []

    def started(name: str, strict: bool, **more: Any) -> tuple[Nodes, Robot, Path]:
        lost = tmp_path / "lost"
        values = {"checkpoint": str(checkpoint), "device": "cpu", "strict_backend": strict}
        values |= {"status_period": 0.2, "max_history_age": 60.0, "buffer_duration": 60.0} | more
        python, _, _, *arguments = node_processes.commands([name], overrides={name: values})[name]
        command = [python, str(SCRIPT), name, str(lost), *arguments, "-p", "backend:=onnx"]
        environment = os.environ | {"ROS_DOMAIN_ID": str(nodes.domain), "OMP_NUM_THREADS": "1"}
        with (tmp_path / f"{name}.log").open("wb") as log:
            nodes.processes[name] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        robots.append(Robot(nodes.domain))
        robots[0].ready(name)
        assert robots[0].status[name].backend == "dying"
        return nodes, robots[0], lost

    yield started
    for robot in robots:
        robot.close()
    nodes.stop()


def test_a_node_falls_back_to_the_cpu_and_answers(start: Start) -> None:
    nodes, robot, lost = start(NODE, False)
    assert robot.imagine_from_frames(candidates=[sequence(FORWARD)]).error_code == 0
    lost.touch()
    answer = robot.imagine_from_frames(candidates=[sequence(FORWARD)])
    assert answer.error_code == 0, answer.error_msg
    wait_for(lambda: robot.status[NODE].degraded, PATIENCE_S, "the status to say so")
    seen: list[DiagnosticArray] = []
    robot.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, 10)
    robot.ready(NODE)
    status = robot.status[NODE]
    assert (status.backend, status.device, status.degraded) == ("eager", "cpu", True)
    assert "unspecified launch failure" in status.message
    assert "falling back to eager on the CPU" in nodes.log(NODE)
    assert robot.imagine_from_frames(candidates=[sequence(FORWARD)]).error_code == 0
    wait_for(lambda: seen, PATIENCE_S, "diagnostics")
    assert seen[-1].status[0].level == DiagnosticStatus.WARN


def test_a_strict_node_answers_with_an_error_and_says_why(start: Start) -> None:
    nodes, robot, lost = start(NODE, True)
    lost.touch()
    assert (
        robot.imagine_from_frames(candidates=[sequence(FORWARD)]).error_code == CODES["MODEL_ERROR"]
    )
    status = robot.reaches(NODE, ModelStatus.ERROR)
    assert "unspecified launch failure" in status.message
    answer = robot.imagine_from_frames(candidates=[sequence(FORWARD)])
    assert answer.error_code == CODES["MODEL_ERROR"]
    assert "unspecified launch failure" in answer.error_msg
    assert nodes.processes[NODE].poll() is None, f"{sys.executable} goes on: a manager may act"


def test_a_strict_planner_stops_the_robot_when_its_device_is_lost(start: Start) -> None:
    driving = {"horizon": 6, "publish_velocity": True, "settle_time": 5.0, "execute_steps": 6}
    driving |= NO_CHECKS
    nodes, robot, lost = start(PLANNER, True, **driving)
    robot.velocity = 0.0
    ahead = pose_goal(1.0, 0.0, frame_id="base_link")
    small = {"num_iterations": 2, "num_candidates": 8}
    begins_to_drive(robot, ahead)
    lost.touch()
    frame = np.full((32, 32, 3), 90, np.uint8)
    goal: CompressedImage = compressed_message(frame, ahead.header)
    answer = robot.plan(goal_type=1, goal_image=goal, **small)
    assert answer.error_code == CODES["MODEL_ERROR"], answer.error_msg
    wait_for(lambda: stopped(robot), PATIENCE_S, "a stop")
    assert "stopped: the device was lost" in nodes.log(PLANNER)
