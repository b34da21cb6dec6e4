"""A process that does not outlive the one that started it (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

#: Environment variable with the id of the process with which a node is to end.
VARIABLE = "V2W_PARENT"
_PR_SET_PDEATHSIG = 1


def interrupt_with_parent() -> None:
    """Have this process interrupted (SIGINT) when its parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def end_with_named_parent() -> None:
    """If the environment names a process, end when it ends; end now if it has ended already.

    ``ros2 launch`` and ``v2w up`` name themselves: a node that stayed behind would go on driving,
    beside the one that the next launch starts.
    """
    named = os.environ.pop(VARIABLE, "")
    if not named.isdigit() or sys.platform != "linux":
        return
    interrupt_with_parent()
    if int(named) not in _ancestors():
        sys.exit(f"process {named}, which started this one, has ended")


def _ancestors() -> Iterator[int]:
    """Ids of the parent, its parent, ...; a prefix (a debugger, a shell) may stand in between."""
    process = os.getppid()
    while process > 0:
        yield process
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:  # no Linux, or it has just ended
            return
        process = int(status.rpartition(")")[2].split()[1])
