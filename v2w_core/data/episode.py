"""The episode store: one HDF5 file per episode, written to a temporary name and renamed.

Layout, format version 2 (T frames, A action dimensions):

* ``frames``     [T] variable-length uint8, one JPEG or PNG per frame
* ``actions``    [T-1, A] float32, physical units; ``actions[i]`` leads from frame i to i + 1
* ``motion``     [T-1, 3] float32, dx and dy in metres and dyaw in radians, in the body frame of
  frame i: the displacement that odometry reports. Where it is there, ``actions`` are the commands
  that the robot was given; where it is not, planar actions are the displacement, which stands for
  both
* ``contact``    [T-1] uint8, 1 where something was touched; absent where that is unknown
* ``poses``      [T, 4] float64, x y z in metres and yaw in radians, in one fixed frame
* ``stamps_ns``  [T] int64, strictly increasing
* attributes: ``format_version``, ``action_spec`` (JSON), ``source``, ``image_format``,
  ``height``, ``width``, ``attributes`` (JSON, free)

Version 1 had neither ``motion`` nor ``contact`` and is still read.

Nothing in the file is ever executed: no pickles, no object arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from v2w_core.data.episode_rows import check_contact, check_motion, check_rows
from v2w_core.data.episode_writer import (
    FORMAT_VERSION,
    SUFFIX,
    EpisodeWriter,
    write_episode,
)
from v2w_core.data.hdf5 import attribute, checked_dataset, open_hdf5, rows_of_bytes
from v2w_core.errors import DataError, V2WError
from v2w_core.image_header import check_size
from v2w_core.images import ImageArray, decode_image
from v2w_core.spec import ActionSpec

__all__ = [
    "Episode",
    "EpisodeWriter",
    "is_episode",
    "list_episodes",
    "read_episode",
    "require_commands_alike",
    "write_episode",
]

#: Largest number of bytes that decoded frames may have in one call: read fewer at once.
MAX_DECODED = 16 << 30


@dataclass(frozen=True)
class Episode:
    """A recording. Frames are read and decoded on demand; everything else is in memory.

    Attributes:
        path: path of the file.
        actions: float32 [T-1, A] in physical units: commands where ``has_commands``, otherwise
            what was recorded.
        poses: float64 [T, 4], x y z in metres, yaw in radians, in one fixed frame.
        stamps_ns: int64 [T], strictly increasing.
        action_spec: names, units, bounds and rate of the actions.
        source: origin of the recording.
        image_size: (height, width) in pixels.
        image_format: "jpeg" or "png".
        attributes: additional attributes of the source (JSON values).
        motion: float32 [T-1, 3], the displacement of each step (dx m, dy m, dyaw rad in the body
            frame) as odometry reports it; None: unknown, as the actions are not planar.
        contact: bool [T-1], whether something was touched in each step; None: unknown.
        has_commands: whether actions and motion were recorded apart. If not, planar actions are
            the displacement, which stands for both.
    """

    path: Path
    actions: NDArray[np.float32]
    poses: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    action_spec: ActionSpec
    source: str
    image_size: tuple[int, int]
    image_format: str = "jpeg"
    attributes: dict[str, Any] = field(default_factory=dict)
    motion: NDArray[np.float32] | None = None
    contact: NDArray[np.bool_] | None = None
    has_commands: bool = False

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the last, in seconds."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) * 1e-9

    def encoded_frames(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Frames start..stop-1 as encoded in the file (JPEG or PNG bytes).

        Raises:
            DataError: the file no longer exists or cannot be read.
        """
        with open_hdf5(self.path, "a readable episode") as file:
            item = checked_dataset(file, "frames", str(self.path), "O")
            return rows_of_bytes(file, item, start, stop, f"{self.path}: frames")

    def frames(self, start: int = 0, stop: int | None = None) -> ImageArray:
        """Decoded frames, RGB uint8 [stop - start, H, W, 3]; ``start`` and ``stop`` as in a slice.

        Raises:
            DataError: a frame is damaged or not of the episode's size, or the frames are more than
                :data:`MAX_DECODED`.
        """
        encoded = self.encoded_frames(start, stop)
        height, width = self.image_size
        if len(encoded) * height * width * 3 > MAX_DECODED:
            rule = f"at most {MAX_DECODED >> 30} GiB of frames at once"
            raise DataError(f"{self.path}: frames", rule, f"{len(encoded)} of {width}x{height}")
        decoded = np.empty((len(encoded), *self.image_size, 3), dtype=np.uint8)
        for index, data in enumerate(encoded):
            image = decode_image(data, field=f"{self.path.name}: frames[{start}:][{index}]")
            if image.shape[:2] != self.image_size:
                rule = f"all frames {self.image_size[0]}x{self.image_size[1]} (height x width)"
                raise DataError(f"{self.path}: frames", rule, image.shape)
            decoded[index] = image
        return decoded


