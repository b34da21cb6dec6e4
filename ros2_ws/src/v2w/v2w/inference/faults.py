"""Errors that callbacks of a node raised: counted, and remembered until the callback works again.

Knows no ROS.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class FaultReport:
    """Faults at one moment.

    Attributes:
        count: errors that callbacks raised since the node was started.
        text: the newest of those that are not over, in one line; empty when all are over.
    """

    count: int = 0
    text: str = ""


class FaultRecord:
    """Which callbacks have failed and have not worked since. Any thread may call every method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: dict[Hashable, str] = {}
        self._count = 0

    def add(self, key: Hashable, text: str) -> None:
        """Note that the callback ``key`` has raised an error."""
        with self._lock:
            self._count += 1
            self._failing.pop(key, None)  # the newest is last
            self._failing[key] = text

    def end(self, key: Hashable) -> bool:
        """Note that the callback ``key`` works. Returns whether it had failed before."""
        if key not in self._failing:  # as nearly always; needs no lock
            return False
        with self._lock:
            return self._failing.pop(key, None) is not None

    def end_all(self) -> None:
        """Forget what has failed; the count stays."""
        with self._lock:
            self._failing.clear()

    def read(self) -> FaultReport:
        """Count and newest fault."""
        with self._lock:
            text = next(reversed(self._failing.values()), "")
            return FaultReport(self._count, text)


def one_line(error: BaseException) -> str:
    """An error as one line for a log or a status: what a V2WError says, or type and message."""
    from v2w_core.errors import V2WError

    text = " ".join(str(error).split())
    return text if isinstance(error, V2WError) and text else f"{type(error).__name__}: {text}"
