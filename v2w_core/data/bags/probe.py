"""A look at a serialised image that tells its stamp, and whether a picture is in it.

The picture is not decoded, and of ROS's own types only the first fields are read: this is done for
every image of a recording, of which a few are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from v2w_core.data.bags.container import Raw
from v2w_core.data.ros_images import DEEP, ENCODINGS, deep_picture, is_deep_png
from v2w_core.data.ros_numbers import stamp_ns
from v2w_core.errors import DataError
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
        raw: whether these are pixels, and not an encoded picture.
        big_endian: order of the bytes of 16-bit pixels.
        pts: time stamp that an encoder gave a packet of video; 0: none.
        frame: name of the camera's frame.
    """

    stamp_ns: int
    form: str
    problem: str
    data: Raw
    raw: bool = False
    big_endian: bool = False
    pts: int = 0
    frame: str = ""


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
    stamp_ns, frame = _header(read, ros1)
    height, width, form, big_endian = read.u32(), read.u32(), read.text(), read.u8()
    step, size = read.u32(), read.u32()
    data = raw[read.at : read.at + size]
    problem = raw_problem(height, width, step, form, len(data))
    swapped = bool(big_endian)
    return Probe(stamp_ns, form, problem, data, raw=True, big_endian=swapped, frame=frame)


def probe_compressed(raw: Raw, ros1: bool) -> Probe:
    """A serialised sensor_msgs/CompressedImage; errors as for :func:`probe_raw`."""
    read = _Cursor(raw, ros1)
    stamp_ns, frame = _header(read, ros1)
    form = read.text()
    size = read.u32()
    data = raw[read.at : read.at + size]
    problem = "cut off" if len(data) < size else picture_problem(data)
    return Probe(stamp_ns, form, problem, data, frame=frame)


def probe_message(message: Any) -> Probe:
    """A decoded message of any image type."""
    stamp, frame = message.header.stamp, str(message.header.frame_id)
    at = stamp_or_zero(int(stamp.sec), int(stamp.nanosec))
    data = memoryview(bytes(message.data))
    form = str(getattr(message, "encoding", getattr(message, "format", "")))
    if hasattr(message, "step"):
        sizes = int(message.height), int(message.width), int(message.step)
        problem, swapped = raw_problem(*sizes, form, len(data)), bool(message.is_bigendian)
        return Probe(at, form, problem, data, raw=True, big_endian=swapped, frame=frame)
    pts = int(getattr(message, "pts", 0)) % 2**63
    return Probe(at, form, picture_problem(data), data, pts=pts, frame=frame)


def brightest(probe: Probe) -> int:
    """The largest value in an image of 16 bits; 0 for others, and where it cannot be told."""
    if probe.raw and probe.form in DEEP:
        order = ">u2" if probe.big_endian else "<u2"
        pixels = np.frombuffer(probe.data[: len(probe.data) // 2 * 2], order)
    elif not probe.raw and is_deep_png(probe.data):
        try:
            pixels = deep_picture(bytes(probe.data))
        except DataError:  # told when it is decoded
            return 0
    else:
        return 0
    return int(pixels.max(initial=0))


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
    channels, depth, _ = ENCODINGS.get(form, (0, 0, None))
    row = width * channels * depth
    step = step or row
    # Some drivers do not pad the last row. Whether the step is right is said when it is decoded.
    last = row if 0 < row < step else step
    return "cut off" if size < step * (height - 1) + last else ""


def stamp_or_zero(seconds: int, nanoseconds: int) -> int:
    """Nanoseconds; 0, as of a stamp that was never set, where the numbers are no time."""
    try:
        return stamp_ns(seconds, nanoseconds)
    except DataError:
        return 0


def _header(read: _Cursor, ros1: bool) -> tuple[int, str]:
    """The stamp and the frame of a message."""
    if ros1:
        read.u32()
    seconds, nanoseconds = read.u32(), read.u32()
    return stamp_or_zero(seconds, nanoseconds), read.text()
