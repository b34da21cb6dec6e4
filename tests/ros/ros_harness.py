"""A made-up robot and a client for the node tests; the nodes run in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Imagine
from v2w_msgs.srv import Plan as PlanService

from v2w.bringup import node_processes
from v2w.demo.action_client import ThreadedActionClient
from v2w.errors import CODES
from v2w.messages import conversions, images
from v2w.nodes.diagnostics import LATCHED
from v2w.nodes.executor import ThreadedExecutor
from v2w_core.testing import PLANAR_4HZ

NS = 1_000_000_000
#: How long a busy machine may take to start a node, or to answer [s].
PATIENCE_S = 100.0
#: Parameters of a planner whose robot does not move, on a machine that may stand still.
NO_CHECKS = {
    "stall_time": 10.0, "max_deviation": 100.0, "camera_timeout": 60.0, "start_frame_age": 60.0,
    "max_pause": 60.0, "clock_timeout": 10.0, "odometry_timeout": 10.0, "max_plan_age": 600.0,
}  # fmt: skip
#: Ids for the processes of this run, from a random one on: two runs on a machine rarely meet. The
#: ports of domains above 101 are handed out by Linux, and above 232 Fast DDS ends the process.
DOMAINS = (1 + (os.getpid() * 37 + number) % 101 for number in itertools.count())


def wait_for(condition: Callable[[], Any], timeout_s: float = PATIENCE_S, what: str = "") -> Any:
    """The condition's first true value; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what or condition}")


class Nodes:
    """Node processes; the output of each is kept for the failure message."""

    def __init__(self, domain: int, folder: Path) -> None:
        self.domain = domain
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, names: Sequence[str], overrides: node_processes.Overrides) -> None:
        self.run(node_processes.commands(names, overrides=overrides))

    def run(self, commands: dict[str, list[str]]) -> None:
        environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain), "OMP_NUM_THREADS": "1"}
        for name, command in commands.items():
            with (self._folder / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=subprocess.STDOUT
                )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(timeout=PATIENCE_S / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes


class Robot:
    """Publishes camera and odometry at 20 Hz, moving forwards; records velocity commands.

    On a busy machine messages come late, but none is left out and the stamps stay regular.
    """

    def __init__(self, domain: int, compressed: bool = False, publishes: bool = True) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test_robot", context=self.context)
        self.executor = ThreadedExecutor(3, context=self.context)
        self.executor.add_node(self.node)
        self.compressed = compressed
        kind, topic = (
            (CompressedImage, "image_raw/compressed") if compressed else (Image, "image_raw")
        )
        self._camera = self.node.create_publisher(kind, topic, qos_profile_sensor_data)
        self._odometry = self.node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
        self.commands: list[Twist] = []
        self.node.create_subscription(Twist, "cmd_vel", self.commands.append, 10)
        self.status: dict[str, ModelStatus] = {}
        for name in ("world_model_node", "planner_node"):
            self.node.create_subscription(
                ModelStatus, f"{name}/status", lambda m, n=name: self.status.update({n: m}), LATCHED
            )
        self.camera_on = self.odometry_on = publishes
        self.encoding = "rgb8"
        self.offset_s = 0.0
        self.pose = np.zeros(3)
        self.velocity = 0.4
        self._rng = np.random.default_rng(0)
        self._closed = threading.Event()
        for target in (self._spin, self._publish):
            threading.Thread(target=target, daemon=True).start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def _publish(self) -> None:
        stamp = self.node.get_clock().now().nanoseconds
        while not self._closed.wait(0.01):
            while stamp + NS // 20 <= self.node.get_clock().now().nanoseconds:
                stamp += NS // 20
                self._tick(stamp + round(self.offset_s * NS))

    def _tick(self, stamp: int) -> None:
        self.pose[0] += self.velocity * 0.05
        if self.odometry_on:
            odometry = Odometry(
                header=conversions.header_message(stamp, "odom"), child_frame_id="base_link"
            )
            odometry.pose.pose = conversions.pose_message(*self.pose)
            self._odometry.publish(odometry)
        if self.camera_on:
            frame = self._rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            header = conversions.header_message(stamp, "camera")
            make = images.compressed_message if self.compressed else images.image_message
            message = make(frame, header)
            if not self.compressed:
                message.encoding = self.encoding
            self._camera.publish(message)

    def ready(self, node: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the node reports READY."""
        self.reaches(node, ModelStatus.READY, timeout_s)

    def reaches(self, node: str, state: int, timeout_s: float = PATIENCE_S) -> ModelStatus:
        wait_for(
            lambda: node in self.status and self.status[node].state == state,
            timeout_s,
            f"{node} in state {state}; last: {self.status.get(node)}",
        )
        return self.status[node]

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """The service's answer."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request)
        wait_for(future.done, timeout_s, f"answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def imagine(self, **fields: Any) -> Any:
        return self.call(Imagine, "world_model_node/imagine", Imagine.Request(**fields))

    def imagine_from_frames(self, **fields: Any) -> Any:
        """As imagine; asked again where a busy machine has lost camera images."""
        answer = self.imagine(**fields)
        while answer.error_code == CODES["HISTORY_UNAVAILABLE"]:
            self.ready("world_model_node")
            answer = self.imagine(**fields)
        return answer

    def plan(self, **fields: Any) -> Any:
        return self.call(PlanService, "planner_node/plan", PlanService.Request(**fields))

    def send_goal(self, goal: Any, on_feedback: Callable[[Any], None] | None = None) -> Any:
        """The handle of an accepted goal of the plan action."""
        client = ThreadedActionClient(self.node, PlanAction, "planner_node/plan")
        assert client.wait_for_server(PATIENCE_S)
        future = client.send_goal_async(goal, feedback_callback=on_feedback)
        wait_for(future.done, PATIENCE_S, "the goal to be accepted")
        assert future.result().accepted
        return future.result()

    def plans(self, goal: Any, seen: list[Any]) -> Any:
        """The handle of a goal once its first feedback is in ``seen``.

        A busy machine may lose camera images: where there are too few, the goal is sent again.
        """
        while True:
            handle = self.send_goal(goal, seen.append)
            result = handle.get_result_async()
            wait_for(lambda r=result: seen or r.done(), PATIENCE_S, "the first iteration")
            if seen:
                return handle
            answer = result.result().result
            assert answer.error_code == CODES["HISTORY_UNAVAILABLE"], answer.error_msg
            self.ready("planner_node")

    def close(self) -> None:
        self._closed.set()
        time.sleep(0.05)
        self.executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def sequence(actions: Any, **changes: Any) -> Any:
    """An ActionSequence of the tiny model's action space."""
    message = conversions.sequence_message(actions, PLANAR_4HZ, 0, "base_link")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def pose_goal(x: float, y: float, yaw: float = 0.0, frame_id: str = "") -> Any:
    """A PoseStamped."""
    from geometry_msgs.msg import PoseStamped

    header = conversions.header_message(0, frame_id)
    return PoseStamped(header=header, pose=conversions.pose_message(x, y, yaw))


def stopped(robot: Robot) -> bool:
    """Whether the last velocity command that it got was a stop."""
    last = robot.commands[-1] if robot.commands else None
    return last is not None and last.linear.x == last.linear.y == last.angular.z == 0.0
