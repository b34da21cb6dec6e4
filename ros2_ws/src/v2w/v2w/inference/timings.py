"""How long the stages of the last requests took: medians and 95th percentiles."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

#: The stages of a request: take the history from the buffer, encode it, imagine (all rollouts),
#: decode frames, fill the answer; "request" is the whole from its turn on; and "step" is one step
#: of the back end.
STAGES = ("history", "encode", "imagine", "decode", "answer", "request", "step")
#: How many requests (rollouts, for steps) the percentiles are taken over.
WINDOW = 100


class Timings:
    """Durations of the last requests. One thread computes and adds; any thread may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the windows
        self._windows: dict[str, deque[float]] = {s: deque(maxlen=WINDOW) for s in STAGES}
        self._now: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent within the context to a stage of the current request."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add(name, perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add to the time that the current request spends in a stage [s]."""
        self._now[name] = self._now.get(name, 0.0) + seconds

    def add_steps(self, count: int, seconds: float) -> None:
        """Add a rollout of ``count`` steps that took ``seconds`` in all."""
        self.add("imagine", seconds)
        if count:
            with self._lock:
                self._windows["step"].append(seconds / count)

    def finish(self, *, counts: bool) -> None:
        """End the current request; refused requests and trial rollouts do not count."""
        now, self._now = self._now, {}
        if counts:
            with self._lock:
                for name, seconds in now.items():
                    self._windows[name].append(seconds)

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """stage -> (p50, p95) in seconds, for the stages that the last requests went through."""
        with self._lock:
            kept = {name: sorted(window) for name, window in self._windows.items()}
        return {name: (_at(0.50, of), _at(0.95, of)) for name, of in kept.items() if of}


def _at(share: float, ordered: list[float]) -> float:
    """A quantile of sorted numbers; 100 times faster than NumPy's on so few of them."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
