"""PyTorch's number of threads while another runtime needs the cores."""

from __future__ import annotations

from threading import Lock

import torch


class OneThread:
    """PyTorch on one thread, as long as any rollout is inside: its idle threads would spin on the
    cores that the graphs need.

    PyTorch's number of threads is state of the process for threads that have not asked for it yet,
    and of each thread from then on. So each thread sets its own, and all go back to what the first
    of those that overlap has found.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._num_inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._before = torch.get_num_threads()
            self._num_inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            torch.set_num_threads(self._before)


ONE_THREAD = OneThread()
