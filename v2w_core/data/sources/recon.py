"""RECON: HDF5 files of the data set, and the trajectory folders made from them.

* HDF5: ``images/rgb_left`` (T JPEGs), ``jackal/position`` [T, 3] or [T, 2] in metres,
  ``jackal/yaw`` [T] in radians;
* a folder: ``0.jpg`` .. and ``traj_data.pkl``, a dict of ``position`` [T, 2] and ``yaw`` [T].

Actions are the body-frame displacements (dx m, dy m, dyaw rad in [-pi, pi)) between frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from v2w_core.data.domains import RECON_ACTION
from v2w_core.data.hdf5 import checked_dataset, open_hdf5
from v2w_core.data.sources.hdf5 import checked, first_has, hdf5_files, numbers
from v2w_core.data.sources.recording import Recording, RecordingSet, source_name, steady_stamps
from v2w_core.data.sources.safe_pickle import load_arrays
from v2w_core.errors import DataError
from v2w_core.geometry import MAX_COORDINATE_M, actions_from_poses, first_unusable
from v2w_core.images import ImageArray, decode_image, read_image

IMAGES, POSITION, YAW = "images/rgb_left", "jackal/position", "jackal/yaw"
POSES_FILE = "traj_data.pkl"


def is_recon(source: Path) -> bool:
    """Whether the source is a trajectory folder, a folder of them, or RECON's HDF5 files."""
    return bool(_trajectories(source)) or first_has(source, IMAGES)


def open_recon(source: Path, *, rate_hz: float = RECON_ACTION.rate_hz) -> RecordingSet:
    """One recording for each trajectory folder or HDF5 file.

    Args:
        source: an HDF5 file, a trajectory folder, or a folder of either.
        rate_hz: frames per second, which neither layout records.

    Raises:
        DataError: neither layout or both are found; while recordings are read: damaged files,
            missing fields or fields of wrong shape, or a pickle of anything but arrays.
    """
    folders = _trajectories(source)
    files = hdf5_files(source)
    if bool(folders) == bool(files):
        rule = f"folders with {POSES_FILE} or HDF5 files with {IMAGES}, and not both"
        raise DataError(str(source), rule, f"{len(folders)} folders, {len(files)} files")
    read = _read_folder if folders else _read_file
    paths = folders or files
    return RecordingSet(
        title=f"recon {source.resolve().name}",
        name=source_name(source),
        action_spec=replace(RECON_ACTION, rate_hz=rate_hz),
        recordings=(read(path, rate_hz) for path in paths),
        num_recordings=len(paths),
        facts={"layout": "folders" if folders else "hdf5"},
    )


def _trajectories(source: Path) -> list[Path]:
    if (source / POSES_FILE).is_file():
        return [source]
    return sorted(item.parent for item in source.glob(f"*/{POSES_FILE}"))


def _read_file(path: Path, rate_hz: float) -> Recording:
    with open_hdf5(path) as file:
        count = len(_pictures(file, path))
        position = numbers(file, POSITION, path, ((count, 3), (count, 2)))
        yaw = numbers(file, YAW, path, ((count,), (count, 1)))
    return _recording(path, _images_of(path), position, yaw, rate_hz)


def _pictures(file: h5py.File, path: Path) -> h5py.Dataset:
    """The dataset of pictures: byte strings, void, or bytes of any length."""
    found = checked_dataset(file, IMAGES, path.name, "SVOu")
    if found.ndim not in (1, 2) or (found.dtype.kind == "u" and found.dtype != np.uint8):
        rule = "a JPEG in each row"
        raise DataError(f"{path.name}: {IMAGES}", rule, f"{found.dtype} {list(found.shape)}")
    return found


def _images_of(path: Path) -> Iterator[ImageArray]:
    with open_hdf5(path) as file:
        images = _pictures(file, path)
        for index in range(len(images)):
            data = np.asarray(images[index]).tobytes()
            yield decode_image(data, field=f"{path.name}: {IMAGES}[{index}]", rgb_only=True)


def _read_folder(path: Path, rate_hz: float) -> Recording:
    name = f"{path.name}/{POSES_FILE}"
    content = load_arrays(path / POSES_FILE)
    for key in ("position", "yaw"):
        if key not in content:
            raise DataError(f"{name}: {key}", "an array of this name", sorted(map(str, content)))
    count = sum(1 for _ in path.glob("*.jpg"))
    position = checked(content["position"], f"{name}: position", ((count, 2), (count, 3)))
    yaw = checked(content["yaw"], f"{name}: yaw", ((count,), (count, 1)))
    images = [path / f"{index}.jpg" for index in range(count)]
    missing = [item.name for item in images if not item.is_file()]
    if missing:
        raise DataError(f"{path.name}: {missing[0]}", f"pictures 0.jpg to {count - 1}.jpg", "none")
    frames = (read_image(item, field=f"{path.name}/{item.name}", rgb_only=True) for item in images)
    return _recording(path, frames, position, yaw, rate_hz)


def _recording(
    path: Path,
    frames: Iterator[ImageArray],
    position: NDArray[np.float64],
    yaw: NDArray[np.float64],
    rate_hz: float,
) -> Recording:
    poses = np.zeros((len(position), 4))
    poses[:, : position.shape[1]] = position
    bad = first_unusable(np.column_stack([position, yaw.reshape(-1, 1)]))
    if bad is not None:
        rule = f"coordinates and angles up to {MAX_COORDINATE_M:g} m or rad"
        raise DataError(f"{path.name}: position, yaw of frame {bad[0]}", rule, position[bad[0]])
    poses[:, 3] = yaw.reshape(-1)
    actions = actions_from_poses(poses)
    # Half a turn is -pi, as in the released model's data.
    actions[actions[:, 2] == np.pi, 2] = -np.pi
    return Recording(
        name=path.name,
        frames=frames,
        actions=actions.astype(np.float32),
        poses=poses,
        stamps_ns=steady_stamps(len(poses), rate_hz),
    )
