"""Foxglove's messages in protobuf, by Google's own library: what the reader is measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_NUMBER = descriptor_pb2.FieldDescriptorProto
_FIELDS: dict[str, list[tuple[str, int, int, str]]] = {
    "Time": [("seconds", 1, _NUMBER.TYPE_INT64, ""), ("nanos", 2, _NUMBER.TYPE_INT32, "")],
    "Vector3": [(n, i, _NUMBER.TYPE_DOUBLE, "") for i, n in enumerate("xyz", 1)],
    "Quaternion": [(n, i, _NUMBER.TYPE_DOUBLE, "") for i, n in enumerate("xyzw", 1)],
    "CompressedImage": [
        ("timestamp", 1, _NUMBER.TYPE_MESSAGE, ".foxglove.Time"),
        ("frame_id", 4, _NUMBER.TYPE_STRING, ""),
        ("data", 2, _NUMBER.TYPE_BYTES, ""),
        ("format", 3, _NUMBER.TYPE_STRING, ""),
    ],
    "FrameTransform": [
        ("timestamp", 1, _NUMBER.TYPE_MESSAGE, ".foxglove.Time"),
        ("parent_frame_id", 2, _NUMBER.TYPE_STRING, ""),
        ("child_frame_id", 3, _NUMBER.TYPE_STRING, ""),
        ("translation", 4, _NUMBER.TYPE_MESSAGE, ".foxglove.Vector3"),
        ("rotation", 5, _NUMBER.TYPE_MESSAGE, ".foxglove.Quaternion"),
    ],
}


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="foxglove.proto", package="foxglove", syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            message.field.add(name=field, number=number, type=kind, type_name=of or None, label=1)
    return file


def schema() -> bytes:
    """The FileDescriptorSet, as an MCAP file holds it."""
    return descriptor_pb2.FileDescriptorSet(file=[_file()]).SerializeToString()


def _new(name: str, stamp_ns: int) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}"))
    message = kind()
    message.timestamp.seconds, message.timestamp.nanos = divmod(stamp_ns, 10**9)
    return message


def compressed_image(stamp_ns: int, data: bytes, form: str) -> bytes:
    message = _new("CompressedImage", stamp_ns)
    message.data, message.format, message.frame_id = data, form, "camera"
    return message.SerializeToString()


def frame_transform(
    stamp_ns: int, parent: str, child: str, pose: tuple[float, float, float]
) -> bytes:
    message = _new("FrameTransform", stamp_ns)
    message.parent_frame_id, message.child_frame_id = parent, child
    message.translation.x, message.translation.y = pose[0], pose[1]
    message.rotation.z, message.rotation.w = np.sin(pose[2] / 2), np.cos(pose[2] / 2)
    return message.SerializeToString()
