"""An executor that runs callbacks in the threads of a pool, each callback once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.task import Task

#: How long the wait for messages may fail without a success in between [s]; and the pause after
#: a failure [s].
DEAF_S, PAUSE_S = 5.0, 0.01


class CallbackObserver(Protocol):
    """Is told how callbacks end, from the thread in which they ran."""

    def on_callback_error(self, entity: object, name: str, error: Exception) -> None:
        """The callback of a subscription, timer, service or goal has raised an error."""

    def on_callback_success(self, entity: object) -> None:
        """It has come to its end."""


def _never() -> bool:
    return False


class ThreadedExecutor(Executor):
    """Replaces rclpy's MultiThreadedExecutor, and waits until a thread has begun a callback.

    In Jazzy (rclpy 7.1.12) and older the MultiThreadedExecutor submits a callback again and again
    until a thread begins with it, and its loop keeps the threads from doing so: on a busy machine
    a node stood still for up to two seconds (ros2/rclpy#1452, fixed by #1547).

    It also outlives what rclpy's does not: entities that are destroyed while it waits for them, and
    messages that cannot be converted to Python, after which rclpy never asks their subscription
    again.

    Args:
        num_threads: number of callbacks that can run at once.
        context: the rclpy context; None for the default one.
        observer: gets the errors of callbacks; None: :meth:`spin_once` raises them.
    """

    def __init__(
        self, num_threads: int, *, context: Any = None, observer: CallbackObserver | None = None
    ) -> None:
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(num_threads, "callback")
        self._begun = threading.Event()
        self._begun.set()
        self._error: BaseException | None = None
        self._observer = observer
        self._heard = time.monotonic()  # when the last wait for messages ended as it should

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Submit one callback, if one is ready within ``timeout_sec`` and a thread is free by then.

        Raises:
            Exception: without an observer the error of a callback that was submitted before; the
                error of the wait for messages when it has failed for DEAF_S.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._begun.wait(timeout_sec):
            return
        try:
            task, entity, _ = self.wait_for_ready_callbacks(timeout_sec, None, _never)
        except ExternalShutdownException:
            raise
        except (TimeoutException, ShutdownException):
            self._heard = time.monotonic()
            return
        except Exception as failure:
            self._cb_iter = None
            self._survive(failure)
            return
        self._heard = time.monotonic()
        self._begun = threading.Event()
        self._pool.submit(self._run, task, entity, self._begun)

    def _survive(self, error: Exception) -> None:
        """Go on after a failed wait; raises its error when nothing is heard any more."""
        if isinstance(error, InvalidHandle):  # destroyed by another thread meanwhile
            return
        deaf = time.monotonic() - self._heard > DEAF_S
        if self._observer is None or deaf or not self.context.ok():
            raise error
        self._observer.on_callback_error(self, "waiting for messages", error)
        time.sleep(PAUSE_S)

    def _run(self, task: Task, entity: object, begun: threading.Event) -> None:
        begun.set()
        task()
        if not task.done():
            return
        error = task.exception()
        if self._observer is None:
            self._error = error or self._error
        elif error is None:
            self._observer.on_callback_success(entity)
        else:
            self._observer.on_callback_error(entity, described(entity), error)

    def _make_handler(self, entity: Any, node: Any, take_from_wait_list: Any) -> Task:
        return super()._make_handler(entity, node, partial(_taken, take_from_wait_list))

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Submit no more callbacks; see :meth:`rclpy.executors.Executor.shutdown`."""
        done = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=False, cancel_futures=True)
        return done


def _taken(take: Callable[[Any], Any], entity: Any) -> Any:
    """What ``take`` returns; its error becomes one of the callback.

    rclpy leaves an entity marked as busy for ever, and its callback group too, when taking a
    message fails.
    """
    try:
        return take(entity)
    except Exception as error:
        failure = error

        async def fail() -> None:
            raise failure

        return fail


def described(entity: Any) -> str:
    """What an entity is called in a log: kind and topic, service or callback."""
    if entity is None:
        return "goal of an action"
    kind = type(entity).__name__.lower()
    for attribute in ("topic_name", "srv_name"):
        name = getattr(entity, attribute, None)
        if name:
            return f"{kind} {name}"
    callback = getattr(entity, "callback", None)
    return f"{kind} {getattr(callback, '__qualname__', '')}".strip()
