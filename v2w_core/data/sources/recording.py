"""What every source hands to the writer: recordings one at a time, pictures one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.images import ImageArray
from v2w_core.spec import ActionSpec


@dataclass(frozen=True)
class Recording:
    """One future episode.

    Attributes:
        name: where in the source it is from: a file, a trajectory, a number.
        frames: RGB uint8 [H, W, 3], T of them; may be decoded while it is iterated, once.
        actions: float32 [T-1, A]; actions[i] leads from frame i to i + 1.
        poses: float64 [T, 4], x y z in metres and yaw in radians.
        stamps_ns: int64 [T].
        attributes: free JSON values for the episode.
    """

    name: str
    frames: Iterable[ImageArray]
    actions: NDArray[np.float32]
    poses: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamps_ns)


@dataclass(frozen=True)
class RecordingSet:
    """A source that was opened.

    Attributes:
        title: the source as the episodes name it.
        name: what the episodes' names start with, unless the user wants another.
        action_spec: of all recordings.
        recordings: read when they are asked for.
        num_recordings: how many there are (at most).
        num_frames: of all recordings together; None: not known in advance.
        fit_bounds: the action bounds are those of the data, known when all was read.
        facts: what a summary should say about the source; complete when all was read.
    """

    title: str
    name: str
    action_spec: ActionSpec
    recordings: Iterator[Recording]
    num_recordings: int
    num_frames: int | None = None
    fit_bounds: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def source_name(source: Path) -> str:
    """A file's stem or a folder's name; a folder that is just called "bag" gets its parent's."""
    path = source.resolve()
    stem = path.stem if path.is_file() else path.name
    return path.parent.name if stem == "bag" and path.parent.name else stem


def steady_stamps(num_frames: int, rate_hz: float) -> NDArray[np.int64]:
    """Nanoseconds from 0 at a steady rate, int64 [T], for sources that record no time."""
    return np.round(np.arange(num_frames) * (1e9 / rate_hz)).astype(np.int64)


def unknown_poses(num_frames: int) -> NDArray[np.float64]:
    """Zeros [T, 4], for sources without poses; mark the episode with :data:`NO_POSES`."""
    return np.zeros((num_frames, 4))


#: Attribute of episodes whose poses are not known (they are zero).
NO_POSES = {"poses": "unknown"}
