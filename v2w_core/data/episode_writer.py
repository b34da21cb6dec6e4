"""Writing of episodes: to a temporary name in the same folder, checked, then renamed.

The layout is described in :mod:`v2w_core.data.episode`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.data.disk_file import DiskFile
from v2w_core.data.episode_rows import check_contact, check_motion, check_rows
from v2w_core.errors import DataError
from v2w_core.images import ImageArray, ImageFormat, encode_image
from v2w_core.spec import ActionSpec

FORMAT_VERSION = 2
SUFFIX = ".h5"
#: Number of frames that are written at once, which is also HDF5's unit of storage.
_CHUNK = 64


class EpisodeWriter:
    """Writes an episode frame by frame; the file gets its final name in ``close`` only.

    As a context manager it closes at the end of the block, and aborts on an exception.

    Args:
        path: the target file, suffix .h5; an existing file is replaced at the end.
        action_spec: names, units, bounds and rate of the actions; ``close`` may replace it.
        source: origin of the frames.
        attributes: additional attributes (JSON values).
        image_format, quality: encoding of the frames (JPEG quality 1-100).

    Raises:
        DataError: a wrong suffix, frames of different sizes, or invalid poses, stamps or actions.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        action_spec: ActionSpec,
        source: str,
        attributes: Mapping[str, Any] | None = None,
        image_format: ImageFormat = "jpeg",
        quality: int = 95,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != SUFFIX:
            raise DataError("path", f"a file name that ends with {SUFFIX}", str(path))
        self._spec = action_spec
        self._source = source
        self._attributes = dict(attributes or {})
        self._format: ImageFormat = image_format
        self._quality = quality
        self._size: tuple[int, int] | None = None
        self._poses: list[NDArray[np.float64]] = []
        self._stamps: list[int] = []
        self._actions: list[ArrayLike] = []
        self._encoded: list[NDArray[np.uint8]] = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The name has the process id, so that the file of a killed writer is never reused.
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._disk = DiskFile(self._temporary)
        self._file: h5py.File | None = h5py.File(self._disk, "w")
        self._frames = self._file.create_dataset(
            "frames",
            shape=(0,),
            maxshape=(None,),
            chunks=(_CHUNK,),
            dtype=h5py.vlen_dtype(np.uint8),
        )

    def __len__(self) -> int:
        return len(self._stamps)

    def add(
        self,
        frame: ImageArray,
        pose: ArrayLike,
        stamp_ns: int,
        action: ArrayLike | None = None,
    ) -> None:
        """Appends a frame.

        Args:
            frame: RGB uint8 [H, W, 3].
            pose: (x m, y m, z m, yaw rad).
            stamp_ns: time stamp in nanoseconds.
            action: [A], the action that leads to this frame; the first frame has none. All
                actions may be passed to ``close`` instead.
        """
        if self._file is None:
            raise DataError(str(self.path), "add before close", "a closed writer")
        index = len(self)
        encoded = encode_image(frame, self._format, self._quality)
        size = (int(frame.shape[0]), int(frame.shape[1]))
        if self._size is not None and size != self._size:
            raise DataError(f"frames[{index}]", f"the size of the first frame {self._size}", size)
        row = np.asarray(pose, dtype=np.float64)
        if row.shape != (4,):
            raise DataError(f"poses[{index}]", "four numbers x y z yaw", row.shape)
        if action is not None and index == 0:
            raise DataError(
                "action", "none for the first frame: an action leads to a frame", action
            )
        self._size = size
        self._encoded.append(np.frombuffer(encoded, dtype=np.uint8))
        if len(self._encoded) == _CHUNK:
            self._write_frames()
            self._disk.check()
        self._poses.append(row)
        self._stamps.append(int(stamp_ns))
        if action is not None:
            self._actions.append(action)

    def _write_frames(self) -> None:
        done = len(self._frames)
        self._frames.resize((done + len(self._encoded),))
        self._frames[done:] = self._encoded
        self._encoded.clear()

    def close(
        self,
        actions: ArrayLike | None = None,
        *,
        motion: ArrayLike | None = None,
        contact: ArrayLike | None = None,
        action_spec: ActionSpec | None = None,
    ) -> Path:
        """Checks and writes actions, poses and stamps, and renames the file to its final name.

        Args:
            actions: float [T-1, A], if they were not passed to ``add``.
            motion: float [T-1, 3], the displacements (dx m, dy m, dyaw rad in the body frame) that
                odometry reported, where the actions are commands; None: the actions are all that
                is known, and planar ones are the displacements themselves.
            contact: bool [T-1], in which steps something was touched; None: unknown.
            action_spec: replaces the spec of the constructor.
        """
        if self._file is None:
            raise DataError(str(self.path), "close once", "a closed writer")
        try:
            self._write_rest(actions, motion, contact, action_spec or self._spec)
            self._file.close()
            self._disk.close()
            self._disk.check()
            os.replace(self._temporary, self.path)
        except BaseException:
            self.abort()
            raise
        self._file = None
        return self.path

    def _write_rest(
        self,
        actions: ArrayLike | None,
        motion: ArrayLike | None,
        contact: ArrayLike | None,
        spec: ActionSpec,
    ) -> None:
        assert self._file is not None
        rows: Any = self._actions if actions is None else actions
        poses = np.array(self._poses, dtype=np.float64).reshape(-1, 4)
        stamps = np.array(self._stamps, dtype=np.int64)
        checked = check_rows(len(self), rows, poses, stamps, spec, name="episode")
        file = self._file
        if motion is not None:
            file["motion"] = check_motion(len(self), motion, name="episode")
        if contact is not None:
            touched = check_contact(len(self), contact, name="episode")
            file["contact"] = touched.astype(np.uint8)
        if self._encoded:
            self._write_frames()
        file["actions"], file["poses"], file["stamps_ns"] = checked, poses, stamps
        assert self._size is not None
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["action_spec"] = json.dumps(spec.to_dict())
        file.attrs["source"] = self._source
        file.attrs["image_format"] = self._format
        file.attrs["height"], file.attrs["width"] = self._size
        try:
            file.attrs["attributes"] = json.dumps(self._attributes)
        except (TypeError, ValueError) as error:
            raise DataError("attributes", "values that JSON can hold", str(error)) from error
        file.flush()

    def abort(self) -> None:
        """Deletes the temporary file; the target is left unchanged."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError, RuntimeError):
                file.close()
            self._disk.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._file is not None:
            self.close()


def write_episode(
    path: str | os.PathLike[str],
    *,
    frames: Iterable[ImageArray] | ImageArray,
    actions: ArrayLike,
    poses: ArrayLike,
    stamps_ns: ArrayLike,
    action_spec: ActionSpec,
    source: str,
    motion: ArrayLike | None = None,
    contact: ArrayLike | None = None,
    attributes: Mapping[str, Any] | None = None,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> Path:
    """Writes a whole episode; :class:`~v2w_core.data.episode.Episode` has shapes and units.

    Raises:
        DataError: inconsistent lengths, NaN, stamps that do not increase, or frames that are not
            RGB uint8 of one size. The target is then left unchanged.
    """
    pictures = list(frames)
    pose_rows = np.asarray(poses, dtype=np.float64)
    stamps = np.asarray(stamps_ns)
    if not np.issubdtype(stamps.dtype, np.integer):
        raise DataError("stamps_ns", "integer nanoseconds", str(stamps.dtype))
    check_rows(len(pictures), actions, pose_rows, stamps, action_spec, name="episode")
    writer = EpisodeWriter(
        path,
        action_spec=action_spec,
        source=source,
        attributes=attributes,
        image_format=image_format,
        quality=quality,
    )
    with writer:
        for frame, pose, stamp in zip(pictures, pose_rows, stamps, strict=True):
            writer.add(np.asarray(frame), pose, int(stamp))
        return writer.close(actions, motion=motion, contact=contact)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of the pictures of a closed episode file."""
    with h5py.File(path, "r") as file:
        return int(file.attrs["height"]), int(file.attrs["width"])


def replace_action_spec(path: Path, spec: ActionSpec) -> None:
    """Replaces the ActionSpec of a closed episode file in place."""
    with h5py.File(path, "r+") as file:
        file.attrs["action_spec"] = json.dumps(spec.to_dict())
