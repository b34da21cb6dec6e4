"""Messages from their bytes: ROS 1 and 2 through rosbags, JSON, and protobuf by its own schema.

Decoded messages have ROS's field names, whatever they came from: a Foxglove image has a header.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from v2w_core.data.bags.container import Raw, Topic
from v2w_core.data.bags.protobuf import protobuf_decoder
from v2w_core.errors import DataError

ENCODINGS = ("cdr", "ros1", "json", "protobuf")

#: Schemas of other projects that hold what a ROS type holds.
SAME_AS = {
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
    "RawImage": "sensor_msgs/msg/Image",
    "CompressedVideo": "foxglove_msgs/msg/CompressedVideo",
    "PoseInFrame": "geometry_msgs/msg/PoseStamped",
    "FrameTransform": "geometry_msgs/msg/TransformStamped",
    "FrameTransforms": "tf2_msgs/msg/TFMessage",
    "LocationFix": "sensor_msgs/msg/NavSatFix",
}

#: Definitions of types outside ROS's own packages, for files without definitions.
_KNOWN = {
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data\n"
    ),
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
}


def ros_kind(topic: Topic) -> str:
    """The ROS type that a topic's messages are read as; its own type where there is no such."""
    package, _, name = topic.kind.replace("/msg/", ".").rpartition(".")
    if package in ("foxglove", "foxglove_msgs") and name in SAME_AS:
        return SAME_AS[name]
    return topic.kind


def decoder_for(topic: Topic) -> Callable[[Raw], Any]:
    """A function from bytes to a message with ROS's field names.

    Raises:
        DataError: messages of this encoding, or of this type, cannot be decoded.
    """
    if topic.encoding == "json":
        return lambda raw: _as_ros(json.loads(bytes(raw)))
    if topic.encoding == "protobuf":
        read = protobuf_decoder(topic.definition, topic.kind)
        return lambda raw: _as_ros(read(bytes(raw)))
    if topic.encoding not in ENCODINGS:
        rule = f"messages in one of {', '.join(ENCODINGS)}"
        raise DataError(f"{topic.name}: encoding", rule, topic.encoding)
    store, kind = _typestore(topic)
    read_ros = store.deserialize_ros1 if topic.encoding == "ros1" else store.deserialize_cdr
    if topic.kind.startswith("foxglove_msgs/"):
        return lambda raw: _as_ros(read_ros(bytes(raw), kind))
    return lambda raw: read_ros(bytes(raw), kind)


def _typestore(topic: Topic) -> tuple[Any, str]:
    """A store with the topic's type: as the file defines it, or else as ROS does."""
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    text, kind = topic.definition.decode(errors="replace"), topic.kind
    if text:
        store = get_typestore(Stores.EMPTY)
        try:
            if "idl" in topic.definition_format:
                parts = [part for part in text.split("=" * 80 + "\n") if part.strip()]
                for part in parts:
                    idl = part.split("\n", 1)[1] if part.startswith("IDL: ") else part
                    store.register(get_types_from_idl(idl))
            else:
                store.register(get_types_from_msg(text, kind))
            if kind in store.types:
                return store, kind
        except Exception:  # a definition that cannot be read: perhaps ROS's own fits
            text = ""
    ros1 = topic.encoding == "ros1"
    # Bags older than ROS 2 Iron hold no definitions; the latest ones fit.
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST)
    if kind not in store.types and kind in _KNOWN:
        store.register(get_types_from_msg(_KNOWN[kind], kind))
    if kind not in store.types:
        rule = "a type that ROS has, or a bag that holds its definition (ROS 2 Iron or later, MCAP)"
        raise DataError(f"{topic.name}: type", rule, kind)
    return store, kind


def _as_ros(value: Any) -> Any:
    """A decoded dict (or a message with a timestamp) as an object with ROS's field names."""
    fields = value if isinstance(value, dict) else _fields(value)
    if fields is None:
        return [_as_ros(item) for item in value] if isinstance(value, list) else value
    made = SimpleNamespace(**{_NAMES.get(key, key): _as_ros(item) for key, item in fields.items()})
    if isinstance(getattr(made, "data", None), str):
        made.data = base64.b64decode(made.data)
    if hasattr(made, "timestamp") and not hasattr(made, "header"):
        frame = getattr(made, "frame_id", getattr(made, "parent_frame_id", ""))
        made.header = SimpleNamespace(stamp=made.timestamp, frame_id=frame)
    if hasattr(made, "parent_frame_id"):
        made.transform = SimpleNamespace(translation=made.translation, rotation=made.rotation)
    if hasattr(made, "encoding") and not hasattr(made, "is_bigendian"):
        made.is_bigendian = 0
    return made


def _fields(value: Any) -> dict[str, Any] | None:
    names = getattr(type(value), "__dataclass_fields__", None)
    return (
        {name: getattr(value, name) for name in names if name != "__msgtype__"} if names else None
    )


#: Fields of other schemas that ROS calls otherwise.
_NAMES = {
    "nsec": "nanosec",
    "nanos": "nanosec",
    "seconds": "sec",
    "secs": "sec",
    "nsecs": "nanosec",
}
