"""Memory, threads and open files of processes over time, and whether they grow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

#: What is watched: resident memory, that which no other process shares, threads, open files.
QUANTITIES = ("rss_mib", "uss_mib", "threads", "files")
#: The part of a phase that counts as warming up, and the blocks that the rest is divided into.
WARM_UP, BLOCKS = 0.2, 10
#: Student's t, 97.5 %, of BLOCKS - 2 degrees of freedom.
STUDENT_T = 2.306


@dataclass
class Watch:
    """Looks at processes once a period, from a thread.

    Args:
        processes: ids by name.
        progress: the phase and how much of it is done.
        period_s: time between two looks [s].

    Attributes:
        samples: one for each look: seconds since the start, phase, progress, and the QUANTITIES of
            each process by its name.
    """

    processes: dict[str, int]
    progress: Callable[[], tuple[str, int]]
    period_s: float = 1.0
    samples: list[dict[str, Any]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Look from now on."""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, name: str, pid: int) -> None:
        """Look at one more process."""
        self.processes[name] = pid

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self.period_s):
            phase, done = self.progress()
            sample: dict[str, Any] = {
                "seconds": round(time.monotonic() - self._began, 1), "phase": phase, "done": done,
            }  # fmt: skip
            for name, pid in list(self.processes.items()):
                with suppress(psutil.Error):  # it is gone
                    sample[name] = _look(psutil.Process(pid))
            self.samples.append(sample)


def _look(process: psutil.Process) -> dict[str, float]:
    memory = process.memory_full_info()
    return {
        "rss_mib": round(memory.rss / 2**20, 2),
        "uss_mib": round(memory.uss / 2**20, 2),
        "threads": process.num_threads(),
        "files": process.num_fds(),
    }


def growth(samples: list[dict[str, Any]], phase: str, name: str) -> dict[str, dict[str, float]]:
    """How each of the QUANTITIES of a process changed with the progress of a phase.

    The first fifth counts as warming up. The rest is divided into ten blocks, so that neighbouring
    samples, which are alike, do not count as independent; a line is fitted to the blocks' means.

    Returns:
        By quantity: "first" and "last" (means of the first and last block), "slope" per unit of
        progress with the 95 % interval "low" to "high", and "over_phase", the slope times the
        progress that it was fitted to. Empty where there are too few samples.
    """
    mine = [s for s in samples if s["phase"] == phase and name in s]
    if len(mine) < 2:
        return {}
    done = np.array([s["done"] for s in mine], np.float64)
    kept = done >= done[0] + WARM_UP * (done[-1] - done[0])
    if kept.sum() < 2 * BLOCKS or done[-1] <= done[0]:
        return {}
    blocks = np.array_split(np.flatnonzero(kept), BLOCKS)
    x = np.array([done[block].mean() for block in blocks])
    result = {}
    for quantity in QUANTITIES:
        values = np.array([s[name][quantity] for s in mine], np.float64)
        y = np.array([values[block].mean() for block in blocks])
        slope, error = _line(x, y)
        result[quantity] = {
            "first": round(float(y[0]), 3),
            "last": round(float(y[-1]), 3),
            "slope": float(slope),
            "low": float(slope - STUDENT_T * error),
            "high": float(slope + STUDENT_T * error),
            "over_phase": round(float(slope * (done[-1] - done[kept][0])), 3),
        }
    return result


def _line(x: Any, y: Any) -> tuple[float, float]:
    """Slope of the line of least squares, and its standard error."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    rest = dy - slope * dx
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (dx @ dx)))


def picture(samples: list[dict[str, Any]], names: list[str]) -> Any:
    """A figure: memory, threads and open files of each process over time, phases shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    minutes = np.array([s["seconds"] for s in samples]) / 60.0
    shown = (("uss_mib", "memory, MiB"), ("threads", "threads"), ("files", "open files"))
    for axis, (quantity, label) in zip(axes, shown, strict=True):
        for name in names:
            axis.plot(
                minutes, [s.get(name, {}).get(quantity) or np.nan for s in samples], label=name
            )
        axis.set(ylabel=label, ylim=(0, None))
    phases = [s["phase"] for s in samples]
    for number, phase in enumerate(dict.fromkeys(phases)):
        at = [m for m, p in zip(minutes, phases, strict=True) if p == phase]
        for axis in axes:
            axis.axvspan(at[0], at[-1], alpha=0.08 if number % 2 else 0.0, color="black")
        axes[0].text(at[0], 5, f" {phase}", fontsize=8)
    axes[0].legend(fontsize=8, loc="lower right")
    axes[-1].set(xlabel="minutes")
    return figure
