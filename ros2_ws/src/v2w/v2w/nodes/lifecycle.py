"""Lifecycle nodes that can configure and activate by themselves, and how they are run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from v2w import parameters
from v2w.nodes.executor import ThreadedExecutor
from v2w.parameters import Parameter
from v2w_core.errors import V2WError

#: Enough for the camera, the odometry, timers and a request at once, and one to answer BUSY.
#: Requests that wait need one each.
NUM_THREADS = 5
#: How long an interrupt may go unnoticed [s].
LOOK_S = 0.1


class AutostartNode(LifecycleNode):
    """With the parameter autostart it goes to active by itself, or sets :attr:`finished`."""

    def __init__(self, name: str, table: tuple[Parameter, ...]) -> None:
        super().__init__(name)
        self.table = table
        self.num_threads = NUM_THREADS
        self.problem = ""
        self.finished: Future = Future()
        parameters.declare(self, table)
        self._start_timer = None
        if self.get_parameter("autostart").value:
            self._start_timer = self.create_timer(
                0.0, self._autostart, callback_group=MutuallyExclusiveCallbackGroup()
            )

    def release(self) -> None:
        """Called once at the end, whatever the state: stop work and free what is held.

        The node can still publish, unless somebody else shut the context down.
        """
        self.destroy_node()

    def _autostart(self) -> None:
        if self._start_timer is not None:
            self.destroy_timer(self._start_timer)
            self._start_timer = None
        success = TransitionCallbackReturn.SUCCESS
        if self.trigger_configure() != success or self.trigger_activate() != success:
            # Nobody watches over a node that starts by itself: it must not linger half-started.
            self.finished.set_result(2)


def main(create: Callable[[], AutostartNode]) -> NoReturn:
    """The whole process of a node: see :func:`run_node` for the exit code."""
    code = run_node(create)
    # A node is full of cycles, and its share of Fast DDS's memory stays behind, 32 MiB each time,
    # unless it is gone when the process ends.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is released by now. The interpreter would spend seconds on taking torch apart, and a
    # launch system that waits for us would lose its patience.
    os._exit(code)


class Interrupt:
    """SIGINT and SIGTERM are noted, and that is all.

    rclpy's own handlers shut the context down at once: a robot that is being driven would never
    get a stop.
    """

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.came = True


def run_node(create: Callable[[], AutostartNode]) -> int:
    """Create a node and spin it until it is interrupted or cannot start.

    Returns:
        0 after an interrupt, 2 when the node could not start (the reason is on stderr).
    """
    interrupt = Interrupt()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node: AutostartNode | None = None
    try:
        node = create()
        executor = ThreadedExecutor(node.num_threads)
        executor.add_node(node)
        while rclpy.ok() and not (interrupt.came or node.finished.done()):
            executor.spin_once(timeout_sec=LOOK_S)
        if node.finished.done():
            print(f"{node.get_name()}: cannot start: {node.problem}", file=sys.stderr)
            return int(node.finished.result() or 0)
        return 0
    except V2WError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ExternalShutdownException:
        return 0
    except RCLError:
        if rclpy.ok():
            raise
        return 0  # shut down between two looks at the context
    finally:
        if node is not None:
            node.release()
        rclpy.try_shutdown()
