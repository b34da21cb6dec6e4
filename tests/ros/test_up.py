from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.qos import qos_profile_sensor_data
from ros_harness import DOMAINS, PATIENCE_S, Robot, wait_for
from sensor_msgs.msg import Image
from v2w_msgs.srv import Teleport

from v2w.messages.conversions import planar_pose
from v2w.messages.images import rgb_from_image
from v2w_core.cli import main


class Up:
    """A running ``v2w up``; its output is collected in a file."""

    def __init__(self, log: Path, domain: int, *arguments: str) -> None:
        self.path, self.domain = log, domain
        command = [
            sys.executable,
            "-m",
            "v2w_core.cli",
            "up",
            "--domain-id",
            str(domain),
            *arguments,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def children(self) -> dict[str, psutil.Process]:
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            match = re.search(r"v2w\.nodes\.(\w+_node)", " ".join(child.cmdline()))
            if match:
                found[match.group(1)] = child
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def up(tmp_path: Path, checkpoint: Path) -> Iterator[Up]:
    running = Up(tmp_path / "up.log", next(DOMAINS), "--checkpoint", str(checkpoint))
    try:
        wait_for(lambda: running.log.count("loaded in") == 2, PATIENCE_S, "both nodes")
        yield running
    finally:
        running.close()


def test_ctrl_c_stops_every_node(up: Up) -> None:
    children = up.children()
    assert set(children) == {"world_model_node", "planner_node"}
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=PATIENCE_S) == 0
    assert not any(child.is_running() for child in children.values())
    assert "Traceback" not in up.log


def test_a_node_that_dies_ends_the_others_and_is_named(up: Up) -> None:
    children = up.children()
    children["planner_node"].kill()
    assert up.process.wait(timeout=PATIENCE_S) == 1
    assert "planner_node died (signal SIGKILL)" in up.log
    assert not children["world_model_node"].is_running()


def test_a_node_that_a_peer_shuts_down_is_noticed(up: Up) -> None:
    children = up.children()
    robot = Robot(up.domain, publishes=False)
    try:
        shutdown = Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN)
        request = ChangeState.Request(transition=shutdown)
        assert robot.call(ChangeState, "planner_node/change_state", request).success
        assert up.process.wait(timeout=PATIENCE_S) == 3
    finally:
        robot.close()
    assert "planner_node was shut down through its lifecycle; stopping the others" in up.log
    assert not children["world_model_node"].is_running()


def test_a_node_that_cannot_start_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    running = Up(tmp_path / "log", next(DOMAINS), "--checkpoint", str(tmp_path / "empty"))
    assert running.process.wait(timeout=PATIENCE_S) == 2
    assert "cannot start: checkpoint" in running.log


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--set", "planner_node.num_candidates=0"), "num_candidates"),
        (("--set", "planner_node.speed=1"), "a parameter of planner_node"),
        (("--set", "robot.speed=1"), "NODE.NAME=VALUE"),
        (("--params-file", "/nowhere.yaml"), "a file that exists"),
    ],
)
def test_bad_arguments_exit_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], named: str
) -> None:
    assert main(["up", "--checkpoint", "x", *arguments]) == 2
    assert named in capsys.readouterr().err


class Watcher:
    """Listens to the simulated robot and steers it."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        robot.camera_on = robot.odometry_on = False
        self.images: list[Image] = []
        self.odometry: list[Odometry] = []
        node = robot.node
        node.create_subscription(Image, "image_raw", self.images.append, qos_profile_sensor_data)
        node.create_subscription(Odometry, "odom", self.odometry.append, qos_profile_sensor_data)
        self.commands = node.create_publisher(Twist, "cmd_vel", 1)

    @property
    def pose(self) -> np.ndarray:
        return np.array(planar_pose(self.odometry[-1].pose.pose))[[0, 1, 3]]

    @property
    def stamp_s(self) -> float:
        stamp = self.odometry[-1].header.stamp
        return stamp.sec + stamp.nanosec * 1e-9

    def teleport(self, **fields: float | bool) -> Teleport.Response:
        return self.robot.call(Teleport, "simulator_node/teleport", Teleport.Request(**fields))


def test_the_simulated_robot(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    domain = next(DOMAINS)
    running = Up(tmp_path / "log", domain, "--nodes", "simulator_node", "--checkpoint", "unused")
    robot = Robot(domain)
    try:
        watcher = Watcher(robot)
        wait_for(lambda: len(watcher.images) > 3, PATIENCE_S, "images")
        assert rgb_from_image(watcher.images[-1]).shape == (120, 160, 3)
        stamps = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in watcher.images]
        assert np.diff(stamps[-3:]) == pytest.approx([1 / 12] * 2, abs=1e-3)
        assert not watcher.teleport(x=-50.0).success
        place = watcher.teleport(random=True, seed=4)
        assert place.success
        assert (place.x, place.y) == (watcher.teleport(random=True, seed=4).x, place.y)
        time.sleep(0.5)
        before = watcher.pose
        turn = Twist()
        turn.angular.z = 0.5
        began, stamp = time.monotonic(), watcher.stamp_s

        def turned() -> bool:
            watcher.commands.publish(turn)
            return watcher.pose[2] - before[2] > 0.4

        wait_for(turned, PATIENCE_S, "a turn")
        seconds = max(time.monotonic() - began, watcher.stamp_s - stamp)
        time.sleep(1.0)
        moved = watcher.pose - before
        assert 0.4 < moved[2] < 0.5 * (seconds + 1.0), "at 0.5 rad/s, until the command timed out"
        assert np.hypot(*moved[:2]) < 0.05
        rest = watcher.pose
        time.sleep(0.5)
        assert watcher.pose == pytest.approx(rest, abs=1e-3)
    finally:
        robot.close()
        running.close()
    assert "Traceback" not in running.log
