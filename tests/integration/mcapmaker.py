"""Small MCAP files of channels that rosbag2 does not write: ROS 1, JSON, protobuf; whole or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
#: (topic, encoding, name of the schema, encoding of the schema, schema)
Channel = tuple[str, str, str, str, bytes]


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def _record(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + struct.pack("<Q", len(body)) + body


def write_mcap(
    path: Path,
    channels: Sequence[Channel],
    messages: Sequence[tuple[int, int, bytes]],
    *,
    chunk: int = 0,
    ended: bool = True,
    profile: str = "",
) -> Path:
    """Writes (channel number from 1, receive stamp, bytes), in chunks of so many or none."""
    out = MAGIC + _record(1, _text(profile) + _text("tests"))
    for number, (topic, encoding, name, form, schema) in enumerate(channels, 1):
        out += _record(3, struct.pack("<H", number) + _text(name) + _text(form) + _text(schema))
        head = struct.pack("<HH", number, number)
        out += _record(4, head + _text(topic) + _text(encoding) + struct.pack("<I", 0))
    rows = [
        _record(5, struct.pack("<HIQQ", number, index, stamp, stamp) + data)
        for index, (number, stamp, data) in enumerate(messages)
    ]
    for start in range(0, len(rows), chunk or len(rows)):
        body = b"".join(rows[start : start + (chunk or len(rows))])
        if chunk:
            head = struct.pack("<QQQI", messages[start][1], messages[start][1], len(body), 0)
            body = _record(6, head + _text("") + struct.pack("<Q", len(body)) + body)
        out += body
    if ended:
        out += _record(15, struct.pack("<I", 0)) + _record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    path.write_bytes(out)
    return path
