"""Small MCAP files of channels that rosbag2 does not write: ROS 1, JSON, protobuf; whole or not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import lz4.frame
from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
#: (topic, encoding, name of the schema, encoding of the schema, schema)
Channel = tuple[str, str, str, str, bytes]


#: How chunks are packed; the last is no method of MCAP.
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress, "zip": zlib.compress,
}  # fmt: skip


def chunks_of(data: bytes) -> list[int]:
    """Where the chunk records of a file begin."""
    found, at = [], len(MAGIC)
    while at + 9 <= len(data) and data[at] != 2:
        found += [at] * (data[at] == 6)
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return found


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
    method: str = "",
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
            times = messages[start][1], messages[start][1]
            head = struct.pack("<QQQI", *times, len(body), zlib.crc32(body)) + _text(method)
            packed = PACKERS[method](body)
            body = _record(6, head + struct.pack("<Q", len(packed)) + packed)
        out += body
    if ended:
        out += _record(15, struct.pack("<I", 0)) + _record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    path.write_bytes(out)
    return path
