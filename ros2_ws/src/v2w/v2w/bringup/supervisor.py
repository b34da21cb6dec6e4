"""Runs child processes, prefixes each line of their output, and stops all when one of them ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from v2w.bringup import parent

#: From SIGINT to SIGTERM, and from SIGTERM to SIGKILL [s].
PATIENCE_S = (6.0, 3.0)


@dataclass
class Child:
    """One running process."""

    name: str
    process: subprocess.Popen[str]
    reader: threading.Thread


@dataclass
class Supervisor:
    """Starts processes, forwards their output, and stops all of them when one ends.

    As a context manager it notes SIGINT and SIGTERM from the first process on, for :meth:`run`, and
    stops the processes at the end::

        with Supervisor(environment) as supervisor:
            supervisor.start("talker", ["python", "talker.py"])
            code = supervisor.run()

    Args:
        environment: environment variables of every process.
        output: where the prefixed lines are written.
        meanings: what exit codes of the processes mean, for the line that names the one that ended.
    """

    environment: dict[str, str]
    output: IO[str] = field(default_factory=lambda: sys.stderr)
    children: list[Child] = field(default_factory=list)
    meanings: Mapping[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _interrupted: threading.Event = field(default_factory=threading.Event)
    _handlers: dict[signal.Signals, Any] = field(default_factory=dict)

    def __enter__(self) -> Supervisor:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process in a new session, so that Ctrl-C at the terminal does not reach it."""
        with _interrupts_held():
            process = subprocess.Popen(
                list(command),
                env=self.environment | {"PYTHONUNBUFFERED": "1", parent.VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            reader = threading.Thread(target=self._forward, args=(name, process), daemon=True)
            self.children.append(Child(name, process, reader))
            reader.start()

    def say(self, text: str, name: str = "v2w") -> None:
        """Write one line between those of the processes."""
        with self._lock:
            print(f"[{name}] {text}", file=self.output, flush=True)

    def run(self) -> int:
        """Wait until a process ends or an interrupt comes. Call it within ``with``.

        Returns:
            0 after SIGINT or SIGTERM, also one that came before this call; else the exit code of
            the process that ended first, or 1 when that was 0.
        """
        assert self._handlers, "without the handlers of the context an interrupt would be lost"
        while not self._interrupted.wait(0.1):
            dead = self.first_dead()
            if dead is not None:
                return self._report(dead)
        self.say("stopping")
        return 0

    def first_dead(self) -> Child | None:
        """The first process that has ended, or None."""
        return next((c for c in self.children if c.process.poll() is not None), None)

    def stop(self) -> None:
        """Send SIGINT, then SIGTERM, then SIGKILL to the processes that are still running."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        for number, patience_s in zip(signals, (*PATIENCE_S, 5.0), strict=True):
            alive = [c for c in self.children if c.process.poll() is None]
            if not alive:
                break
            for child in alive:
                _signal(child.process, number)
            deadline = time.monotonic() + patience_s
            while any(c.process.poll() is None for c in alive) and time.monotonic() < deadline:
                time.sleep(0.05)
        for child in self.children:
            child.reader.join(timeout=2.0)

    def _report(self, child: Child) -> int:
        code = child.process.wait()
        child.reader.join(timeout=2.0)
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        said = self.meanings.get(code, f"died ({how})")
        self.say(f"{child.name} {said}; stopping the others")
        return code if code > 0 else 1

    def _interrupt(self, number: int, frame: FrameType | None) -> Any:
        self._interrupted.set()

    def _forward(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.say(line.rstrip("\n"), name)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """SIGINT and SIGTERM that come within the block are handled when it is over.

    Python drops what a handler raises in the hooks that run around a fork: a Ctrl-C that came just
    then would be lost.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone handles signals
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _end_with_parent() -> None:
    """Runs in the child: it is interrupted when the parent dies, however it dies (Linux).

    A parent that a shell started in the background ignores interrupts; its child must not.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent.interrupt_with_parent()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
