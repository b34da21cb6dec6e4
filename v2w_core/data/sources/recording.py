"""Recordings: the interface between sources and the episode writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.notices import Notice
from v2w_core.images import ImageArray
from v2w_core.spec import ActionSpec


@dataclass(frozen=True)
class Recording:
    """A recording, which becomes one episode.

    Attributes:
        name: location in the source: a file, a trajectory or a number.
        frames: T frames, RGB uint8 [H, W, 3]; may be decoded lazily and iterated once only. None is
            a frame that cannot be decoded: the episode ends before it, another begins after it.
        actions: float32 [T-1, A]; actions[i] leads from frame i to i + 1.
        poses: float64 [T, 4], x y z in metres and yaw in radians.
        stamps_ns: int64 [T], nanoseconds.
        attributes: additional attributes of the episode (JSON values).
        times_s: float64 [T], seconds from the beginning of the source; None: from the first frame.
        key: the same for the same contents only, so that an interrupted conversion can go on;
            empty: unknown.
        motion: float32 [T-1, 3], the displacements (dx m, dy m, dyaw rad in the body frame), where
            the actions are commands; None: no commands are known.
    """

    name: str
    frames: Iterable[ImageArray | None]
    actions: NDArray[np.float32]
    poses: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    attributes: dict[str, Any] = field(default_factory=dict)
    times_s: NDArray[np.float64] | None = None
    key: str = ""
    motion: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def time_of(self, index: int) -> float:
        """When a frame was taken, in seconds from the beginning."""
        if self.times_s is None:
            return float(self.stamps_ns[index] - self.stamps_ns[0]) * 1e-9
        return float(self.times_s[index])


@dataclass(frozen=True)
class RecordingSet:
    """An open source.

    Attributes:
        title: description of the source, stored in the episodes.
        name: default start of the episodes' names.
        action_spec: the action space of all recordings.
        recordings: the recordings, read lazily.
        num_recordings: maximum number of recordings.
        num_frames: number of frames of all recordings; None: unknown in advance.
        fit_bounds: whether the action bounds are to be set from the data once all is read.
        sizes_may_change: whether a frame of another size begins a new episode; otherwise it is an
            error.
        facts: entries for the summary of the source, complete once all is read.
        notices: what the user should know about the source.
    """

    title: str
    name: str
    action_spec: ActionSpec
    recordings: Iterator[Recording]
    num_recordings: int
    num_frames: int | None = None
    fit_bounds: bool = False
    sizes_may_change: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


def source_name(source: Path) -> str:
    """A file's stem or a folder's name; the parent's name for anything called "bag"."""
    path = source.resolve()
    stem = path.stem if path.is_file() else path.name
    return path.parent.name if stem == "bag" and path.parent.name else stem


def steady_stamps(num_frames: int, rate_hz: float) -> NDArray[np.int64]:
    """Stamps from 0 at a steady rate, int64 [T] in ns, for sources that record no time."""
    return np.round(np.arange(num_frames) * (1e9 / rate_hz)).astype(np.int64)


def unknown_poses(num_frames: int) -> NDArray[np.float64]:
    """Poses of zero [T, 4], for sources without poses; mark the episode with :data:`NO_POSES`."""
    return np.zeros((num_frames, 4))


#: Attribute of episodes whose poses are unknown (they are zero).
NO_POSES = {"poses": "unknown"}
