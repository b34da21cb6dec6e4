"""Small bags for tests: a camera that shows its own number, and a robot that drives a curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

START_NS = 1_700_000_000_000_000_000
HEIGHT, WIDTH = 32, 48
#: Constant body-frame velocity: m/s forward, m/s left, rad/s.
VELOCITY = np.array([0.8, 0.1, 0.5])


def pose_at(seconds: float) -> tuple[float, float, float]:
    """Exact pose of the drive (x, y, yaw), from the origin."""
    vx, vy, wz = VELOCITY
    yaw = wz * seconds
    sin, cos = np.sin(yaw), np.cos(yaw)
    return (vx * sin - vy * (1 - cos)) / wz, (vx * (1 - cos) + vy * sin) / wz, yaw


def picture(number: int) -> np.ndarray:
    """RGB [32, 48, 3]: left half red, right half green that grows with the number."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[:, : WIDTH // 2, 0] = 200
    image[:, WIDTH // 2 :, 1] = 10 + 4 * (number % 60)
    return image


class BagMaker:
    """Writes one bag: kind "sqlite3", "mcap" or "ros1"."""

    def __init__(self, path: Path, kind: str = "mcap") -> None:
        self.ros1 = kind == "ros1"
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_JAZZY)
        if self.ros1:
            self.path = path.with_suffix(".bag")
            self.writer: Any = Writer1(self.path)
        else:
            self.path = path
            plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
            self.writer = Writer2(path, version=9, storage_plugin=plugin)
        self.writer.open()
        self.connections: dict[str, Any] = {}
        self.pending: list[tuple[int, str, bytes]] = []

    def close(self) -> Path:
        for stamp, topic, raw in sorted(self.pending, key=lambda item: item[0]):
            self.writer.write(self.connections[topic], stamp, raw)
        self.writer.close()
        return self.path

    def _add(self, topic: str, kind: str, message: Any, receive_ns: int) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.store)
        serialise = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.pending.append((receive_ns, topic, bytes(serialise(message, kind))))

    def _header(self, stamp_ns: int, frame: str) -> Any:
        types = self.store.types
        stamp = types["builtin_interfaces/msg/Time"](
            sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        )
        extra = {"seq": 0} if self.ros1 else {}
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame, **extra)

    def image(
        self,
        stamp_ns: int,
        number: int = 0,
        *,
        topic: str = "/camera/image_raw",
        encoding: str = "rgb8",
        data: np.ndarray | None = None,
        delay_ns: int = 20_000_000,
        big_endian: bool = False,
    ) -> None:
        """An Image, or with encoding "jpeg" or "png" a CompressedImage."""
        header = self._header(stamp_ns, "camera")
        frame = picture(number) if data is None else data
        if encoding in ("jpeg", "png"):
            suffix = ".jpg" if encoding == "jpeg" else ".png"
            encoded = cv2.imencode(suffix, np.ascontiguousarray(frame[..., ::-1]))[1].reshape(-1)
            kind = "sensor_msgs/msg/CompressedImage"
            message = self.store.types[kind](header=header, format=encoding, data=encoded)
        else:
            kind = "sensor_msgs/msg/Image"
            message = self.store.types[kind](
                header=header,
                height=frame.shape[0],
                width=frame.shape[1],
                encoding=encoding,
                is_bigendian=int(big_endian),
                step=frame[0].nbytes,
                data=np.ascontiguousarray(frame).view(np.uint8).reshape(-1),
            )
        self._add(topic, kind, message, stamp_ns + delay_ns)

    def compressed(
        self, stamp_ns: int, data: bytes, form: str, *, topic: str = "/camera/image_raw/compressed"
    ) -> None:
        """A CompressedImage of any bytes."""
        kind = "sensor_msgs/msg/CompressedImage"
        message = self.store.types[kind](
            header=self._header(stamp_ns, "camera"),
            format=form,
            data=np.frombuffer(data, np.uint8),
        )
        self._add(topic, kind, message, stamp_ns + 20_000_000)

    def message(
        self, topic: str, kind: str, stamp_ns: int, frame: str = "odom", **fields: Any
    ) -> None:
        """Any message with a header."""
        header = self._header(stamp_ns, frame)
        self._add(topic, kind, self.store.types[kind](header=header, **fields), stamp_ns + 10**6)

    def bare(self, topic: str, kind: str, receive_ns: int, **fields: Any) -> None:
        """Any message without a header."""
        self._add(topic, kind, self.store.types[kind](**fields), receive_ns)

    def place(
        self, pose: tuple[float, float, float], *, transform: bool = False, z: float = 0.25
    ) -> Any:
        """A Pose or a Transform."""
        types, (x, y, yaw) = self.store.types, pose
        turn = types["geometry_msgs/msg/Quaternion"](
            x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))
        )
        if transform:
            where = types["geometry_msgs/msg/Vector3"](x=float(x), y=float(y), z=z)
            return types["geometry_msgs/msg/Transform"](translation=where, rotation=turn)
        where = types["geometry_msgs/msg/Point"](x=float(x), y=float(y), z=z)
        return types["geometry_msgs/msg/Pose"](position=where, orientation=turn)

    def velocity(self, forward: float, left: float, turning: float) -> Any:
        """A Twist."""
        vector = self.store.types["geometry_msgs/msg/Vector3"]
        return self.store.types["geometry_msgs/msg/Twist"](
            linear=vector(x=float(forward), y=float(left), z=0.0),
            angular=vector(x=0.0, y=0.0, z=float(turning)),
        )

    def transform(
        self, stamp_ns: int, pose: tuple[float, float, float], parent: str, child: str
    ) -> Any:
        """A TransformStamped."""
        return self.store.types["geometry_msgs/msg/TransformStamped"](
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=self.place(pose, transform=True),
        )

    def odometry(
        self,
        stamp_ns: int,
        pose: tuple[float, float, float],
        *,
        topic: str = "/odom",
        as_pose: bool = False,
        delay_ns: int = 1_000_000,
        speed: tuple[float, float, float] = (0.0, 0.0, 0.0),
        quaternion: tuple[float, float, float, float] | None = None,
        z: float = 0.25,
        frame: str = "odom",
        child: str = "base_link",
    ) -> None:
        types = self.store.types
        x, y, yaw = pose
        turn = quaternion or (0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2)))
        body = types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](x=float(x), y=float(y), z=z),
            orientation=types["geometry_msgs/msg/Quaternion"](*turn),
        )
        header = self._header(stamp_ns, frame)
        if as_pose:
            kind = "geometry_msgs/msg/PoseStamped"
            self._add(topic, kind, types[kind](header=header, pose=body), stamp_ns + delay_ns)
            return
        twist = self.velocity(*speed)
        kind = "nav_msgs/msg/Odometry"
        message = types[kind](
            header=header,
            child_frame_id=child,
            pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=body, covariance=np.zeros(36)),
            twist=types["geometry_msgs/msg/TwistWithCovariance"](
                twist=twist, covariance=np.zeros(36)
            ),
        )
        self._add(topic, kind, message, stamp_ns + delay_ns)

    def drive(
        self,
        seconds: float = 3.0,
        *,
        image_hz: float = 20.0,
        odom_hz: float = 50.0,
        camera: str | None = "/camera/image_raw",
        odom: str | None = "/odom",
        encoding: str = "rgb8",
        gap: tuple[float, float] = (-1.0, -1.0),
        odom_gap: tuple[float, float] = (-1.0, -1.0),
        jitter_s: float = 0.0,
    ) -> BagMaker:
        """Images and odometry of the curve; none between the two times of a gap."""
        rng = np.random.default_rng(0)
        for number in range(round(seconds * image_hz) if camera else 0):
            at = number / image_hz + (float(rng.uniform(0, jitter_s)) if jitter_s else 0.0)
            if not gap[0] <= at < gap[1]:
                stamp = START_NS + round(at * 1e9)
                self.image(stamp, number, topic=str(camera), encoding=encoding)
        for number in range(-2, round((seconds + 0.2) * odom_hz) if odom else -2):
            at = number / odom_hz
            if not odom_gap[0] <= at < odom_gap[1]:
                self.odometry(START_NS + round(at * 1e9), pose_at(at), topic=str(odom))
        return self
