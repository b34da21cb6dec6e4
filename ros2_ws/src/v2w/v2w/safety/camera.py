"""Is the camera alive? A cheap look at every frame, and what the looks say together. Knows no ROS.

A look costs some tens of microseconds: a thousand pixels of a raw image, and the bytes of a
compressed one.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.ros_images import DEPTH, ENCODINGS

Pose = tuple[float, float, float]
#: Rows and columns that are looked at.
GRID = 32
#: A robot that moved by less than this stands still [m, rad]; odometry of a standing base is quiet.
STILL = 0.002
#: A picture is the same again when it is one of so many before: a camera may also repeat a few.
RECENT = 8
#: Motion after which a camera must show another picture [m, rad].
MOVED = 0.01
#: Pictures that differ although the robot stands, after which the camera is known to be noisy.
NOISY_AFTER = 10
#: Frames after which a camera that has come back with another size or encoding is taken as it is.
ADOPT_AFTER = 30
#: Compressed pictures of more pixels are not looked into.
MAX_PIXELS = 2**24


@dataclass(frozen=True)
class CameraSettings:
    """What a living camera is.

    Attributes:
        timeout_s: the newest frame came at most so long ago [s].
        bad_frames: so many frames of the same picture, or dark ones, in a row are too many.
        min_level: a picture with a lower mean is dark [0 to 255].
        min_contrast: a picture with a lower standard deviation shows nothing [0 to 255].
    """

    timeout_s: float = 0.5
    bad_frames: int = 3
    min_level: float = 4.0
    min_contrast: float = 2.0


@dataclass(frozen=True)
class Look:
    """What one frame looks like.

    Attributes:
        digest: of its bytes; equal for equal pictures.
        layout: size and encoding; empty where they are not known.
        problem: why it cannot be used; empty when it can.
        level, contrast: mean and standard deviation [0 to 255]; None: not looked at.
    """

    digest: int
    layout: str = ""
    problem: str = ""
    level: float | None = None
    contrast: float | None = None


@dataclass(frozen=True)
class CameraState:
    """What the frames so far say; :func:`seen` makes the next one.

    Attributes:
        arrived_ns: when the newest frame came, by the steady clock; None before the first.
        stamp_ns: its stamp.
        problem: why the newest frame cannot be used.
        layout: of the camera; num_other: frames in a row with another one, ``other``.
        recent: digests of the newest pictures, newest last; repeats: how many in a row were among
            those before.
        since: where the robot was when the last new picture came.
        pose: where it was when the newest frame came.
        noisy: pictures in a row that differed although the robot stood.
        dark: dark pictures in a row; darkness: the numbers of the newest of them.
    """

    arrived_ns: int | None = None
    stamp_ns: int | None = None
    problem: str = ""
    layout: str = ""
    other: str = ""
    num_other: int = 0
    recent: tuple[int, ...] = ()
    repeats: int = 0
    since: Pose | None = None
    pose: Pose | None = None
    noisy: int = 0
    dark: int = 0
    darkness: str = ""


def seen(
    state: CameraState,
    look: Look,
    stamp_ns: int,
    now_ns: int,
    pose: Pose | None,
    settings: CameraSettings,
) -> CameraState:
    """The state after a frame.

    Args:
        stamp_ns: of the frame; one that is not newer than the last is no frame.
        now_ns: when it came, by the steady clock.
        pose: where the robot is (x m, y m, yaw rad); None: not known.
    """
    if state.stamp_ns is not None and stamp_ns <= state.stamp_ns:
        return state
    state = replace(state, arrived_ns=now_ns, stamp_ns=stamp_ns, problem=look.problem)
    if look.problem:
        return state
    state = _layout(state, look.layout)
    same = look.digest in state.recent
    still = pose is not None and state.pose is not None and not _apart(pose, state.pose, STILL)
    noisy = state.noisy
    if same and noisy < NOISY_AFTER:
        noisy = 0
    elif not same and still:
        noisy = min(noisy + 1, NOISY_AFTER)
    state = replace(
        state,
        recent=(*state.recent, look.digest)[-RECENT:],
        repeats=state.repeats + 1 if same else 0,
        since=(state.since or pose) if same else pose,
        pose=pose,
        noisy=noisy,
    )
    if look.level is None or look.contrast is None:
        return state  # the next one that is looked into tells
    reason = darkness(look.level, look.contrast, settings)
    return replace(state, dark=state.dark + 1 if reason else 0, darkness=reason)


def darkness(level: float, contrast: float, settings: CameraSettings) -> str:
    """Why a picture of this mean and standard deviation shows nothing; empty when it does."""
    if level < settings.min_level:
        return f"dark (mean {level:.1f} of 255)"
    if contrast < settings.min_contrast:
        return f"without contrast (standard deviation {contrast:.1f} of 255)"
    return ""


def frames_show_nothing(frames: NDArray[np.uint8], settings: CameraSettings) -> str:
    """Why some of the RGB frames [T, H, W, 3] show nothing; empty when all show something."""
    for frame in frames[::-1]:
        reason = darkness(float(frame.mean()), _contrast(frame.reshape(-1, 3)), settings)
        if reason:
            return f"the camera's picture is {reason}"
    return ""


def not_fresh(state: CameraState, now_ns: int, settings: CameraSettings) -> str:
    """Why the newest frame came too long ago; empty when it did not."""
    if state.arrived_ns is None:
        return "no camera image yet"
    age_s = (now_ns - state.arrived_ns) / 1e9
    return f"no camera image for {age_s:.2f} s" if age_s > settings.timeout_s else ""


def not_alive(state: CameraState, settings: CameraSettings) -> str:
    """Why the frames show nothing of the world; empty when they do."""
    if state.problem:
        return state.problem
    if state.num_other:
        return f"the camera changed from {state.layout} to {state.other}"
    if state.dark >= settings.bad_frames:
        return f"{state.dark} pictures in a row are {state.darkness}"
    if state.repeats + 1 >= settings.bad_frames and _must_change(state):
        return f"frozen: {state.repeats + 1} pictures in a row that were there before"
    return ""


def _must_change(state: CameraState) -> bool:
    """Whether pictures of a living camera would differ by now.

    Those of a real camera always do, for their noise. Those of a simulated one do when it moves.
    """
    if state.noisy >= NOISY_AFTER:
        return True
    return bool(state.since and state.pose and _apart(state.since, state.pose, MOVED))


def _apart(a: Pose, b: Pose, far: float) -> bool:
    turn = (a[2] - b[2] + math.pi) % (2.0 * math.pi) - math.pi
    return math.hypot(a[0] - b[0], a[1] - b[1]) > far or abs(turn) > far


def _layout(state: CameraState, layout: str) -> CameraState:
    if not layout or layout == state.layout:
        return replace(state, other="", num_other=0)
    if not state.layout:
        return replace(state, layout=layout)
    count = state.num_other + 1 if layout == state.other else 1
    if count >= ADOPT_AFTER:
        return replace(state, layout=layout, other="", num_other=0)
    return replace(state, other=layout, num_other=count)


# -- looking -------------------------------------------------------------------------------------


def look_at_image(message: Any) -> Look:
    """A look at a sensor_msgs/Image: about a thousand of its pixels."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    encoding = str(message.encoding)
    layout = f"{width}x{height} {encoding}"
    data = np.frombuffer(message.data, np.uint8)
    if encoding in DEPTH:
        return Look(0, layout, f"encoding {encoding} is a depth image")
    if encoding in ENCODINGS:
        channels, depth, _ = ENCODINGS[encoding]
    elif width and step % width == 0:
        channels, depth = step // width, 1  # cv_bridge may know it
    else:
        return Look(0, layout, f"encoding {encoding!r} cannot be read")
    size = channels * depth
    if not height or not width or step < width * size:
        return Look(0, layout, f"no image: {layout}, {step} bytes a row")
    if len(data) < (height - 1) * step + width * size:
        return Look(0, layout, f"{len(data)} bytes are too few for {layout}")
    rows = np.lib.stride_tricks.as_strided(data, (height, width * size), (step, 1), writeable=False)
    sample = rows[:: max(1, height // GRID)]
    sample = sample.reshape(len(sample), width, size)[:, :: _odd(width // GRID)].reshape(-1, size)
    digest = zlib.crc32(np.ascontiguousarray(sample).data)
    if depth == 2:  # the bytes that count
        sample = sample[:, (0 if message.is_bigendian else 1) :: 2]
    return Look(digest, layout, "", float(sample.mean()), _contrast(sample))


def look_at_compressed(message: Any, *, decode: bool) -> Look:
    """A look at a sensor_msgs/CompressedImage: at its bytes, and into it with ``decode``."""
    data = bytes(message.data)
    kind = "JPEG" if data[:2] == b"\xff\xd8" else "PNG" if data[:4] == b"\x89PNG" else ""
    if not kind:
        return Look(0, "", "neither JPEG nor PNG")
    tail = data[-32:]
    if (b"\xff\xd9" if kind == "JPEG" else b"IEND") not in tail:
        return Look(0, "", f"a {kind} that is cut off after {len(data)} bytes")
    size = picture_size(data)
    if size is None:
        return Look(0, "", f"a {kind} without a size")
    layout = f"{size[0]}x{size[1]} {kind}"
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        return Look(0, layout, f"{layout}: more than {MAX_PIXELS} pixels, or none")
    look = Look(zlib.crc32(data), layout)
    if not decode:
        return look
    import cv2

    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    if grey is None:
        return replace(look, problem=f"a {kind} that cannot be decoded")
    return replace(look, level=float(grey.mean()), contrast=float(grey.std()))


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG or JPEG; None where there is none."""
    try:
        if data[:4] == b"\x89PNG":
            width, height = struct.unpack(">II", data[16:24])
            return width, height
        at = 2
        while data[at] == 0xFF:
            marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">HH", data[at + 5 : at + 9])
                return width, height
            at += 2 + length
    except (struct.error, IndexError):
        pass
    return None


def _odd(number: int) -> int:
    """An odd stride: an even one would always see the same colour of a Bayer pattern."""
    return max(1, number - 1 + number % 2)


def _contrast(sample: NDArray[np.uint8]) -> float:
    """The largest standard deviation of a column."""
    return float(sample.std(axis=0).max())