def read_episode(path: str | os.PathLike[str]) -> Episode:
    """Opens and checks an episode; its frames are read later, on demand.

    Raises:
        DataError: the file does not exist, is not an episode, is truncated, has another format
            version or invalid contents. The message names the file and the rule.
    """
    target = Path(path)
    if not target.is_file():
        found = "a folder" if target.is_dir() else "no such file"
        raise DataError(str(target), "an existing episode file (.h5)", found)
    if not h5py.is_hdf5(target):
        raise DataError(str(target), "an HDF5 episode written by v2w", _first_bytes(target))
    rule = "a complete episode; this file is truncated or not an episode"
    with open_hdf5(target, rule) as file:
        return _parse(target, file)


def is_episode(path: str | os.PathLike[str]) -> bool:
    """Whether the file has the attributes of an episode; the rest is not read."""
    try:
        with open_hdf5(Path(path)) as file:
            return {"format_version", "action_spec"} <= file.attrs.keys()
    except DataError:
        return False


def list_episodes(folder: str | os.PathLike[str]) -> list[Path]:
    """Episode files of a folder, sorted by name; temporary and hidden files are ignored.

    Raises:
        DataError: the folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(str(root), "an existing folder of episodes", "no such folder")
    return sorted(item for item in root.glob(f"*{SUFFIX}") if not item.name.startswith("."))


def require_commands_alike(episodes: Sequence[Episode]) -> None:
    """Checks that all episodes have commands, or that none has.

    In one kind an action is what the robot was told, in the other what it did: a model cannot learn
    both under one name.

    Raises:
        DataError: a mixture; the message names an episode of each kind.
    """
    told = [episode.path for episode in episodes if episode.has_commands]
    others = [episode.path for episode in episodes if not episode.has_commands]
    if told and others:
        rule = (
            f"all with commands or all without: {told[0]} has commands, {others[0]} has none; keep "
            "the two in separate folders, or record those without again (v2w collect, v2w convert "
            "--commands TOPIC)"
        )
        raise DataError("episodes", rule, f"{len(told)} with and {len(others)} without")


def _parse(path: Path, file: h5py.File) -> Episode:
    name = str(path)
    if "format_version" not in file.attrs:
        raise DataError(name, "an episode written by v2w (no format_version in this file)")
    version = attribute(file, "format_version", int, name)
    if not 1 <= version <= FORMAT_VERSION:
        rule = f"format version 1 to {FORMAT_VERSION}; a newer v2w wrote this file"
        raise DataError(f"{path}: format_version", rule, version)
    try:
        spec = ActionSpec.from_dict(json.loads(attribute(file, "action_spec", str, name)))
        attributes = json.loads(attribute(file, "attributes", str, name, default="{}"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: attributes", "JSON text", str(error)) from error
    except DataError:
        raise
    except V2WError as error:
        raise DataError(f"{path}: action_spec", "a valid ActionSpec", str(error)) from error
    size = attribute(file, "height", int, name), attribute(file, "width", int, name)
    check_size(*size, field=f"{path}: height, width")
    frames = checked_dataset(file, "frames", name, "O")
    if frames.ndim != 1:
        raise DataError(f"{path}: frames", "one encoded image in each row", list(frames.shape))
    rows = len(frames)
    shapes = {"actions": (rows - 1, spec.dim), "poses": (rows, 4), "stamps_ns": (rows,)}
    values = {}
    for key, shape in shapes.items():
        found = checked_dataset(file, key, name, "iu" if key == "stamps_ns" else "f")
        if found.shape != shape:
            raise DataError(f"{path}: {key}", f"shape {list(shape)}", list(found.shape))
        values[key] = found[()]
    poses = np.asarray(values["poses"], dtype=np.float64)
    actions = check_rows(rows, values["actions"], poses, values["stamps_ns"], spec, name=name)
    stamps = np.asarray(values["stamps_ns"], dtype=np.int64)
    motion = contact = None
    names = set(file) if version >= 2 else set()
    has_commands = "motion" in names
    if has_commands:
        recorded = checked_dataset(file, "motion", name, "f")[()]
        motion = check_motion(rows, recorded, name=name)
    elif spec.is_planar:
        motion = actions[:, list(spec.planar_indices())].copy()
    if "contact" in names:
        contact = check_contact(rows, checked_dataset(file, "contact", name, "u")[()], name=name)
    return Episode(
        path=path,
        actions=actions,
        poses=poses,
        stamps_ns=stamps,
        action_spec=spec,
        source=attribute(file, "source", str, name),
        image_size=size,
        image_format=attribute(file, "image_format", str, name),
        attributes=attributes,
        motion=motion,
        contact=contact,
        has_commands=has_commands,
    )


def _first_bytes(path: Path) -> str:
    with path.open("rb") as stream:
        return f"a file that starts with {stream.read(16)!r}"
