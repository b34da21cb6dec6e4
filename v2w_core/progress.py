"""Progress of long work on standard error: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

#: A log file gets a line at most this often.
LINE_EVERY_S = 20.0


class Progress(Generic[T]):
    """Work that is counted; made by :func:`progress`.

    Iterating over it yields what it was given and counts that; otherwise :meth:`update` counts.
    """

    def __init__(
        self,
        iterable: Iterable[T],
        total: int | None,
        desc: str,
        unit: str,
        initial: int,
        transient: bool,
    ) -> None:
        self._iterable = iterable
        self._total, self._desc, self._unit, self._transient = total, desc, unit, transient
        self._initial = self._count = initial
        self._note = ""
        self._began = self._last_line = time.monotonic()
        self._said: int | None = None  # the count of the last line
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=initial, desc=desc, unit=unit, leave=not transient,
                smoothing=0.05, mininterval=0.5, file=sys.stderr,
            )  # fmt: skip

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._count += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._write_line()

    def note(self, text: str) -> None:
        """What to show beside the count, from the next time it is shown."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """The last line, or the end of the bar."""
        if self._bar is not None:
            self._bar.close()
        elif self._said != self._count and not (self._transient and self._said is None):
            self._write_line()

    def __iter__(self) -> Iterator[T]:
        with self:
            for item in self._iterable:
                yield item
                self.update()

    def __enter__(self) -> Progress[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_line(self) -> None:
        self._last_line, self._said = time.monotonic(), self._count
        print(self._line(self._last_line - self._began), file=sys.stderr, flush=True)

    def _line(self, elapsed_s: float) -> str:
        done = self._count - self._initial
        parts = [f"{self._desc}: {self._count}"]
        if self._total:
            parts[0] += f" of {self._total} ({self._count / self._total:.0%})"
        parts.append(f"{_clock(elapsed_s)} so far")
        if done and elapsed_s > 0:
            if self._total and self._count < self._total:
                left_s = elapsed_s / done * (self._total - self._count)
                parts.append(f"about {_clock(left_s)} left")
            rate, unit = done / elapsed_s, self._unit.strip()
            parts.append(f"{rate:.3g} {unit}/s" if rate >= 1 else f"{1 / rate:.3g} s/{unit}")
        return ", ".join([*parts, self._note] if self._note else parts)


@overload
def progress(
    *, total: int | None, desc: str, unit: str, initial: int = 0, transient: bool = False
) -> Progress[None]: ...


@overload
def progress(
    iterable: Iterable[T],
    *,
    total: int | None = None,
    desc: str,
    unit: str,
    initial: int = 0,
    transient: bool = False,
) -> Progress[T]: ...


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str,
    initial: int = 0,
    transient: bool = False,
) -> Progress[Any]:
    """Shows how far some work is.

    On a terminal it is a bar. Where standard error is a file or a pipe, it is a plain line at most
    every :data:`LINE_EVERY_S`, and one at the end.

    Args:
        iterable: iterate over the result instead; leave it out to count with ``update``.
        total: of units; that of the iterable when it has a length.
        desc, unit: what is done, and the name of one unit.
        initial: units that were done before, by an earlier run.
        transient: a part of other work. Its bar disappears; as lines, it is heard of only when it
            takes longer than the time between two.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    return Progress(() if iterable is None else iterable, total, desc, unit, initial, transient)


def write(text: str) -> None:
    """Prints lines to standard output, above any bars."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def _clock(seconds: float) -> str:
    """12.3 -> "0:12", 3723 -> "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
