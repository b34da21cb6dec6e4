"""Lifecycle nodes that can configure and activate by themselves, and how they are run."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from v2w import parameters
from v2w.bringup.exit_codes import CANNOT_START, SHUT_DOWN
from v2w.inference.faults import FaultRecord, one_line
from v2w.nodes.executor import ThreadedExecutor
from v2w.nodes.memory import limit_arenas
from v2w.nodes.parameter_requests import guard_parameters
from v2w.parameters import Parameter
from v2w_core.errors import V2WError

#: Threads for the camera, the odometry, timers, transitions, parameters and a request at once, and
#: some to answer BUSY. Each waiting request needs one more.
NUM_THREADS = 8
#: How long an interrupt may go unnoticed [s].
LOOK_S = 0.1
#: How long the end of a process may take after that [s], whatever a thread of it is doing.
END_S = 3.0
#: How long the answer to a shutdown transition may take before the process ends [s].
ANSWER_S = 0.5
#: Time between two lines in the log about errors of callbacks [s].
LOG_S = 1.0


class AutostartNode(LifecycleNode):
    """A lifecycle node that activates itself when the parameter autostart is true.

    No message and no error in a callback ends it: errors are counted in ``faults`` and
    :meth:`stop_robot` is called; transitions that its state does not have are refused.

    Args:
        name: of the node.
        table: its parameters, which are declared here.

    Attributes:
        num_threads: threads that its executor needs.
        problem: why it could not start, in one line; empty while there is no such reason.
        finished: has the exit code as its result when a node that starts by itself could not, or
            was shut down.
        faults: errors of callbacks; those that are not over end with the next activation.

    Raises:
        V2WError: a parameter value of another type or out of range.
    """

    def __init__(self, name: str, table: tuple[Parameter, ...]) -> None:
        super().__init__(name)
        self.table = table
        self.num_threads = NUM_THREADS
        self.problem = ""
        self.finished: Future = Future()
        self.faults = FaultRecord()
        self._transitions = threading.RLock()
        self._guard_transitions()
        guard_parameters(self)
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

    # -- errors of callbacks ----------------------------------------------------------------------

    def stop_robot(self, reason: str) -> None:
        """Stop what is being driven. Subclasses that drive override this."""

    def on_fault(self) -> None:
        """Called after a callback has failed, and after it works again. May be overridden."""

    def on_callback_error(self, entity: object, name: str, error: Exception) -> None:
        """Count and log an error of a callback, and stop the robot."""
        if not self.context.ok():
            return  # whatever failed because the process ends
        self.faults.add(id(entity), f"{name}: {one_line(error)}")
        log = self.get_logger()
        self._safely("stop", partial(self.stop_robot, f"error in a callback, {name}"))
        self._safely("report", self.on_fault)
        trace = "".join(traceback.format_exception(error))
        log.error(f"error in a callback, {name}: {trace}", throttle_duration_sec=LOG_S)

    def on_callback_success(self, entity: object) -> None:
        """A callback that failed before works again."""
        if self.faults.end(id(entity)):
            self.get_logger().info(
                "a callback that failed works again", throttle_duration_sec=LOG_S
            )
            self._safely("report", self.on_fault)

    def _safely(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            self.get_logger().error(f"{what}: {one_line(error)}", throttle_duration_sec=LOG_S)

    # -- transitions ------------------------------------------------------------------------------

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that failed with an exception: the node is unconfigured."""
        return TransitionCallbackReturn.SUCCESS

    def _guard_transitions(self) -> None:
        """Keep bad requests and exceptions of transitions from ending the process.

        rclpy raises the first in the executor, and hides the second.
        """
        for state_id, callback in self._callbacks.items():
            self._callbacks[state_id] = partial(self._transition, callback)
        service = self._service_change_state
        service.callback = partial(self._on_change_state, service.callback)
        # Of its own, so that parameters and states can be asked for while a model is being loaded.
        service.callback_group = MutuallyExclusiveCallbackGroup()
        service.callback_group.add_entity(service)

    def _on_change_state(self, change: Callable[[Any, Any], Any], request: Any, answer: Any) -> Any:
        with self._transitions:
            state = self._state_machine.current_state[1]
            try:
                answer = change(request, answer)
            except RCLError as error:
                wanted = request.transition.label or request.transition.id
                self.get_logger().warning(
                    f"transition {wanted} refused, the node is {state}: {one_line(error)}",
                    throttle_duration_sec=LOG_S,
                )
                answer.success = False
        return answer

    def _transition(
        self, callback: Callable[[LifecycleState], Any], state: LifecycleState
    ) -> TransitionCallbackReturn:
        name = callback.__name__.removeprefix("on_")
        try:
            result = callback(state)
            assert isinstance(result, TransitionCallbackReturn)
        except Exception as error:
            self.problem = f"{name}: {one_line(error)}"
            self.on_callback_error(self, f"transition {name}", error)
            failed = TransitionCallbackReturn.ERROR
            # A node whose clean-up has failed too can still be configured again.
            return TransitionCallbackReturn.SUCCESS if name == "error" else failed
        if result == TransitionCallbackReturn.SUCCESS:
            self.get_logger().info(f"{name}: done, was {state.label}")
            if name == "activate":
                self.faults.end_all()
            elif name == "shutdown" and self.get_parameter("autostart").value:
                # No lifecycle manager is there to notice a node that will never work again.
                self.finished.set_result(SHUT_DOWN)
        return result

    def _autostart(self) -> None:
        if self._start_timer is not None:
            self.destroy_timer(self._start_timer)
            self._start_timer = None
        success = TransitionCallbackReturn.SUCCESS
        with self._transitions:
            if self._state_machine.current_state[1] != "unconfigured":
                return  # somebody was quicker
            if self.trigger_configure() == success and self.trigger_activate() == success:
                return
        # No lifecycle manager would notice a node that remains half-started.
        self.finished.set_result(CANNOT_START)


