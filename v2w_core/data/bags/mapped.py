"""A file in memory without a copy, of which only what is being read stays there."""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path

#: What has been read is given back after so many bytes (a multiple of the size of a page).
_EVERY = 1 << 22


class MappedFile:
    """A file that is mapped into memory to be read from front to back, again and again.

    Raises:
        ValueError: it does not begin with ``magic``.
    """

    def __init__(self, path: Path, magic: bytes) -> None:
        with path.open("rb") as file:
            if file.read(len(magic)) != magic:
                raise ValueError(f"a file that does not begin with {magic!r}")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self._map)
        self._given_back = 0

    def read_up_to(self, at: int) -> None:
        """What lies well before ``at`` is not needed soon."""
        if at < self._given_back:
            self._given_back = 0
        if at - self._given_back >= 2 * _EVERY and hasattr(mmap, "MADV_DONTNEED"):
            size = (at - self._given_back) // _EVERY * _EVERY - _EVERY
            self._map.madvise(mmap.MADV_DONTNEED, self._given_back, size)
            self._given_back += size

    def close(self) -> None:
        """Closes the file; what somebody still holds of it goes with the last of them."""
        with suppress(BufferError):
            self.view.release()
            self._map.close()
