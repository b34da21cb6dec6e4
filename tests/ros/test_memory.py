"""Threads share the heaps of a node: else each keeps as much as the largest request took."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, sys, threading
from v2w.nodes.memory import limit_arenas
if sys.argv[1] == "limited" and not limit_arenas():
    sys.exit("no glibc")
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
begin = threading.Barrier(16)
def allocates():
    begin.wait()
    for _ in range(1000):
        libc.malloc(2000)
    begin.wait()
threads = [threading.Thread(target=allocates) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def num_heaps(way: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr=")


def test_threads_share_the_heaps() -> None:
    assert num_heaps("limited") == 2
    assert num_heaps("default") > 2