def main(create: Callable[[], AutostartNode]) -> NoReturn:
    """Run a node as the whole process, which exits with the code of :func:`run_node`."""
    limit_arenas()
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
    """Create a node and spin it until it is interrupted, cannot start, or is shut down.

    Returns:
        0 after an interrupt, CANNOT_START with the reason on stderr, or SHUT_DOWN.
    """
    interrupt = Interrupt()
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # of the command line: a remapping, a parameter file
        print(f"error: cannot start: {one_line(error)}", file=sys.stderr)
        return CANNOT_START
    node: AutostartNode | None = None
    code = 0
    try:
        node = create()
        executor = ThreadedExecutor(node.num_threads, observer=node)
        executor.add_node(node)
        while rclpy.ok() and not (interrupt.came or node.finished.done()):
            executor.spin_once(timeout_sec=LOOK_S)
        if node.finished.done():
            code = int(node.finished.result() or 0)
        if code == SHUT_DOWN:
            print(f"{node.get_name()}: shut down through its lifecycle", file=sys.stderr)
            time.sleep(ANSWER_S)
        elif code:
            why = node.problem or "a transition was refused; the lines above say why"
            print(f"{node.get_name()}: cannot start: {why}", file=sys.stderr)
    except V2WError as error:
        print(f"error: {error}", file=sys.stderr)
        code = CANNOT_START
    except ExternalShutdownException:
        pass
    except Exception as error:
        if isinstance(error, RCLError) and not rclpy.ok():
            pass  # shut down between two looks at the context
        elif node is not None:
            raise
        else:
            # A topic whose name is none, security that is not there: a line says more than a
            # traceback.
            print(f"error: cannot start: {one_line(error)}", file=sys.stderr)
            code = CANNOT_START
    finally:
        _end_within(END_S, code)
        if node is not None:
            node.release()
        rclpy.try_shutdown()
    return code


def _end_within(seconds: float, code: int) -> None:
    """End the process after a time, in whatever a thread of it is stuck by then."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
