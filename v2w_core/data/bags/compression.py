"""Unpacking of whole files, chunks and messages, to a bounded size.

Zstandard is in the standard library from Python 3.14 on, and a package before.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from v2w_core.errors import DataError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Largest message, and largest chunk of messages, in bytes.
MAX_MESSAGE, MAX_CHUNK = 1 << 29, 1 << 30
#: A file may be so many times as large unpacked, beyond the first gibibyte.
MAX_RATIO = 200
#: Space that unpacking leaves free on the disk.
KEPT_FREE = 1 << 28
_GIB = 1 << 30
_PIECE = 1 << 20


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    else:
        from backports import zstd  # type: ignore[import-not-found,unused-ignore]
    return zstd


def _lz4() -> Any:
    import lz4.frame

    return lz4.frame


#: Ending of a whole packed file -> the module that opens it for reading.
PACKERS: dict[str, Callable[[], Any]] = {
    ".zst": _zstd, ".zstd": _zstd, ".lz4": _lz4,
    ".gz": lambda: gzip, ".bz2": lambda: bz2, ".xz": lambda: lzma,
}  # fmt: skip
#: Method of chunks -> what makes a decompressor with ``decompress(data, max_length)``.
_CHUNKS: dict[str, Callable[[], Any]] = {
    "zstd": lambda: _zstd().ZstdDecompressor(),
    "lz4": lambda: _lz4().LZ4FrameDecompressor(),
    "bz2": bz2.BZ2Decompressor,
}
METHODS = tuple(_CHUNKS)


def unpack(data: bytes | memoryview, method: str, limit: int = MAX_CHUNK) -> bytes:
    """Unpacks data; of data that is cut off, or damaged further on, what comes before.

    Args:
        data: one frame of zstd, lz4 or bz2.
        method: which.
        limit: largest size.

    Raises:
        ValueError: more than ``limit`` bytes.
        Exception: nothing can be unpacked.
    """
    decoder, found = _CHUNKS[method](), bytearray()
    try:
        for start in range(0, len(data), _PIECE):
            piece: Any = data[start : start + _PIECE]
            while not decoder.eof:
                found += decoder.decompress(piece, limit + 1 - len(found))
                if len(found) > limit:
                    raise _TooLargeError(f"more than {limit} bytes unpacked")
                if decoder.needs_input:
                    break
                piece = b""
    except _TooLargeError:
        raise
    except Exception:
        if not found:
            raise
    return bytes(found)


class _TooLargeError(ValueError):
    """What is unpacked is beyond its limit."""


def unpack_file(source: Path, target: Path) -> None:
    """Unpacks a file into another, in pieces.

    Raises:
        DataError: it is larger than the disk allows, or than anything that was ever recorded.
    """
    limit = _GIB + MAX_RATIO * source.stat().st_size
    written = 0
    with PACKERS[source.suffix.lower()]().open(source, "rb") as packed, target.open("wb") as plain:
        while piece := packed.read(_PIECE):
            written += len(piece)
            if written > limit:
                rule = f"at most {MAX_RATIO} times as large unpacked; unpack it yourself if it is "
                rule += "a bag"
                raise DataError(str(source), rule, f"more than {written} bytes")
            free = shutil.disk_usage(target.parent).free
            if free < KEPT_FREE + len(piece):
                rule = f"free space in {target.parent} for the unpacked file (another folder: "
                rule += "TMPDIR)"
                raise DataError(str(source), rule, f"{free} bytes free, {written} unpacked")
            plain.write(piece)
