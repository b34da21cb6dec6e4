"""DIAMOND's CS:GO recordings: HDF5 files of 1000 frames with keys and mouse.

A file has ``frame_I_x``, uint8 [H, W, 3] in the order blue, green, red (150x280 in the
full-resolution set), and ``frame_I_y``, [51], for I from 0. There are no poses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from v2w_core.data.csgo_actions import DIM, check_multi_hot
from v2w_core.data.domains import CSGO_ACTION
from v2w_core.data.hdf5 import MAX_FRAMES, checked_dataset, open_hdf5
from v2w_core.data.sources.hdf5 import first_has, hdf5_files, numbers
from v2w_core.data.sources.recording import (
    NO_POSES,
    Recording,
    RecordingSet,
    source_name,
    steady_stamps,
    unknown_poses,
)
from v2w_core.errors import DataError
from v2w_core.image_header import check_size
from v2w_core.images import ImageArray

_PICTURE = re.compile(r"frame_(\d+)_x")


def is_csgo(source: Path) -> bool:
    """Whether the source has HDF5 files with numbered pictures."""
    return first_has(source, "frame_0_x")


def open_csgo(source: Path) -> RecordingSet:
    """One recording for each file.

    Args:
        source: an HDF5 file or a folder of them (also one level deeper).

    Raises:
        DataError: there is no HDF5 file; while recordings are read: damaged files, missing frames,
            actions that are not the 51 multi-hot numbers, or pictures that are not uint8 colour.
    """
    files = hdf5_files(source)
    if not files:
        raise DataError(str(source), "HDF5 files with frame_0_x, frame_0_y, ...", "no HDF5 file")
    return RecordingSet(
        title=f"csgo {source.resolve().name}",
        name=source_name(source),
        action_spec=CSGO_ACTION,
        recordings=(_read(path) for path in files),
        num_recordings=len(files),
    )


def _read(path: Path) -> Recording:
    with open_hdf5(path) as file:
        count = sum(1 for name in file if _PICTURE.fullmatch(name))
        if not 1 <= count <= MAX_FRAMES:
            rule = f"from 1 to {MAX_FRAMES} pictures frame_0_x, frame_1_x, ..."
            raise DataError(path.name, rule, count)
        rows = [numbers(file, f"frame_{index}_y", path, ((DIM,),)) for index in range(count)]
    actions = check_multi_hot(np.stack(rows), field=f"{path.name}: frame_y")
    return Recording(
        name=path.name,
        frames=_pictures(path, count),
        actions=actions[:-1],
        poses=unknown_poses(count),
        stamps_ns=steady_stamps(count, CSGO_ACTION.rate_hz),
        attributes=dict(NO_POSES),
    )


def _pictures(path: Path, count: int) -> Iterator[ImageArray]:
    with open_hdf5(path) as file:
        for index in range(count):
            yield _picture(checked_dataset(file, f"frame_{index}_x", path.name, "fiu"), path)


def _picture(item: h5py.Dataset, path: Path) -> ImageArray:
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[-1] != 3:
        found = f"{item.dtype} {list(item.shape)}"
        raise DataError(f"{path.name}: {item.name}", "uint8 [H, W, 3], blue first", found)
    check_size(*item.shape[:2], field=f"{path.name}: {item.name}")
    return np.ascontiguousarray(item[()][..., ::-1])
