"""The camera and odometry subscriptions that fill a history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from v2w.inference.faults import one_line
from v2w.messages import conversions, images
from v2w.navigation.camera_format import kind_of
from v2w.navigation.sensor_history import HistoryBuffer

#: How often the node looks for a publisher of camera images while there is none [s].
LOOK_S = 0.2


class SensorObserver(Protocol):
    """Looks at every message before the history gets it."""

    def frame(self, message: Any, stamp_ns: int) -> bool:
        """Whether the history may keep this camera message."""

    def odometry(self, stamp_ns: int, pose: tuple[float, float, float, float], frame: str) -> bool:
        """Whether the history may keep this pose (x m, y m, z m, yaw rad)."""

    def bad_odometry(self, reason: str) -> None:
        """A message came whose pose cannot be read."""


class SensorSubscriptions:
    """Camera and odometry, from :meth:`open` to :meth:`close`; may be opened again.

    Each has a separate callback group, so that no request delays them. Images are kept as
    they came and decoded only when the history needs them.

    Args:
        node: has the parameters image_topic, image_transport, odom_topic and queue_depth.
        history: gets the frames and the poses.
        on_time_jump: called after stamps went back so far that the history was cleared.
        observer: looks at every message first; None: nobody does.

    Attributes:
        odom_frame: frame of the poses, from the newest odometry message.
        base_frame: the body frame, from the newest odometry message.
    """

    def __init__(
        self,
        node: Node,
        history: HistoryBuffer,
        on_time_jump: Callable[[], None],
        observer: SensorObserver | None = None,
    ) -> None:
        self.odom_frame, self.base_frame = "odom", "base_link"
        self._node, self._history, self._on_time_jump = node, history, on_time_jump
        self._observer = observer
        self._qos = QoSProfile(
            depth=node.get_parameter("queue_depth").value,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._image_topic = node.get_parameter("image_topic").value
        self._camera_group = MutuallyExclusiveCallbackGroup()
        self._odometry_group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[Any] = []
        self._timer: Any = None  # looks for a camera while no transport is chosen

    def open(self) -> None:
        """Subscribe; with image_transport "auto" to the camera as soon as it has a publisher."""
        topic = self._node.get_parameter("odom_topic").value
        self._subscribe(Odometry, topic, self._on_odometry, self._odometry_group)
        transport = self._node.get_parameter("image_transport").value
        if transport == "auto":
            self._timer = self._node.create_timer(
                LOOK_S, self._choose_transport, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )
        else:
            self._subscribe_to_camera(transport)

    def close(self) -> None:
        """Remove the subscriptions."""
        self._stop_looking()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def _subscribe(
        self, kind: Any, topic: str, callback: Callable[[Any], None], group: Any
    ) -> None:
        subscription = self._node.create_subscription(
            kind,
            topic,
            callback,
            self._qos,
            callback_group=group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._subscriptions.append(subscription)

    def _choose_transport(self) -> None:
        node, topic = self._node, self._image_topic
        for transport, name in (("raw", topic), ("compressed", f"{topic}/compressed")):
            resolved = node.resolve_topic_name(name)
            if self._timer is not None and node.count_publishers(resolved):
                self._stop_looking()
                self._subscribe_to_camera(transport)
                node.get_logger().info(f"camera: {resolved}")
                return

    def _subscribe_to_camera(self, transport: str) -> None:
        topic, kind, load = self._image_topic, Image, images.rgb_from_image
        if transport == "compressed":
            topic, kind, load = f"{topic}/compressed", CompressedImage, images.rgb_from_compressed
        self._subscribe(kind, topic, partial(self._on_image, load), self._camera_group)

    def _on_image(self, load: Callable[[Any], Any], message: Any) -> None:
        history, decode = self._history, partial(load, message)
        try:
            stamp = conversions.stamp_ns(message.header.stamp)
            if self._observer is not None and not self._observer.frame(message, stamp):
                history.count_dropped()
                return
            history.camera.check(kind_of(message), decode)
            in_order = history.add_frame(stamp, decode, len(message.data))
        except Exception as error:
            self._drop("camera", error)
            return
        if not in_order:
            self._report_time_jump("camera")

    def _on_odometry(self, message: Odometry) -> None:
        try:
            x, y, z, yaw = conversions.planar_pose(message.pose.pose)
            stamp = conversions.stamp_ns(message.header.stamp)
            if self._observer is not None:
                frames = f"{message.header.frame_id} to {message.child_frame_id}"
                if not self._observer.odometry(stamp, (x, y, z, yaw), frames):
                    self._history.count_dropped()
                    return
            in_order = self._history.add_odometry(stamp, x, y, z, yaw)
        except Exception as error:
            self._drop("odometry", error)
            if self._observer is not None:
                self._observer.bad_odometry(str(error))
            return
        self.odom_frame = message.header.frame_id or self.odom_frame
        self.base_frame = message.child_frame_id or self.base_frame
        if not in_order:
            self._report_time_jump("odometry")

    def _drop(self, source: str, error: Exception) -> None:
        """Count and log a message that cannot be used; whatever is wrong with it, the next may do.

        The robot stops when none comes that does: a drive needs fresh odometry.
        """
        self._history.count_dropped()
        text = f"{source}: message dropped: {one_line(error)}"
        self._node.get_logger().warning(text, throttle_duration_sec=5.0)

    def _report_time_jump(self, source: str) -> None:
        text = f"{source}: time jumped backwards, the history was cleared"
        self._node.get_logger().warning(text, throttle_duration_sec=1.0)
        self._on_time_jump()
