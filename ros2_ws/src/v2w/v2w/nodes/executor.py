"""An executor that runs callbacks in the threads of a pool, each callback once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.executors import Executor, ShutdownException, TimeoutException
from rclpy.task import Task


def _never() -> bool:
    return False


class ThreadedExecutor(Executor):
    """Replaces rclpy's MultiThreadedExecutor, and waits until a thread has begun a callback.

    In Jazzy (rclpy 7.1.12) and older the MultiThreadedExecutor submits a callback again and again
    until a thread begins with it, and its loop keeps the threads from doing so: on a busy machine
    a node stood still for up to two seconds (ros2/rclpy#1452, fixed by #1547).

    Args:
        num_threads: number of callbacks that can run at once.
        context: the rclpy context; None for the default one.
    """

    def __init__(self, num_threads: int, *, context: Any = None) -> None:
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(num_threads, "callback")
        self._begun = threading.Event()
        self._begun.set()
        self._error: BaseException | None = None

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Submit one callback, if one is ready within ``timeout_sec`` and a thread is free by then.

        Raises:
            Exception: the error of a callback that was submitted before.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._begun.wait(timeout_sec):
            return
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec, None, _never)
        except (TimeoutException, ShutdownException):
            return
        self._begun = threading.Event()
        self._pool.submit(self._run, task, self._begun)

    def _run(self, task: Task, begun: threading.Event) -> None:
        begun.set()
        task()
        if task.done():
            self._error = task.exception() or self._error

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Submit no more callbacks; see :meth:`rclpy.executors.Executor.shutdown`."""
        done = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=False, cancel_futures=True)
        return done
