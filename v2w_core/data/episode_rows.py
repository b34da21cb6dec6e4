"""Checks of an episode's arrays against each other, on writing and on reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import DataError, V2WError
from v2w_core.geometry import MAX_COORDINATE_M, first_unusable
from v2w_core.spec import ActionSpec


def check_rows(
    num_frames: int,
    actions: ArrayLike,
    poses: NDArray[np.float64],
    stamps_ns: NDArray[Any],
    spec: ActionSpec,
    *,
    name: str,
) -> NDArray[np.float32]:
    """Checks the arrays of an episode against each other.

    Args:
        num_frames: number of frames, T.
        actions: [T-1, A].
        poses: [T, 4].
        stamps_ns: [T].
        spec: the action space.
        name: name of the episode in error messages.

    Returns:
        the actions as float32 [T-1, A].

    Raises:
        DataError: wrong shapes, NaN or infinity, poses beyond MAX_COORDINATE_M, or stamps that are
            negative or do not increase.
    """
    if num_frames < 2:
        raise DataError(f"{name}: frames", "at least 2 frames", num_frames)
    if poses.shape != (num_frames, 4):
        rule = f"[{num_frames}, 4] (x y z yaw), one for each frame"
        raise DataError(f"{name}: poses", rule, list(poses.shape))
    bad = first_unusable(poses)
    if bad is not None:
        rule = f"finite numbers up to {MAX_COORDINATE_M:g} m or rad"
        raise DataError(f"{name}: poses", rule, f"{poses[bad]} at {bad}")
    if stamps_ns.shape != (num_frames,):
        rule = f"[{num_frames}], one for each frame"
        raise DataError(f"{name}: stamps_ns", rule, list(stamps_ns.shape))
    if stamps_ns.min() < 0 or stamps_ns.max() > np.iinfo(np.int64).max:
        raise DataError(f"{name}: stamps_ns", "from 0 to 2^63 - 1", int(stamps_ns.min()))
    falls = np.flatnonzero(np.diff(stamps_ns.astype(np.int64)) <= 0)
    if falls.size:
        index = int(falls[0])
        pair = [int(item) for item in stamps_ns[index : index + 2]]
        raise DataError(f"{name}: stamps_ns[{index + 1}]", "strictly increasing stamps", pair)
    try:
        checked = spec.validate(actions, horizon=num_frames - 1, field="actions", bounds=False)
    except V2WError as error:
        raise DataError(f"{name}: {error.field}", error.rule, error.value) from error
    if checked.ndim != 2:
        raise DataError(f"{name}: actions", f"[{num_frames - 1}, {spec.dim}]", list(checked.shape))
    return checked


def check_motion(num_frames: int, motion: ArrayLike, *, name: str) -> NDArray[np.float32]:
    """The displacements that odometry reported, as float32 [T-1, 3].

    Args:
        num_frames: number of frames, T.
        motion: [T-1, 3], dx m, dy m and dyaw rad in the body frame.
        name: name of the episode in error messages.

    Raises:
        DataError: another shape, NaN or infinity, or numbers beyond MAX_COORDINATE_M.
    """
    try:
        array = np.array(motion, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: motion", "numbers (dx, dy, dyaw)", str(error)) from error
    if array.shape != (num_frames - 1, 3):
        rule = f"[{num_frames - 1}, 3] (dx dy dyaw), one for each step"
        raise DataError(f"{name}: motion", rule, list(array.shape))
    bad = first_unusable(array)
    if bad is not None:
        rule = f"finite numbers up to {MAX_COORDINATE_M:g} m or rad"
        raise DataError(f"{name}: motion", rule, f"{array[bad]} at {bad}")
    return array


def check_contact(num_frames: int, contact: ArrayLike, *, name: str) -> NDArray[np.bool_]:
    """In which steps something was touched, as bool [T-1].

    Raises:
        DataError: another shape, or values other than 0 and 1.
    """
    array = np.asarray(contact)
    if array.shape != (num_frames - 1,):
        rule = f"[{num_frames - 1}], one for each step"
        raise DataError(f"{name}: contact", rule, list(array.shape))
    if array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        rule = "0 or 1 (or booleans): whether something was touched in this step"
        raise DataError(f"{name}: contact", rule, f"{array.dtype}, {array[:3]}")
    return array.astype(np.bool_)
