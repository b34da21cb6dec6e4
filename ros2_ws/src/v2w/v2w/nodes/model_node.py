"""The base of world_model_node and planner_node: a lifecycle node with a model and a history.

configure loads the weights, activate subscribes and serves, deactivate stops that, cleanup frees
the device.
"""

from __future__ import annotations

import gc
import random
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import State, TransitionCallbackReturn

from v2w import parameters
from v2w.inference.faults import one_line
from v2w.inference.status import Phase, RuntimeReport, StatusRecord, StatusReport
from v2w.navigation.history import HistoryConfig, Snapshot
from v2w.navigation.sensor_history import HistoryBuffer
from v2w.nodes.clients import LimitedCallbackGroup
from v2w.nodes.diagnostics import Diagnostics
from v2w.nodes.graph import Graph
from v2w.nodes.lifecycle import NUM_THREADS, AutostartNode
from v2w.nodes.requests import Requests, not_ready
from v2w.nodes.sensor_subscriptions import SensorObserver, SensorSubscriptions
from v2w.parameters import Parameter
from v2w_core.errors import V2WError

if TYPE_CHECKING:
    from v2w.inference.model_runtime import ModelRuntime

#: How long deactivation waits for the current request to end, and how long the end of the process
#: does [s].
PATIENCE_S, END_PATIENCE_S = 10.0, 1.5


