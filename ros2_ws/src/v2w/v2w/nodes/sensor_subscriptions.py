"""Camera and odometry of a node, taken into its history."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from v2w.messages import conversions, images
from v2w.navigation.sensor_history import HistoryBuffer
from v2w_core.errors import V2WError

if TYPE_CHECKING:
    from v2w.nodes.model_node import ModelNode

#: How often the camera's topic is looked for while nobody publishes it [s].
LOOK_S = 0.2


class Intake:
    """Subscribes as the node's parameters say, until it is closed.

    Camera and odometry have callback groups of their own, so that no request starves them.
    """

    def __init__(self, node: ModelNode, history: HistoryBuffer) -> None:
        self._node, self._history = node, history
        self._qos = QoSProfile(
            depth=node.get_parameter("queue_depth").value,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._camera_group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[Any] = []
        self._watch: Any = None
        topic = node.get_parameter("odom_topic").value
        self._listen(Odometry, topic, self._on_odometry, MutuallyExclusiveCallbackGroup())
        transport = node.get_parameter("image_transport").value
        if transport == "auto":
            self._watch = node.create_timer(LOOK_S, self._choose_transport)
        else:
            self._listen_to_camera(transport)

    def close(self) -> None:
        """Hear nothing more."""
        self._stop_watching()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._node.destroy_timer(self._watch)
            self._watch = None

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], group: Any) -> None:
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
        node = self._node
        topic = node.get_parameter("image_topic").value
        for transport, name in (("raw", topic), ("compressed", f"{topic}/compressed")):
            resolved = node.resolve_topic_name(name)
            if self._watch is not None and node.count_publishers(resolved):
                self._stop_watching()
                self._listen_to_camera(transport)
                node.get_logger().info(f"camera: {resolved}")
                return

    def _listen_to_camera(self, transport: str) -> None:
        topic = self._node.get_parameter("image_topic").value
        kind, load = Image, images.rgb_from_image
        if transport == "compressed":
            topic, kind, load = f"{topic}/compressed", CompressedImage, images.rgb_from_compressed
        self._listen(kind, topic, partial(self._on_image, load), self._camera_group)

    def _on_image(self, load: Callable[[Any], Any], message: Any) -> None:
        stamp = conversions.stamp_ns(message.header.stamp)
        if not self._history.add_frame(stamp, partial(load, message)):
            self._on_time_jump("camera")

    def _on_odometry(self, message: Odometry) -> None:
        node = self._node
        node.odom_frame = message.header.frame_id or node.odom_frame
        node.base_frame = message.child_frame_id or node.base_frame
        try:
            x, y, z, yaw = conversions.planar_pose(message.pose.pose)
        except V2WError as error:
            self._history.counters.dropped += 1
            node.get_logger().warning(f"odometry: {error}", throttle_duration_sec=5.0)
            return
        stamp = conversions.stamp_ns(message.header.stamp)
        if not self._history.add_odometry(stamp, x, y, z, yaw):
            self._on_time_jump("odometry")

    def _on_time_jump(self, source: str) -> None:
        self._node.get_logger().warning(f"{source}: time jumped backwards, the history was cleared")
        self._node.on_time_jump()
