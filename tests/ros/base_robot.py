"""A robot for fault tests: a base that follows cmd_vel, with a camera, and switches for faults."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from ros_harness import NS, wait_for
from sensor_msgs.msg import CompressedImage, Image
from v2w_msgs.msg import ModelStatus

from v2w.messages import conversions, images
from v2w.nodes.diagnostics import LATCHED
from v2w.nodes.executor import ThreadedExecutor

RATE_HZ = 30.0


class BaseRobot:
    """Integrates the newest command at 30 Hz; stops by itself after 1 s without one.

    Attributes:
        commands: (time.monotonic, command) as they came.
        true_pose: where it really is.
        change_image, change_odometry: called with each message; returning False drops it.
        blocked: commands move it no more.
    """

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("base_robot", context=self.context)
        self.executor = ThreadedExecutor(3, context=self.context)
        self.executor.add_node(self.node)
        self.compressed, self._lock = False, threading.Lock()
        self._camera = self._camera_publisher()
        self._odometry = self.node.create_publisher(Odometry, "odom", qos_profile_sensor_data)
        self.node.create_subscription(Twist, "cmd_vel", self._on_command, 10)
        self.status: ModelStatus | None = None
        self.node.create_subscription(ModelStatus, "planner_node/status", self._on_status, LATCHED)
        self.commands: list[tuple[float, Twist]] = []
        self.true_pose = np.zeros(3)
        self.reset()
        self._rng = np.random.default_rng(0)
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._spin, self._live)]
        for thread in self._threads:
            thread.start()

    def _camera_publisher(self) -> Any:
        kind, topic = (CompressedImage, "/compressed") if self.compressed else (Image, "")
        return self.node.create_publisher(kind, f"image_raw{topic}", qos_profile_sensor_data)

    def compress(self) -> None:
        """Send sensor_msgs/CompressedImage from here on."""
        with self._lock:
            self.node.destroy_publisher(self._camera)
            self.compressed = True
            self._camera = self._camera_publisher()

    def reset(self) -> None:
        self.change_image: Callable[[Any], Any] = lambda message: None
        self.change_odometry: Callable[[Odometry], Any] = lambda message: None
        self.blocked = False

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def _on_command(self, message: Twist) -> None:
        self.commands.append((time.monotonic(), message))

    def _on_status(self, message: ModelStatus) -> None:
        self.status = message

    def _live(self) -> None:
        before = time.monotonic()
        while not self._closed.wait(max(0.0, before + 1.0 / RATE_HZ - time.monotonic())):
            now = time.monotonic()
            self._move(min(now - before, 0.2), now)
            before = now
            self._publish(self.node.get_clock().now().nanoseconds)

    def _move(self, seconds: float, now: float) -> None:
        if self.blocked or not self.commands or now - self.commands[-1][0] > 1.0:
            return
        twist = self.commands[-1][1]
        x, y, yaw = self.true_pose
        vx, vy = twist.linear.x, twist.linear.y
        self.true_pose = np.array([
            x + seconds * (math.cos(yaw) * vx - math.sin(yaw) * vy),
            y + seconds * (math.sin(yaw) * vx + math.cos(yaw) * vy),
            yaw + seconds * twist.angular.z,
        ])  # fmt: skip

    def _publish(self, stamp: int) -> None:
        odometry = Odometry(
            header=conversions.header_message(stamp, "odom"), child_frame_id="base_link"
        )
        odometry.pose.pose = conversions.pose_message(*self.true_pose)
        if self.change_odometry(odometry) is not False:
            self._odometry.publish(odometry)
        frame = self._rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        with self._lock:
            make = images.compressed_message if self.compressed else images.image_message
            image = make(frame, conversions.header_message(stamp, "camera"))
            if self.change_image(image) is not False:
                self._camera.publish(image)

    @property
    def moving(self) -> bool:
        """Whether the newest command is one to move."""
        if not self.commands:
            return False
        twist = self.commands[-1][1]
        return bool(twist.linear.x or twist.linear.y or twist.angular.z)

    def ready(self) -> None:
        wait_for(
            lambda: self.status is not None and self.status.state == ModelStatus.READY,
            what=f"READY; last: {self.status}",
        )

    def stops(self, fault: Callable[[], Any], within_s: float = 3.0) -> tuple[float, float]:
        """(seconds, metres) from the fault to the zero command."""
        count, begin, here = len(self.commands), time.monotonic(), self.true_pose.copy()
        fault()

        def stop() -> float:
            return next(
                (
                    when
                    for when, twist in self.commands[max(0, count - 1) :]
                    if when >= begin and not (twist.linear.x or twist.linear.y or twist.angular.z)
                ),
                0.0,
            )

        when = wait_for(stop, within_s, "a zero command")
        metres = float(np.hypot(*(self.true_pose - here)[:2]))
        return when - begin, metres

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = 30.0) -> Any:
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request)
        wait_for(future.done, timeout_s, f"answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads[1:]:
            thread.join(2.0)
        self.executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def seconds(stamp: Any) -> float:
    return conversions.stamp_ns(stamp) / NS
