"""Finding, opening and reading of other projects' HDF5 files, with errors that name the field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from v2w_core.errors import DataError, V2WError

SUFFIXES = (".hdf5", ".h5")


def hdf5_files(source: Path) -> list[Path]:
    """The file itself, or the files of the folder (also one level deeper), sorted by name."""
    if source.is_file():
        return [source] if source.suffix in SUFFIXES else []
    found = [item for item in (*source.glob("*"), *source.glob("*/*")) if item.suffix in SUFFIXES]
    return sorted(item for item in found if item.is_file() and not item.name.startswith("."))


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Context manager of an open file; errors while reading it become a DataError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except V2WError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        rule = "a complete HDF5 file; this one is damaged or truncated"
        raise DataError(str(path), rule, str(error)) from error


def first_has(source: Path, key: str) -> bool:
    """Whether the source has HDF5 files and the first of them has ``key``."""
    files = hdf5_files(source)
    if not files:
        return False
    with open_hdf5(files[0]) as file:
        return key in file


def dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """The dataset called ``key``.

    Raises:
        DataError: there is no such dataset.
    """
    item = file.get(key)
    if not isinstance(item, h5py.Dataset):
        rule = f"a dataset of this name; the file has {sorted(file)[:6]}"
        raise DataError(f"{path.name}: {key}", rule, "none")
    return item


def numbers(
    file: h5py.File, key: str, path: Path, shapes: tuple[tuple[int, ...], ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The dataset ``key`` as float64.

    Raises:
        DataError: it is missing, has none of the shapes, or is not finite.
    """
    return checked(dataset(file, key, path)[()], f"{path.name}: {key}", shapes)


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
    if array.shape not in shapes:
        rule = "shape " + " or ".join(str(list(shape)) for shape in shapes)
        raise DataError(field, rule, list(array.shape))
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{field}{list(index)}", "a finite number", float(array[index]))
    return array
