"""The one thread that computes: requests wait for it in the order in which they came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from v2w.errors import NodeError

T = TypeVar("T")


class ModelThread:
    """Runs the requests of a node one at a time, first come, first served.

    All torch work of a node runs in this thread. Every thread that computes with torch has its own
    OpenMP workers; with more workers than cores they wait for each other by sleeping, and a plan
    took 4 s instead of 2.3 s.

    Args:
        max_waiting: how many requests may wait behind the one that is being computed.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._thread = ThreadPoolExecutor(1, "model")
        self._lock = threading.Lock()
        self._count = 0

    @property
    def num_requests(self) -> int:
        """Requests that have come and are not finished: the one at work and those that wait."""
        return self._count

    @property
    def busy(self) -> bool:
        """Whether a request is being computed."""
        return self._count > 0

    @property
    def num_waiting(self) -> int:
        """Requests behind the one that is being computed."""
        return max(0, self._count - 1)

    def run(self, work: Callable[[], T], max_wait_s: float | None = None) -> T:
        """Wait for a turn, run the work in the thread, and return its result.

        Args:
            work: is run in the thread.
            max_wait_s: how long the wait for the turn may take [s]; None: any time.

        Raises:
            NodeError: BUSY when ``max_waiting`` requests wait already; TIMEOUT when the turn did
                not come in time.
            Exception: what the work raises.
        """
        with self._lock:
            if self._count > self._max_waiting:
                rule = "free; ask again later"
                value = f"a request at work, {self.num_waiting} waiting"
                raise NodeError("device", rule, value, code="BUSY")
            self._count += 1
            turn = threading.Event()
            future = self._thread.submit(_at_turn, turn, work)
        try:
            if not turn.wait(max_wait_s) and future.cancel():
                rule = f"free within {max_wait_s:g} s (parameter max_waiting_time)"
                raise NodeError("device", rule, "a request still at work", code="TIMEOUT")
            return future.result()
        finally:
            with self._lock:
                self._count -= 1


def _at_turn(turn: threading.Event, work: Callable[[], T]) -> T:
    turn.set()
    return work()
