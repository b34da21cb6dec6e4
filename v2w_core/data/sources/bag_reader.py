"""Reading of messages from a bag through rosbags, with errors that say what to do about them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.ros_numbers import planar_pose, stamp_ns
from v2w_core.data.sources.resample import Int64Array, check_stamps
from v2w_core.errors import DataError, V2WError

CAMERAS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ODOMETRY = ("nav_msgs/msg/Odometry",)
#: Types that are used only for a named topic, as a PoseStamped may also be a goal.
POSES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Turns any exception of the reader on a damaged bag into a DataError."""
    try:
        yield
    except V2WError:
        raise
    except Exception as error:
        rule = "a complete bag; this one is damaged, truncated, or of a kind that cannot be read"
        raise DataError(str(path), rule, f"{type(error).__name__}: {error}") from error


@contextmanager
def open_bag(path: Path) -> Iterator[Any]:
    """Context manager of a rosbags AnyReader.

    Raises:
        DataError: the bag is damaged, or rosbags is not installed.
    """
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise DataError("bag", "needs rosbags: pip install 'v2w[data]'", str(error)) from error
    with _guard(path):
        # Bags older than ROS 2 Iron hold no message definitions; the latest ones fit.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
        reader.open()
    try:
        yield reader
    finally:
        reader.close()


def messages(reader: Any, topic: str, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields (message type, serialised message) of a topic, in the order of the bag."""
    chosen = [item for item in reader.connections if item.topic == topic]
    iterator = reader.messages(connections=chosen)
    while True:
        with _guard(path):
            item = next(iterator, None)
        if item is None:
            return
        yield item[0].msgtype, item[2]


def parse(reader: Any, raw: bytes, kind: str, path: Path) -> Any:
    """The deserialised message of type ``kind``.

    Raises:
        DataError: the bytes do not match the type.
    """
    with _guard(path):
        return reader.deserialize(raw, kind)


def find_topic(
    reader: Any,
    kinds: Sequence[str],
    named_only: Sequence[str],
    name: str | None,
    option: str,
    what: str,
) -> str:
    """The named topic, or the only one of a fitting type that has messages.

    Args:
        reader: an open bag.
        kinds: message types that are found without a name.
        named_only: further message types, accepted for a named topic only.
        name: the user's choice, or None.
        option, what: names of the option and of the sensor in error messages.

    Raises:
        DataError: no topic fits, several fit and none is named, or the named topic does not exist
            or has another type.
    """
    topics = {topic: info.msgtype for topic, info in reader.topics.items() if info.msgcount}
    listing = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(topics.items())) or "nothing"
    if name is not None:
        kind = topics.get(name)
        if kind is None:
            raise DataError(option, f"a topic of the bag with messages: {listing}", name)
        if kind not in (*kinds, *named_only):
            raise DataError(option, f"a topic of type {' or '.join((*kinds, *named_only))}", kind)
        return name
    found = sorted(topic for topic, kind in topics.items() if kind in kinds)
    # Of a camera's raw and compressed topics the raw one is chosen: it has no compression loss.
    found = [
        t for t in found if not (t.endswith("/compressed") and t[: -len("/compressed")] in found)
    ]
    if not found:
        raise DataError(
            f"no {what} topic in the bag", f"a topic of type {' or '.join(kinds)}", listing
        )
    if len(found) > 1:
        rule = f"one {what} topic: choose one with --{option}: {', '.join(found)}"
        raise DataError(f"several {what} topics", rule, f"{len(found)} topics")
    return found[0]


def read_odometry(reader: Any, topic: str, path: Path) -> tuple[Int64Array, NDArray[np.float64]]:
    """Header stamps int64 [N], strictly increasing, and poses (x, y, z, yaw) float64 [N, 4].

    Raises:
        DataError: stamps that run backwards or are none, positions or quaternions that are not
            finite or far off.
    """
    stamps: list[int] = []
    poses: list[tuple[float, float, float, float]] = []
    for kind, raw in messages(reader, topic, path):
        message = parse(reader, raw, kind, path)
        stamp, field = message.header.stamp, f"{topic}[{len(stamps)}]"
        pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
        poses.append(planar_pose(pose, field=f"{field}: pose"))
        seconds, rest = int(stamp.sec), int(stamp.nanosec)
        stamps.append(stamp_ns(seconds, rest, field=f"{field}: header.stamp"))
    array = np.asarray(stamps, dtype=np.int64)
    check_stamps(array, topic)
    first = np.unique(array, return_index=True)[1]
    return array[first], np.asarray(poses, dtype=np.float64)[first]


def header_stamp(raw: bytes, is_ros2: bool, topic: str) -> int:
    """The stamp in nanoseconds of a message that starts with a std_msgs/Header.

    The rest of the message is not parsed. ROS 2: four bytes of CDR encapsulation (the second is the
    byte order), then sec and nanosec. ROS 1: little-endian seq, sec and nsec.
    """
    try:
        if is_ros2:
            order = "<" if raw[1] & 1 else ">"
            seconds, nanoseconds = struct.unpack_from(order + "iI", raw, 4)
        else:
            seconds, nanoseconds = struct.unpack_from("<II", raw, 4)
    except (struct.error, IndexError) as error:
        raise DataError(f"{topic}: header", "a complete message", f"{len(raw)} bytes") from error
    return stamp_ns(seconds, nanoseconds, field=f"{topic}: header.stamp")