class ModelNode(AutostartNode, ABC):
    """A node that answers requests with a model. Subclasses say with which services.

    Args:
        name: of the node.
        table: its parameters.

    Attributes:
        model: the loaded model; None unless configured.
        history: camera frames and odometry; None unless configured.
        stopping: whether the node is being deactivated, so that requests must end.
        requests: are answered one at a time.
        graph: who else is there.
    """

    def __init__(self, name: str, table: tuple[Parameter, ...]) -> None:
        super().__init__(name, table)
        self.model: ModelRuntime | None = None
        self.history: HistoryBuffer | None = None
        self.model_id = ""
        self.status = StatusRecord()
        self.stopping = self._ending = False
        # Requests may overlap on purpose: each waits in a thread of the executor for its turn.
        max_waiting = self.get_parameter("max_waiting_requests").value
        at_once = max_waiting + 2  # one at work, one being refused
        self.request_group = LimitedCallbackGroup(at_once)
        self.num_threads = NUM_THREADS + 2 * at_once  # goals of an action are not in the group
        self.requests = Requests(self, max_waiting)
        self.graph = Graph(self)
        self._sensors: SensorSubscriptions | None = None
        self.diagnostics = Diagnostics(self, self.report)

    # -- lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the weights and do trial rollouts."""
        self.stopping = self._ending  # else the trial rollouts would be given up
        self.status.restart(Phase.LOADING)
        self.diagnostics.publish()
        try:
            values = parameters.values(self, self.table)
            self.requests.run(lambda: self._load(values))
        except Exception as error:
            self.problem = one_line(error)
            if not isinstance(error, V2WError):
                self.get_logger().error(traceback.format_exc())
        else:
            self.problem = ""
        if self.problem:  # outside the handler, because its traceback refers to the model
            self._free()
            self.status.restart(Phase.UNCONFIGURED, self.problem)
            self.get_logger().error(f"cannot configure: {self.problem}")
            self.diagnostics.publish()
            return TransitionCallbackReturn.FAILURE
        assert self.history is not None
        self._sensors = SensorSubscriptions(
            self, self.history, self.on_time_jump, self.sensor_observer()
        )
        self.status.restart(Phase.INACTIVE)
        self.diagnostics.start()
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Subscribe to the sensors and answer requests."""
        assert self.history is not None and self._sensors is not None
        reason = self.why_not_active()
        if reason:
            self.problem = reason
            self.get_logger().error(f"cannot activate: {reason}")
            return TransitionCallbackReturn.FAILURE
        self.stopping = self._ending
        self.history.clear()
        self._sensors.open()
        self.serve()
        self.status.activate()
        self.diagnostics.publish()
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Remove the subscriptions; the current request and later ones end with an error."""
        self._give_up_requests()
        self.unserve()
        self._close_sensors()
        self.diagnostics.publish()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Free the model and its device."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Deactivate and clean up, from any state."""
        self._abandon()
        return super().on_shutdown(state)

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """After a transition that failed with an exception: clean up; the node is unconfigured."""
        self._abandon()
        self.status.restart(Phase.UNCONFIGURED, self.problem)
        self.diagnostics.publish()
        return super().on_error(state)

    def _abandon(self) -> None:
        self._give_up_requests()
        self.unserve()
        self._close_sensors()
        self._free()

    def _close_sensors(self) -> None:
        if self._sensors is not None:
            self._sensors.close()

    def release(self) -> None:
        """Stop the robot and end requests, then destroy the node."""
        self.stopping = self._ending = True
        if self.context.ok():
            self.halt()
        if self.status.active:  # else there are none; loading a model need not be waited for
            self.requests.wait_for_end(END_PATIENCE_S)
        super().release()

    @abstractmethod
    def serve(self) -> None:
        """Create what answers requests; the services themselves are there all the time."""

    @abstractmethod
    def unserve(self) -> None:
        """Destroy what :meth:`serve` created; may be called more than once."""

    @abstractmethod
    def batch_sizes(self, values: dict[str, Any]) -> tuple[int, ...]:
        """Numbers of candidates that requests will have, for the trial rollouts."""

    @abstractmethod
    def horizon(self, values: dict[str, Any]) -> int:
        """Number of steps of the trial rollouts; the model is loaded when this is called."""

    def check_parameters(
        self, values: dict[str, Any], changed: Collection[str] = ("horizon",)
    ) -> None:
        """Check values that depend on the loaded model; subclasses override this.

        Args:
            values: parameter values by name.
            changed: names of those that are being set.

        Raises:
            V2WError: a value that the model cannot work with.
        """

    def _load(self, values: dict[str, Any]) -> None:
        import torch

        from v2w.inference.model_runtime import ModelRuntime, settings_from

        settings = settings_from(values)
        if values["num_threads"]:
            torch.set_num_threads(values["num_threads"])
        began = time.perf_counter()
        self.model = ModelRuntime(
            settings, self.get_logger().warning, self.on_model_replaced, self.requests.is_given_up
        )
        self.model_id = settings.checkpoint.name
        config = HistoryConfig(
            num_frames=self.model.config.num_history,
            buffer_s=values["buffer_duration"],
            max_age_s=values["max_history_age"],
            tolerance=values["frame_tolerance"],
            max_bytes=values["buffer_mib"] * 2.0**20,
        )
        action = self.model.config.action
        needed_s = (config.num_frames - 1 + config.tolerance) * action.dt_s
        if config.buffer_s < needed_s:
            rule = f"at least {needed_s:g} s for {config.num_frames} frames"
            raise V2WError("parameter buffer_duration", rule, config.buffer_s)
        self.check_parameters(parameters.values(self, self.table))
        self.history = HistoryBuffer(action, self.model.config.observation, config)
        loaded_s, began = time.perf_counter() - began, time.perf_counter()
        self.status.restart(Phase.WARMING_UP)
        self.diagnostics.publish()
        self.model.warm_up(self.batch_sizes(values), self.horizon(values))
        self.get_logger().info(
            f"{self.model_id}: {config.num_frames} frames {action.dt_s:g} s apart, actions "
            f"{', '.join(action.names)}, on {self.model.device} ({self.model.backend}, "
            f"{self.model.precision}), loaded in {loaded_s:.1f} s, "
            f"warm after {time.perf_counter() - began:.1f} s"
        )

    def _free(self) -> None:
        self.diagnostics.stop()
        self.model = None
        self.history = self._sensors = None
        self.status.restart(Phase.UNCONFIGURED)
        self.diagnostics.publish()
        gc.collect()
        try:
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        except ImportError:
            pass

    # -- what happens to a node -------------------------------------------------------------------

    def why_not_active(self) -> str:
        """Why the node must not be activated; empty when it may. Subclasses override this."""
        return ""

    def sensor_observer(self) -> SensorObserver | None:
        """Who looks at every sensor message first. Subclasses override this."""
        return None

    def halt(self) -> None:
        """Stop the robot until the node is activated again. Subclasses override this."""

    def on_time_jump(self) -> None:
        """Called when stamps went back: plans of before are void. Subclasses override this."""

    # -- requests -------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Time of the node's clock, which is simulated time with use_sim_time [ns]."""
        return int(self.get_clock().now().nanoseconds)

    @property
    def odom_frame(self) -> str:
        """Frame of the odometry; "odom" until a message names another."""
        sensors = self._sensors
        return "odom" if sensors is None else sensors.odom_frame

    @property
    def base_frame(self) -> str:
        """The body frame; "base_link" until an odometry message names another."""
        sensors = self._sensors
        return "base_link" if sensors is None else sensors.base_frame

    def report(self) -> StatusReport:
        """The node's status now. May be called from any thread; changes nothing."""
        phase, error, requests = self.status.read()
        model, history, now_ns = self.model, self.history, self.now_ns
        if model is not None:
            runtime = model.report()
        else:
            backend, precision = (self.get_parameter(n).value for n in ("backend", "precision"))
            runtime = RuntimeReport(backend=backend, precision=precision)
        return StatusReport(
            stamp_ns=now_ns,
            frame_id=self.base_frame,
            phase=phase,
            error=error,
            faults=self.faults.read(),
            num_requests=self.requests.count if phase is Phase.ACTIVE else 0,
            requests=requests,
            model_id=self.model_id,
            runtime=runtime,
            history=None if history is None else history.report(now_ns),
            max_history_age_s=self.get_parameter("max_history_age").value,
        )

    def snapshot(self, at_ns: int | None = None) -> Snapshot:
        """The history that ends now, or at ``at_ns`` [ns].

        Raises:
            NodeError: NOT_READY when the node is not active; else as
                :meth:`HistoryBuffer.snapshot`.
        """
        history = self.history
        if history is None or not self.status.active:
            raise not_ready()
        assert self.model is not None
        with self.model.timings.stage("history"):
            return history.snapshot(self.now_ns, at_ns)

    def on_model_replaced(self) -> None:
        """Called when another model computes from here on, so that encodings of before are void.

        Subclasses override this.
        """

    def on_model_lost(self) -> None:
        """Called when no request can be answered any more. Subclasses override this."""

    def on_fault(self) -> None:
        """Publish the status."""
        self.diagnostics.publish()

    def _give_up_requests(self) -> None:
        """Let requests end with an error before what answers them is destroyed."""
        self.stopping = True
        self.status.deactivate()
        self.halt()
        self.requests.wait_for_end(PATIENCE_S)


def chosen_seed(seed: int) -> int:
    """The seed of a request; a random one when it is negative."""
    return random.SystemRandom().randrange(2**31) if seed < 0 else seed % 2**62
