"""HDF5 files of somebody else: only data that lie in the file itself, and no more than it can hold.

HDF5 can take a dataset's numbers from any other file (external and soft links, external storage,
virtual datasets), and a few kilobytes can claim gigabytes. Everything that v2w reads of an HDF5
file, it reads of a dataset from :func:`checked_dataset` or an attribute from :func:`attribute`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from v2w_core.errors import DataError, V2WError

#: Largest number of frames of a recording (nine hours at 30 Hz), and so of rows of a dataset.
MAX_FRAMES = 1_000_000
#: Largest dataset of numbers, chunk of a dataset, and text of an attribute [bytes].
MAX_NUMBERS, MAX_CHUNK, MAX_TEXT = 1 << 30, 64 << 20, 1 << 20
#: Most that one read may take [bytes], where a file could refer to the same bytes many times.
MAX_READ = 1 << 30
#: zlib packs up to 1032 bytes into one.
_MAX_RATIO = 1100
_DEFLATE, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF
#: Filters of HDF5 and h5py themselves; others are plug-ins that a file could name.
_FILTERS = {_DEFLATE, _LZF, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
#: NumPy's letters of types, in words.
_KINDS = {
    "f": "floating-point numbers", "i": "integers", "u": "unsigned integers", "b": "booleans",
    "S": "byte strings", "V": "opaque values", "O": "rows of bytes",
}  # fmt: skip
_FAILURES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError, zlib.error,
)  # fmt: skip


@contextmanager
def open_hdf5(
    path: Path, rule: str = "a complete HDF5 file; this one is damaged or truncated"
) -> Iterator[h5py.File]:
    """Context manager of an open file; errors while reading it become a DataError with ``rule``."""
    try:
        if not path.is_file():
            raise DataError(str(path), "an existing file", "no such file")
        with h5py.File(path, "r", driver="sec2") as file:
            if file.userblock_size:
                raise DataError(str(path), "an HDF5 file without a user block", "one that has it")
            yield file
    except V2WError:
        raise
    except _FAILURES as error:
        raise DataError(str(path), rule, str(error)) from error


def has(file: h5py.File, key: str) -> bool:
    """Whether there is something called ``key`` in the file itself; no link is followed."""
    try:
        return _item(file, key, "") is not None
    except DataError:
        return False


def checked_dataset(file: h5py.File, key: str, name: str, kinds: str) -> h5py.Dataset:
    """The dataset called ``key``, whose values may then be read: a row, or, if numbers, all.

    Args:
        file: an open file.
        key: the dataset's path in it.
        name: what errors call the file.
        kinds: NumPy's letters of the types that are allowed, e.g. "fiu"; "O" stands for rows of
            bytes of any length.

    Raises:
        DataError: no such dataset; one that lies behind a link or in another file, is virtual, of
            another type, has a filter of a plug-in, or claims more than the file can hold or than
            :data:`MAX_FRAMES`, :data:`MAX_NUMBERS` and :data:`MAX_CHUNK`.
    """
    item = _item(file, key, name)
    field = f"{name}: {key}"
    if not isinstance(item, h5py.Dataset):
        rule = f"a dataset of this name; the file has {sorted(file)[:6]}"
        raise DataError(field, rule, "none")
    if item.is_virtual or item.external:
        raise DataError(field, "a dataset in the file itself", "one that is in other files")
    dtype = item.dtype
    bytes_of_any_length = h5py.check_vlen_dtype(dtype) == np.uint8
    if dtype.kind not in kinds or dtype.names or (dtype.kind == "O" and not bytes_of_any_length):
        rule = f"a dataset of {' or '.join(_KINDS[kind] for kind in kinds)}"
        raise DataError(field, rule, str(dtype))
    if item.shape is None or (item.ndim and item.shape[0] > MAX_FRAMES):
        raise DataError(field, f"at most {MAX_FRAMES} rows", item.shape)
    _check_storage(item, field)
    return item


def _item(file: h5py.File, key: str, name: str) -> Any:
    """What is called ``key``; None: nothing. Raises DataError where a link leads there."""
    here: Any = file
    for part in key.split("/"):
        if not isinstance(here, h5py.Group):
            return None
        try:
            link = here.get(part, getlink=True)
        except (KeyError, TypeError):  # of a type that h5py does not know
            link = h5py.ExternalLink if part in here else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            rule = "a part of the file itself; links are not followed"
            raise DataError(f"{name}: {key}", rule, f"{part} is a link")
        here = here.get(part)
    return here


def _check_storage(item: h5py.Dataset, field: str) -> None:
    """Raises DataError where reading takes more memory than the values that it gives."""
    size, row = item.dtype.itemsize, math.prod(item.shape[1:]) * item.dtype.itemsize
    stored = min(item.id.get_storage_size(), item.file.id.get_filesize())
    total = math.prod(item.shape) * size
    most = MAX_NUMBERS if item.dtype.kind in "fiub" and item.ndim < 3 else 1 << 62
    if row > MAX_CHUNK or total > most or total > stored * (_MAX_RATIO if item.chunks else 1):
        rule = f"values that are in the file, at most {MAX_CHUNK} bytes a row and {most} in all"
        raise DataError(field, rule, f"{total} bytes of {item.dtype}, {stored} stored")
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    strange = set(filters) - _FILTERS
    if strange or len(set(filters)) < len(filters) or {_DEFLATE, _LZF} <= set(filters):
        rule = "compressed by one of gzip and lzf at most"
        raise DataError(field, rule, f"filters {filters}")
    if item.chunks is None:
        return
    chunk = math.prod(item.chunks) * size
    most = MAX_CHUNK // 8 if _LZF in filters else MAX_CHUNK  # lzf packs up to 88 bytes into one
    if chunk > most:
        raise DataError(field, f"chunks of at most {most} bytes", chunk)
    if filters:
        _check_chunks(item, filters, chunk, field)


def _check_chunks(item: h5py.Dataset, filters: list[int], chunk: int, field: str) -> None:
    """Raises DataError where a chunk unpacks to more than it may have; HDF5 itself goes on."""
    chunks: list[Any] = []
    item.id.chunk_iter(chunks.append)
    for info in chunks:
        fits = info.size <= chunk + chunk // 100 + 1024
        if fits and _DEFLATE in filters and not info.filter_mask >> filters.index(_DEFLATE) & 1:
            packed = item.id.read_direct_chunk(info.chunk_offset)[1]
            unpacked = zlib.decompressobj().decompress(packed, chunk + 1025)
            fits = len(unpacked) <= chunk + 1024  # a checksum may be packed with it
        if not fits:
            raise DataError(field, f"chunks of {chunk} bytes, as it says", "one that has more")


def rows_of_bytes(
    file: h5py.File, item: h5py.Dataset, start: int | None, stop: int | None, field: str
) -> list[bytes]:
    """Rows start..stop-1 (as in a slice) of a dataset of bytes of any length.

    Raises:
        DataError: rows of more bytes than there are in the file: the same bytes many times.
    """
    size = int(file.id.get_filesize())
    wanted = range(*slice(start, stop).indices(len(item)))
    if len(wanted) * size <= MAX_READ:
        return [bytes(np.asarray(row)) for row in item[start:stop]]
    rows: list[bytes] = []
    total = 0
    for index in wanted:
        rows.append(bytes(np.asarray(item[index])))
        total += len(rows[-1])
        if total > size:
            raise DataError(field, f"at most the file's {size} bytes", "rows of the same bytes")
    return rows


def attribute(file: h5py.File, key: str, kind: type, name: str, default: Any = None) -> Any:
    """A text or a whole number among the file's attributes.

    Args:
        file: an open file.
        key: name of the attribute.
        kind: str or int.
        name: what errors call the file.
        default: for a file without it; None: that is an error.

    Raises:
        DataError: it is missing, of another type, an array, or longer than :data:`MAX_TEXT`.
    """
    field = f"{name}: {key}"
    if key not in file.attrs:
        if default is None:
            raise DataError(field, "an attribute of this name", "none")
        return default
    found = file.attrs.get_id(key)
    is_text = h5py.check_string_dtype(found.dtype) is not None
    sound = found.dtype.kind in "iu" if kind is int else is_text
    if not sound or found.shape != () or found.dtype.itemsize > MAX_TEXT:
        raise DataError(field, f"one {'text' if kind is str else 'whole number'}", str(found.dtype))
    value = file.attrs[key]
    if kind is int:
        return int(value)
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    if len(text) > MAX_TEXT:
        raise DataError(field, f"at most {MAX_TEXT} characters", len(text))
    return text
