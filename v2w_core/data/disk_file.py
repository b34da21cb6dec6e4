"""A file for HDF5 on a disk that may be full.

HDF5 cannot give up a file that it cannot write: it crashes the process later, when the file is
closed. So it is told that all is well, and whoever writes asks here whether it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class DiskFile:
    """A new file that HDF5 writes to; its first error is kept for :meth:`check`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first error that there was."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Closes the file."""
        self._kept(self._file.close)

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it."""
        rest = memoryview(data).cast("B")
        while self._error is None and len(rest):
            rest = rest[self._kept(self._file.write, rest) or 0 :]
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """For h5py, which knows a file by it."""
        raise NotImplementedError

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Reads what was written."""
        return self._kept(self._file.readinto, buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place."""
        return self._kept(self._file.seek, offset, whence) or 0

    def tell(self) -> int:
        """The place."""
        return self._kept(self._file.tell) or 0

    def truncate(self, size: int | None = None) -> int:
        """Changes the file's length."""
        return self._kept(self._file.truncate, size) or 0

    def flush(self) -> None:
        """Nothing is held back."""

    def _kept(self, act: Callable[..., int | None], *values: object) -> int | None:
        try:
            return act(*values)
        except OSError as error:
            self._error = self._error or error
            return None
