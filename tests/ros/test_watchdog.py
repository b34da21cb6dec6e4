"""The watchdog between planner and base: a planner that is killed while driving stops the base.

The checkpoint claims bounds of 1,000 m a step: the limits of the node are the only ones.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from base_robot import BaseRobot
from fault_harness import DRIVES, LATE_S, NAME, drives, fine, report
from ros_harness import DOMAINS, Nodes, wait_for
from v2w_msgs.action import Plan as PlanAction

from v2w.bringup import node_processes
from v2w.bringup.pipeline import WATCHDOG
from v2w.demo.action_client import ThreadedActionClient

TIMEOUT_S = 0.25  # command_timeout's default


@pytest.fixture(scope="module")
def wild(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "wild"
    shutil.copytree(checkpoint, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["action"] |= {"low": [-1000.0] * 3, "high": [1000.0] * 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def pipeline(wild: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    running = Nodes(next(DOMAINS), tmp_path_factory.mktemp("logs"))
    values = {NAME: DRIVES | {"checkpoint": str(wild)}}
    running.run(node_processes.commands([NAME], overrides=values, pipeline=WATCHDOG))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def robot(pipeline: Nodes) -> Iterator[BaseRobot]:
    base = BaseRobot(pipeline.domain)
    base.client = ThreadedActionClient(base.node, PlanAction, f"{NAME}/plan")
    wait_for(lambda: fine(base), 60.0, "all checks")
    yield base
    base.close()


def test_a_plan_is_driven_through_it_within_the_limits(robot: BaseRobot) -> None:
    _, result = drives(robot)
    wait_for(result.done, 20.0, "the end")
    assert result.result().result.driven, result.result().result.error_msg
    wait_for(lambda: not robot.moving, 5.0, "a stop")
    speeds = [math.hypot(twist.linear.x, twist.linear.y) for _, twist in robot.commands]
    assert 0.3 < max(speeds) <= 0.5 + 1e-6
    assert max(abs(twist.angular.z) for _, twist in robot.commands) <= 1.0 + 1e-6


def test_a_planner_that_is_killed_while_driving_stops_the_base(
    robot: BaseRobot, pipeline: Nodes
) -> None:
    wait_for(lambda: fine(robot), 20.0, "all checks")
    drives(robot)
    measured = robot.stops(lambda: pipeline.processes[NAME].send_signal(signal.SIGKILL))
    report("SIGKILL of the planner, behind watchdog_node", measured)
    assert measured[0] < TIMEOUT_S + LATE_S
    assert "stopped: no command for 0.2" in pipeline.log("watchdog_node")
    assert pipeline.processes["watchdog_node"].poll() is None
