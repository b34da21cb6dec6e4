"""The allocator's memory: glibc gives each thread a heap of its own, and returns little of it."""

from __future__ import annotations

import ctypes

#: ``M_ARENA_MAX`` of malloc.h, and how many heaps a node may have. Its requests run in some twenty
#: threads: with glibc's default, eight for each core, each heap grows to the largest request.
M_ARENA_MAX, NUM_ARENAS = -8, 2


def limit_arenas() -> bool:
    """Let all threads of this process share NUM_ARENAS heaps; called before there are threads.

    Returns:
        Whether the allocator has taken it; others than glibc's do not know it.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, NUM_ARENAS))
    except (OSError, AttributeError):
        return False
