"""Rows of motion from messages of every type that tells where a robot is or how fast it moves."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.bag import Bag
from v2w_core.data.bags.container import Message
from v2w_core.data.bags.probe import stamp_or_zero
from v2w_core.data.bags.topics import FIX, IMU, STATIC, TF, Motion
from v2w_core.errors import DataError, V2WError

#: A row: position (m), quaternion x y z w, velocity forward and left (m/s), turning (rad/s).
ROW = 10
POSITION, QUATERNION, TWIST = slice(0, 3), slice(3, 7), slice(7, 10)
_NAN3, _NAN7 = (np.nan,) * 3, (np.nan,) * 7
_Row = tuple[str, int | None, tuple[float, ...]]


@dataclass(frozen=True)
class Stream:
    """Rows of one kind, M in the file's order.

    Attributes:
        header_ns, receive_ns: int64 [M], stamps; header stamps are receive stamps where messages
            have no header.
        rows: float64 [M, 10], see :data:`ROW`; what a message does not tell is NaN.
        frames: the names of the frames, of the fixed one and of the body; empty where unknown.
        bad: number of messages that could not be decoded.
        mixed: number of messages in other frames than most.
        static: whether it is a transform that never changes.
    """

    header_ns: NDArray[np.int64]
    receive_ns: NDArray[np.int64]
    rows: NDArray[np.float64]
    frames: tuple[str, str] = ("", "")
    bad: int = 0
    mixed: int = 0
    static: bool = False

    def __len__(self) -> int:
        return len(self.header_ns)


class MotionReader:
    """Collects rows of the messages of one :class:`~v2w_core.data.bags.topics.Motion`."""

    def __init__(self, bag: Bag, motion: Motion) -> None:
        self._bag, self._motion = bag, motion
        self._found: dict[str, tuple[array[int], array[int], array[float]]] = {}
        self._frames: dict[str, Counter[tuple[str, str]]] = {}
        self._static: set[str] = set()
        self._bad = 0
        self._first_error: V2WError | None = None

    def add(self, message: Message) -> None:
        kind = self._bag.kind(message.topic.name)
        try:
            decoded = self._bag.decode(message)
            found = list(_READERS.get(kind, _from_pose)(decoded))
            frames = _frames(decoded)
            stamped = [(key, stamp, tuple(map(float, row))) for key, stamp, row in found]
        except V2WError as error:
            self._note_bad(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = f"the fields of {kind}"
            self._note_bad(DataError(message.topic.name, rule, str(error)))
        else:
            for key, stamp, row in stamped:
                self._keep(key, message.receive_ns, stamp, row)
                self._frames[key][frames if kind != TF else split(key)] += 1
                if message.topic.name.endswith(STATIC):
                    self._static.add(key)

    def _keep(self, key: str, receive_ns: int, stamp: int | None, row: tuple[float, ...]) -> None:
        if key not in self._found:
            self._found[key] = array("q"), array("q"), array("d")
            self._frames[key] = Counter()
        headers, receives, rows = self._found[key]
        headers.append(receive_ns if stamp is None else stamp)
        receives.append(receive_ns)
        rows.extend(row)

    def _note_bad(self, error: V2WError) -> None:
        self._bad += 1
        self._first_error = self._first_error or error

    def streams(self) -> dict[str, Stream]:
        """The rows by kind: "pose", "fix" and "imu", or "PARENT -> CHILD" of transforms."""
        if not self._found:
            if self._first_error is not None:  # not one message: it is the type
                raise self._first_error
            rule = "messages in the bag's files; its index says there are some: it is damaged"
            raise DataError(self._motion.topic, rule, "none")
        return {
            key: Stream(
                np.array(headers, np.int64),
                np.array(receives, np.int64),
                np.array(rows, np.float64).reshape(-1, ROW),
                self._frames[key].most_common(1)[0][0],
                self._bad,
                len(headers) - self._frames[key].most_common(1)[0][1],
                key in self._static,
            )
            for key, (headers, receives, rows) in self._found.items()
        }


def name_of(parent: str, child: str) -> str:
    """What the transform from one frame to another is called; ROS 1's slash is left out."""
    return f"{parent.lstrip('/')} -> {child.lstrip('/')}"


def split(name: str) -> tuple[str, str]:
    """The frames of a transform's name."""
    parent, _, child = name.partition(" -> ")
    return parent, child


def _frames(message: Any) -> tuple[str, str]:
    header = getattr(message, "header", None)
    return str(getattr(header, "frame_id", "")), str(getattr(message, "child_frame_id", ""))


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp_or_zero(int(stamp.sec), int(stamp.nanosec))


def _place(place: Any, turn: Any) -> tuple[float, ...]:
    return place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w


def _from_pose(message: Any) -> Iterator[_Row]:
    """Odometry, PoseStamped, PoseWithCovarianceStamped."""
    pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
    speed = _NAN3
    if hasattr(message, "twist"):
        twist = message.twist.twist
        speed = twist.linear.x, twist.linear.y, twist.angular.z
    yield "pose", _stamp(message), (*_place(pose.position, pose.orientation), *speed)


def _from_transform(message: Any) -> Iterator[_Row]:
    transform = message.transform
    place = _place(transform.translation, transform.rotation)
    yield "pose", _stamp(message), (*place, *_NAN3)


def _from_transforms(message: Any) -> Iterator[_Row]:
    for item in message.transforms:
        key = name_of(str(item.header.frame_id), str(item.child_frame_id))
        place = _place(item.transform.translation, item.transform.rotation)
        yield key, _stamp(item), (*place, *_NAN3)


def _from_twist(message: Any) -> Iterator[_Row]:
    """Twist, TwistStamped, TwistWithCovarianceStamped."""
    twist = getattr(message, "twist", message)
    twist = getattr(twist, "twist", twist)
    stamp = _stamp(message) if hasattr(message, "header") else None
    yield "pose", stamp, (*_NAN7, twist.linear.x, twist.linear.y, twist.angular.z)


def _from_fix(message: Any) -> Iterator[_Row]:
    """Longitude, latitude (degrees) and altitude in place of a position; NaN without a fix."""
    status = getattr(getattr(message, "status", None), "status", 0)
    place = (message.longitude, message.latitude, message.altitude)
    if status < 0 or not np.isfinite(place[:2]).all():
        place = _NAN3
    yield "fix", _stamp(message), (*place, 0.0, 0.0, 0.0, 1.0, *_NAN3)


def _from_imu(message: Any) -> Iterator[_Row]:
    turn = message.orientation
    known = float(message.orientation_covariance[0]) != -1.0
    heading = (turn.x, turn.y, turn.z, turn.w) if known else (np.nan,) * 4
    yield "imu", _stamp(message), (0.0, 0.0, 0.0, *heading, *_NAN3)


_READERS: dict[str, Callable[[Any], Iterator[_Row]]] = {
    TF: _from_transforms,
    FIX: _from_fix,
    IMU: _from_imu,
    "geometry_msgs/msg/TransformStamped": _from_transform,
    "geometry_msgs/msg/TwistStamped": _from_twist,
    "geometry_msgs/msg/TwistWithCovarianceStamped": _from_twist,
    "geometry_msgs/msg/Twist": _from_twist,
}
