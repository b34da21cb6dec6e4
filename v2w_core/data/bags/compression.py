"""Zstandard, in the standard library from Python 3.14 on and a package before."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    else:
        from backports import zstd  # type: ignore[import-not-found,unused-ignore]
    return zstd


def unzstd(data: bytes | memoryview, *, partial: bool = False) -> bytes:
    """Unpacks data; with ``partial`` what there is of data that is cut off."""
    if not partial:
        return bytes(_zstd().decompress(data))
    decoder, found = _zstd().ZstdDecompressor(), bytearray()
    try:
        for start in range(0, len(data), 4096):
            found += decoder.decompress(data[start : start + 4096])
    except Exception:
        if not found:
            raise
    return bytes(found)


def unpack_file(source: Path, target: Path) -> None:
    """Unpacks a file into another, in pieces."""
    with _zstd().open(source, "rb") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
