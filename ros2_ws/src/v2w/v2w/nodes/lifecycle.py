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

#: Threads for the camera, the odometry, timers and a request at once, and one to answer BUSY.
#: Each waiting request needs one more.
NUM_THREADS = 5
#: How long an interrupt may go unnoticed [s].
LOOK_S = 0.1


class AutostartNode(LifecycleNode):
    """A lifecycle node that activates itself when the parameter autostart is true.

    Args:
        name: of the node.
        table: its parameters, which are declared here.

    Attributes:
        num_threads: threads that its executor needs.
        problem: why it could not start; empty while there is no such reason.
        finished: has the exit code as its result when the node could not start by itself.

    Raises:
        V2WError: a parameter value of another type or out of range.
    """

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
        """Called once at the end, in any state: stop working and free all resources.

        The node can still publish, unless something else has shut the context down.
        """
        self.destroy_node()

    def _autostart(self) -> None:
        if self._start_timer is not None:
            self.destroy_timer(self._start_timer)
            self._start_timer = None
        success = TransitionCallbackReturn.SUCCESS
        if self.trigger_configure() != success or self.trigger_activate() != success:
            # No lifecycle manager would notice a node that remains half-started.
            self.finished.set_result(2)


def main(create: Callable[[], AutostartNode]) -> NoReturn:
    """Run a node as the whole process, which exits with the code of :func:`run_node`."""
    code = run_node(create)
    # A node is full of cycles, and its share of Fast DDS's memory stays behind, 32 MiB each time,
    # unless it is gone when the process ends.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is released by now. The interpreter would spend seconds on finalising torch, longer than
    # a launch system waits.
    os._exit(code)


class Interrupt:
    """Handles SIGINT and SIGTERM by only noting that they came.

    The handlers of rclpy shut the context down at once, so that a robot that is being driven would
    never get a stop.
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
