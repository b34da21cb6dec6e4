"""Stops a base whose commands end: velocity commands pass through, and their end is a stop.

A planner that is killed cannot send a stop, and many bases keep the last command. Knows no ROS.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from v2w.safety.limits import STOP, Twist

NS = 1_000_000_000


class CommandWatchdog:
    """Passes commands on; sends a stop when the last one was a motion and no other follows.

    Every method may be called from any thread.

    Args:
        send: sends a command to the base.
        clock: a steady time [ns].
        timeout_s: how long a command counts [s]; may be replaced at any time.
    """

    def __init__(
        self, send: Callable[[Twist], None], clock: Callable[[], int], timeout_s: float
    ) -> None:
        self.timeout_s = timeout_s
        self._send, self._clock = send, clock
        self._lock = threading.Lock()
        self._came_ns: int | None = None  # when the command came that the base follows now

    @property
    def moving(self) -> bool:
        """Whether the base was told to move last."""
        return self._came_ns is not None

    def command(self, twist: Twist) -> str:
        """Pass a command on [m/s, m/s, rad/s]; a stop instead of one that is no number.

        Returns:
            Why a stop was sent instead; empty when the command was passed on.
        """
        finite = all(math.isfinite(value) for value in twist)
        passed_on = tuple(twist) if finite else STOP
        with self._lock:
            self._came_ns = self._clock() if passed_on != STOP else None
            self._send(passed_on)
        return "" if finite else f"a command of {tuple(twist)}"

    def look(self) -> str:
        """Called often. Returns why a stop was sent now; empty when none was."""
        with self._lock:
            if self._came_ns is None:
                return ""
            age_s = (self._clock() - self._came_ns) / NS
            if age_s <= self.timeout_s:
                return ""
            self._came_ns = None
            self._send(STOP)
        return f"no command for {age_s:.2f} s"

    def end(self) -> bool:
        """Send a stop if the base was told to move. Returns whether it was."""
        with self._lock:
            moving, self._came_ns = self.moving, None
            if moving:
                self._send(STOP)
        return moving
