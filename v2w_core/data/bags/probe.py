"""A look at a serialised image that tells its stamp, and whether a picture is in it.

The picture is not decoded, and of ROS's own types only the first fields are read: this is done for
every image of a recording, of which a few are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from v2w_core.data.bags.container import Raw
from v2w_core.images import jpeg_is_whole

#: Largest part of an image's message before its data: stamp, names, sizes.
_HEAD = 4096


@dataclass(frozen=True)
class Probe:
    """What a look at an image tells.

    Attributes:
        stamp_ns: header stamp.
        form: its encoding or format.
        problem: why there is no picture in it; empty: there seems to be one.
        data: the picture's bytes.
        big_endian: order of the bytes of 16-bit pixels.
    """

    stamp_ns: int
    form: str
    problem: str
    data: Raw
    big_endian: bool = False


class _Cursor:
    """Reads fields of a serialised ROS message one after the other."""

    def __init__(self, raw: Raw, ros1: bool) -> None:
        self.raw = raw
        self.start = 0 if ros1 else 4
        self.align = not ros1
        self.order = "<" if ros1 or raw[1] & 1 else ">"
        self.at = self.start

    def u32(self) -> int:
        if self.align:
            self.at += (self.start - self.at) % 4
        (value,) = struct.unpack_from(self.order + "I", self.raw, self.at)
        self.at += 4
        return int(value)

    def u8(self) -> int:
        value = self.raw[self.at]
        self.at += 1
        return int(value)

    def text(self) -> str:
        size = self.u32()
        value = bytes(self.raw[self.at : self.at + min(size, _HEAD)])
        self.at += size
        return value.rstrip(b"\0").decode(errors="replace")


def probe_raw(raw: Raw, ros1: bool) -> Probe:
    """A serialised sensor_msgs/Image. Raises struct.error or IndexError where it is cut off."""
    read = _Cursor(raw, ros1)
    stamp_ns = _header(read, ros1)
    height, width, form, big_endian = read.u32(), read.u32(), read.text(), read.u8()
    step, size = read.u32(), read.u32()
    data = raw[read.at : read.at + size]
    return Probe(
        stamp_ns, form, raw_problem(height, width, step, form, len(data)), data, bool(big_endian)
    )


def probe_compressed(raw: Raw, ros1: bool) -> Probe:
    """A serialised sensor_msgs/CompressedImage; errors as for :func:`probe_raw`."""
    read = _Cursor(raw, ros1)
    stamp_ns = _header(read, ros1)
    form = read.text()
    size = read.u32()
    data = raw[read.at : read.at + size]
    problem = "cut off" if len(data) < size else picture_problem(data)
    return Probe(stamp_ns, form, problem, data)


def probe_message(message: Any) -> Probe:
    """A decoded message of any image type."""
    stamp = message.header.stamp
    stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
    data = memoryview(bytes(message.data))
    form = str(getattr(message, "encoding", getattr(message, "format", "")))
    if hasattr(message, "step"):
        sizes = int(message.height), int(message.width), int(message.step)
        return Probe(stamp_ns, form, raw_problem(*sizes, form, len(data)), data)
    return Probe(stamp_ns, form, picture_problem(data), data)


def picture_problem(data: Raw) -> str:
    """Why encoded bytes are no picture; empty: they may be one."""
    if not len(data):
        return "empty"
    if bytes(data[:2]) == b"\xff\xd8" and not jpeg_is_whole(bytes(data)):
        return "cut off"
    if bytes(data[:4]) == b"\x89PNG" and b"IEND" not in bytes(data[-4096:]):
        return "cut off"
    return ""


def raw_problem(height: int, width: int, step: int, form: str, size: int) -> str:
    """Why bytes are no image of that size; empty: they may be one."""
    if not height or not width:
        return f"{width}x{height} pixels"
    if not size:
        return "empty"
    # Whether the step is right for the encoding is said when it is decoded.
    return "cut off" if size < step * height else ""


def _header(read: _Cursor, ros1: bool) -> int:
    if ros1:
        read.u32()
    seconds, nanoseconds = read.u32(), read.u32()
    read.text()
    return seconds * 1_000_000_000 + nanoseconds
