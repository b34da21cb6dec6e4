"""What a history is: its configuration, its counters, and the snapshot that a model starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
NS = 1_000_000_000


@dataclass(frozen=True)
class HistoryConfig:
    """What a snapshot consists of, and when it is refused.

    Attributes:
        num_frames: frames a snapshot needs (the model's num_history).
        buffer_s: how far back messages are kept [s].
        max_age_s: a newest frame older than this is stale [s].
        tolerance: how far a frame may lie from its place on the time grid, as a share of the
            model's step.
        jump_s: stamps that go back by more than this clear everything [s]; by less, the message
            is late and is dropped.
        max_motion: a step longer than this many times the action bounds is no motion but a jump
            of the odometry (teleport, relocalisation).
        max_bytes: messages that are kept as they came take at most this; past it the oldest are
            decoded and resized when a new one comes, or left out where frames are close together.
    """

    num_frames: int = 4
    buffer_s: float = 3.0
    max_age_s: float = 1.0
    tolerance: float = 0.4
    jump_s: float = 0.5
    max_motion: float = 3.0
    max_bytes: float = math.inf


@dataclass
class HistoryCounters:
    """Messages since the buffer was made.

    Attributes:
        frames: camera frames that were kept.
        odometry: poses that were kept.
        dropped: messages that came late or had no usable numbers.
        jumps: how often stamps went back so far that everything was cleared.
    """

    frames: int = 0
    odometry: int = 0
    dropped: int = 0
    jumps: int = 0


@dataclass(frozen=True)
class HistoryReport:
    """A buffer at one moment.

    Attributes:
        size: frames at the model's rate that a snapshot could have now, at most ``required``.
        required: frames that a snapshot needs.
        age_s: age of the newest frame that odometry covers [s]; None without one.
        counters: messages so far.
        camera_problem: why the camera's newest picture cannot be read; empty when it can.
    """

    size: int
    required: int
    age_s: float | None
    counters: HistoryCounters
    camera_problem: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A history the model can start from, newest last.

    Attributes:
        frames: RGB uint8 [T, h, w, 3], resized to the observation spec.
        actions: float32 [T-1, A], physical units; actions[i] leads from frame i to frame i+1.
        stamps_ns: int64 [T].
        poses: (x, y, z, yaw) [T, 4], metres and radians in the odometry frame.
    """

    frames: UInt8Array
    actions: NDArray[np.float32]
    stamps_ns: NDArray[np.int64]
    poses: NDArray[np.float64]
