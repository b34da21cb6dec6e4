"""Finding and reading of other projects' HDF5 files, with errors that name the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from v2w_core.data.hdf5 import checked_dataset, has, open_hdf5
from v2w_core.errors import DataError

SUFFIXES = (".hdf5", ".h5")


def hdf5_files(source: Path) -> list[Path]:
    """The file itself, or the files of the folder (also one level deeper), sorted by name."""
    if source.is_file():
        return [source] if source.suffix in SUFFIXES else []
    found = [item for item in (*source.glob("*"), *source.glob("*/*")) if item.suffix in SUFFIXES]
    return sorted(item for item in found if item.is_file() and not item.name.startswith("."))


def first_has(source: Path, key: str) -> bool:
    """Whether the source has HDF5 files and the first of them has ``key``."""
    files = hdf5_files(source)
    if not files:
        return False
    with open_hdf5(files[0]) as file:
        return has(file, key)


def numbers(
    file: h5py.File, key: str, path: Path, shapes: tuple[tuple[int, ...], ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The dataset ``key`` as float64.

    Raises:
        DataError: as :func:`~v2w_core.data.hdf5.checked_dataset`, or it has none of the shapes, or
            is not finite.
    """
    field = f"{path.name}: {key}"
    found = checked_dataset(file, key, path.name, "fiub")
    _check_shape(found.shape, field, shapes)
    return checked(found[()], field, shapes)


def _check_shape(shape: tuple[int, ...], field: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    if shape not in shapes:
        rule = "shape " + " or ".join(str(list(shape)) for shape in shapes)
        raise DataError(field, rule, list(shape))


def checked(
    value: object, field: str, shapes: tuple[tuple[int, ...], ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``value`` as float64.

    Raises:
        DataError: it has none of the shapes, or is not finite.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(field, "an array of numbers", str(error)) from error
    _check_shape(array.shape, field, shapes)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{field}{list(index)}", "a finite number", float(array[index]))
    return array
