"""The status of a model node: a record that threads update, and the report that is read from it.

Knows no ROS. The states are those of v2w_msgs/ModelStatus.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from v2w.inference.faults import FaultReport
from v2w.navigation.history import HistoryReport

UNKNOWN, LOADING, WAITING_FOR_HISTORY, READY, BUSY, ERROR, WARMING_UP = range(7)
NAMES = ("UNKNOWN", "LOADING", "WAITING_FOR_HISTORY", "READY", "BUSY", "ERROR", "WARMING_UP")


class Phase(Enum):
    """How far a model node has come in its lifecycle."""

    UNCONFIGURED = auto()
    LOADING = auto()
    WARMING_UP = auto()
    INACTIVE = auto()
    ACTIVE = auto()


@dataclass(frozen=True)
class RuntimeReport:
    """What computes the rollouts of a node.

    Attributes:
        device: PyTorch's name of it, e.g. "cpu"; empty while no model is loaded.
        backend: name of the back end.
        precision: precision of the rollouts, e.g. "fp32".
        engine_key: short name of the built engine; empty for a back end that builds none.
        degraded: why something else computes than the parameters name; else empty.
        timings: stage -> (p50, p95) in seconds over the last requests.
    """

    device: str = ""
    backend: str = ""
    precision: str = ""
    engine_key: str = ""
    degraded: str = ""
    timings: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestCounts:
    """Requests since the node was configured.

    Attributes:
        served: requests that were answered without an error.
        failed: requests that were answered with an error code.
        last_inference_s: how long the model took for the last one [s]; -1 before the first.
    """

    served: int = 0
    failed: int = 0
    last_inference_s: float = -1.0


@dataclass(frozen=True)
class StatusReport:
    """A model node at one moment: all that ~/status and /diagnostics say.

    Attributes:
        stamp_ns: when the report was made, by the node's clock.
        frame_id: the body frame.
        phase: how far the node has come in its lifecycle.
        error: why the node cannot work; empty while it can.
        faults: errors that callbacks raised.
        num_requests: requests that have come and are not answered yet.
        requests: counts of those that were answered.
        model_id: name of the checkpoint.
        runtime: what computes.
        history: camera frames and odometry; None without a model.
        max_history_age_s: a newest frame older than this is stale [s].
        checks: of a planner, each as "name: OK" or "name: why not".
        stopped_because: why the last plan was given up; empty when it was not.
    """

    stamp_ns: int = 0
    frame_id: str = ""
    phase: Phase = Phase.UNCONFIGURED
    error: str = ""
    faults: FaultReport = field(default_factory=FaultReport)
    num_requests: int = 0
    requests: RequestCounts = RequestCounts()
    model_id: str = ""
    runtime: RuntimeReport = field(default_factory=RuntimeReport)
    history: HistoryReport | None = None
    max_history_age_s: float = 0.0
    checks: tuple[str, ...] = ()
    stopped_because: str = ""

    @property
    def failing(self) -> tuple[str, ...]:
        """The lines of the checks that fail, while the node is active."""
        if self.phase is not Phase.ACTIVE:
            return ()
        return tuple(line for line in self.checks if not line.partition(": ")[2].startswith("OK"))

    @property
    def num_waiting(self) -> int:
        """Requests behind the one that is being computed."""
        return max(0, self.num_requests - 1)

    @property
    def state(self) -> int:
        """The constant of ModelStatus."""
        return self._state()[0]

    @property
    def message(self) -> str:
        """The state in a sentence for people, why it is degraded, and why it does not drive."""
        parts = [self._state()[1], self.runtime.degraded]
        if self.failing:
            parts.append(f"not safe to drive: {', '.join(self.failing)}")
        if self.stopped_because:
            parts.append(f"stopped: {self.stopped_because}")
        return "; ".join(part for part in parts if part)

    def _state(self) -> tuple[int, str]:
        if self.error:
            return ERROR, self.error
        if self.faults.text:
            return ERROR, f"error {self.faults.count} in a callback, {self.faults.text}"
        if self.phase is Phase.LOADING:
            return LOADING, "loading the checkpoint"
        if self.phase is Phase.WARMING_UP:
            return WARMING_UP, "trial rollouts, so that the first request is no slower than others"
        if self.phase is Phase.UNCONFIGURED or self.history is None:
            return UNKNOWN, "not configured"
        if self.phase is Phase.INACTIVE:
            return UNKNOWN, "configured, not active"
        if self.num_requests:
            return BUSY, f"working on a request, {self.num_waiting} waiting"
        if self.history.camera_problem:
            return WAITING_FOR_HISTORY, f"camera: {self.history.camera_problem}"
        size, required, age_s = self.history.size, self.history.required, self.history.age_s
        if age_s is None:
            return WAITING_FOR_HISTORY, "no camera image with odometry around it yet"
        if age_s > self.max_history_age_s:
            return WAITING_FOR_HISTORY, f"the newest usable frame is {age_s:.1f} s old"
        if size < required:
            return WAITING_FOR_HISTORY, f"{size} of {required} frames"
        return READY, "ready"


class StatusRecord:
    """Phase, error and request counts of a node. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.UNCONFIGURED
        self._error = ""
        self._served = self._failed = 0
        self._last_inference_s = -1.0

    def restart(self, phase: Phase, error: str = "") -> None:
        """Enter a phase with all counts at zero; ``error`` says why the node cannot work."""
        with self._lock:
            self._phase, self._error = phase, error
            self._served = self._failed = 0
            self._last_inference_s = -1.0

    def activate(self) -> None:
        """The node answers requests from here on; counts and error stay."""
        with self._lock:
            self._phase = Phase.ACTIVE

    def deactivate(self) -> None:
        """The node answers no requests any more; does nothing unless it was active."""
        with self._lock:
            if self._phase is Phase.ACTIVE:
                self._phase = Phase.INACTIVE

    @property
    def active(self) -> bool:
        """Whether the node answers requests."""
        with self._lock:
            return self._phase is Phase.ACTIVE

    def finish(self, ok: bool, duration_s: float | None = None) -> None:
        """Count an answered request; ``duration_s`` [s] when the model computed something."""
        with self._lock:
            if ok:
                self._served += 1
            else:
                self._failed += 1
            if duration_s is not None:
                self._last_inference_s = duration_s

    def fail(self, error: str) -> bool:
        """Note why the node cannot work any more. Returns False when a reason is known already."""
        with self._lock:
            first = not self._error
            self._error = self._error or error
            return first

    def read(self) -> tuple[Phase, str, RequestCounts]:
        """Phase, error and counts of one moment."""
        with self._lock:
            counts = RequestCounts(self._served, self._failed, self._last_inference_s)
            return self._phase, self._error, counts
