"""The camera and odometry subscriptions that fill a history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from v2w.inference.faults import one_line
from v2w.messages import conversions, images
from v2w.navigation.camera_format import kind_of
from v2w.navigation.sensor_history import HistoryBuffer

#: How often the node looks for a publisher of camera images while there is none [s].
LOOK_S = 0.2
#: Messages that are queued of a camera of any size.
SHORTEST_QUEUE = 2


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
        node: has the parameters image_topic, image_transport, odom_topic, queue_depth, queue_mib.
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
        self._depth = node.get_parameter("queue_depth").value
        self._queue_bytes = node.get_parameter("queue_mib").value * 2**20
        self._image_topic = node.get_parameter("image_topic").value
        self._camera_group = MutuallyExclusiveCallbackGroup()
        self._odometry_group = MutuallyExclusiveCallbackGroup()
        self._lock = threading.RLock()  # open and close, and what subscribes in between
        self._is_open = False
        self._odometry: Any = None
        self._camera: Any = None
        self._camera_depth = self._depth
        self._timer: Any = None  # looks for a camera while no transport is chosen

    def open(self) -> None:
        """Subscribe; with image_transport "auto" to the camera as soon as it has a publisher."""
        topic = self._node.get_parameter("odom_topic").value
        transport = self._node.get_parameter("image_transport").value
        with self._lock:
            self._is_open, self._camera_depth = True, self._depth
            self._odometry = self._subscription(
                Odometry, topic, self._on_odometry, self._odometry_group
            )
            if transport == "auto":
                self._timer = self._node.create_timer(
                    LOOK_S, self._choose_transport, clock=Clock(clock_type=ClockType.STEADY_TIME)
                )
            else:
                self._subscribe_to_camera(transport)

    def close(self) -> None:
        """Remove the subscriptions."""
        with self._lock:
            self._is_open = False
            self._stop_looking()
            for subscription in (self._odometry, self._camera):
                if subscription is not None:
                    self._node.destroy_subscription(subscription)
            self._odometry = self._camera = None

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def _subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], group: Any, depth: int = 0
    ) -> Any:
        """A subscription; parameters qos_overrides decide all but a depth that is given here."""
        policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.RELIABILITY]
        if not depth:
            policies.append(QoSPolicyKind.DEPTH)
        qos = QoSProfile(  # of its own: rclpy writes what overrides say into it
            depth=depth or self._depth,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        return self._node.create_subscription(
            kind, topic, callback, qos, callback_group=group,
            qos_overriding_options=QoSOverridingOptions(policies),
        )  # fmt: skip

    def _fit_queue(self, transport: str, num_bytes: int) -> None:
        """Subscribe with a shorter queue where messages of this size would take too much memory.

        The middleware keeps memory for as many of the largest message as the queue is deep.
        """
        depth = max(SHORTEST_QUEUE, min(self._camera_depth, self._queue_bytes // max(1, num_bytes)))
        with self._lock:
            if not self._is_open or self._camera is None or depth >= self._camera_depth:
                return
            self._camera_depth = depth
            self._node.destroy_subscription(self._camera)
            self._subscribe_to_camera(transport, depth)
        self._node.get_logger().info(
            f"camera: messages of {num_bytes / 2**20:.1f} MiB, {depth} are queued (queue_mib)"
        )

    def _choose_transport(self) -> None:
        node, topic = self._node, self._image_topic
        for transport, name in (("raw", topic), ("compressed", f"{topic}/compressed")):
            resolved = node.resolve_topic_name(name)
            if node.count_publishers(resolved):
                with self._lock:
                    if self._timer is None:  # closed meanwhile
                        return
                    self._stop_looking()
                    self._subscribe_to_camera(transport)
                node.get_logger().info(f"camera: {resolved}")
                return

    def _subscribe_to_camera(self, transport: str, depth: int = 0) -> None:
        topic, kind, load = self._image_topic, Image, images.rgb_from_image
        if transport == "compressed":
            topic, kind, load = f"{topic}/compressed", CompressedImage, images.rgb_from_compressed
        callback = partial(self._on_image, transport, load)
        self._camera = self._subscription(kind, topic, callback, self._camera_group, depth)

    def _on_image(self, transport: str, load: Callable[[Any], Any], message: Any) -> None:
        history, decode = self._history, partial(load, message)
        try:
            self._fit_queue(transport, len(message.data))
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
