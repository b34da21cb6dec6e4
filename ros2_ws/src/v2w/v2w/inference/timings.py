"""How long the stages of the last requests took: medians and 95th percentiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

#: Of a request: take the history from the buffer, encode it, imagine (all rollouts), decode frames,
#: fill the answer; the whole from its turn on; and one step of the back end.
STAGES = ("history", "encode", "imagine", "decode", "answer", "request", "step")
#: Requests (and rollouts, for steps) that the figures are over.
WINDOW = 100


class Timings:
    """Written by the thread that computes, read by any."""

    def __init__(self) -> None:
        self._windows: dict[str, deque[float]] = {s: deque(maxlen=WINDOW) for s in STAGES}
        self._now: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time within to a stage of the request at hand."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add(name, perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """The request at hand spent this long in a stage; a request may come back to one."""
        self._now[name] = self._now.get(name, 0.0) + seconds

    def add_steps(self, count: int, seconds: float) -> None:
        """A rollout took ``count`` steps and ``seconds`` in all."""
        self.add("imagine", seconds)
        if count:
            self._windows["step"].append(seconds / count)

    def finish(self, *, counts: bool) -> None:
        """The request at hand is over; one that was refused or warmed up does not count."""
        now, self._now = self._now, {}
        if counts:
            for name, seconds in now.items():
                self._windows[name].append(seconds)

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """stage -> (p50, p95) in seconds, of the stages that the last requests went through."""
        kept = {name: sorted(window) for name, window in self._windows.items()}
        return {name: (_at(0.50, of), _at(0.95, of)) for name, of in kept.items() if of}


def _at(share: float, ordered: list[float]) -> float:
    """A quantile; 100 times faster than NumPy's on so few numbers."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
