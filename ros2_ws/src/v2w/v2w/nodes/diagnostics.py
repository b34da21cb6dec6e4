"""~/status (latched) and /diagnostics (once a period): a node's StatusReport as messages."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from v2w_msgs.msg import ModelStatus

from v2w.inference import status
from v2w.inference.status import StatusReport
from v2w.messages import conversions

#: (p50, p95) of a stage that has not been measured yet [s].
NO_TIME = (-1.0, -1.0)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Diagnostics:
    """Publishes the status of a node, at once when :meth:`publish` is called, and periodically.

    Args:
        node: has the publishers, the timer and the parameter status_period [s].
        report: the status to publish; called from any thread.
    """

    def __init__(self, node: Node, report: Callable[[], StatusReport]) -> None:
        self._node, self._report = node, report
        self._status = node.create_publisher(ModelStatus, "~/status", LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer: Any = None
        self._group = MutuallyExclusiveCallbackGroup()
        # A report that was made earlier must not be published later: the last one is latched.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Publish periodically from now on."""
        if self._timer is None:
            period = self._node.get_parameter("status_period").value
            self._timer = self._node.create_timer(
                period, self._tick, callback_group=self._group,
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )  # fmt: skip

    def stop(self) -> None:
        """Publish only when :meth:`publish` is called."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def publish(self) -> StatusReport:
        """Publish ~/status now. Returns the report that it was made from."""
        with self._lock:
            report = self._report()
            self._status.publish(status_message(report))
        return report

    def _tick(self) -> None:
        report = self.publish()
        header = conversions.header_message(report.stamp_ns, report.frame_id)
        name = f"{self._node.get_fully_qualified_name()}: model"
        entry = diagnostic_message(report, name)
        self._diagnostics.publish(DiagnosticArray(header=header, status=[entry]))


def status_message(report: StatusReport) -> ModelStatus:
    """The report as v2w_msgs/ModelStatus."""
    runtime, history, requests = report.runtime, report.history, report.requests
    age_s = None if history is None else history.age_s
    return ModelStatus(
        header=conversions.header_message(report.stamp_ns, report.frame_id),
        state=report.state,
        model_id=report.model_id,
        device=runtime.device,
        backend=runtime.backend,
        precision=runtime.precision,
        engine_key=runtime.engine_key,
        degraded=bool(runtime.degraded),
        history_size=0 if history is None else history.size,
        history_required=0 if history is None else history.required,
        history_age=-1.0 if age_s is None else float(age_s),
        last_inference_time=float(requests.last_inference_s),
        median_request_time=runtime.timings.get("request", NO_TIME)[0],
        median_step_time=runtime.timings.get("step", NO_TIME)[0],
        requests_waiting=report.num_waiting,
        requests_served=requests.served,
        requests_failed=requests.failed,
        message=report.message,
        checks=list(report.checks),
        stopped_because=report.stopped_because,
    )


def diagnostic_message(report: StatusReport, name: str) -> DiagnosticStatus:
    """The report as diagnostic_msgs/DiagnosticStatus, with the times of every stage."""
    return DiagnosticStatus(
        level=_level(report),
        name=name,
        message=report.message,
        hardware_id=report.runtime.device,
        values=[KeyValue(key=key, value=value) for key, value in _values(report).items()],
    )


def _level(report: StatusReport) -> bytes:
    if report.state == status.ERROR:
        return DiagnosticStatus.ERROR
    works = report.state in (status.READY, status.BUSY) and not report.runtime.degraded
    works = works and not report.failing
    return DiagnosticStatus.OK if works else DiagnosticStatus.WARN


def _values(report: StatusReport) -> dict[str, str]:
    runtime, history, requests = report.runtime, report.history, report.requests
    size, required = (0, 0) if history is None else (history.size, history.required)
    age_s = -1.0 if history is None or history.age_s is None else history.age_s
    values = {
        "state": status.NAMES[report.state],
        "history [frames]": f"{size}/{required}",
        "history age [s]": f"{age_s:.3f}",
        "back end": f"{runtime.backend} on {runtime.device}, {runtime.precision}",
        "engine": runtime.engine_key or "none built",
        "last inference [s]": f"{requests.last_inference_s:.3f}",
    }
    for stage, (p50, p95) in runtime.timings.items():
        values[f"{stage} p50 / p95 [ms]"] = f"{1e3 * p50:.1f} / {1e3 * p95:.1f}"
    values |= {
        "requests waiting": str(report.num_waiting),
        "requests served": str(requests.served),
        "requests failed": str(requests.failed),
        "errors in callbacks": str(report.faults.count),
        "peak memory [MiB]": f"{_peak_memory_mib():.0f}",
    }
    for line in report.checks:
        name, _, text = line.partition(": ")
        values[f"check {name}"] = text
    if report.checks:
        values["stopped because"] = report.stopped_because or "it was not stopped"
    if history is not None:
        counters = history.counters
        values |= {
            "camera frames": str(counters.frames),
            "odometry messages": str(counters.odometry),
            "messages dropped": str(counters.dropped),
            "jumps back in time": str(counters.jumps),
        }
    return values


def _peak_memory_mib() -> float:
    scale = 1024.0 if sys.platform != "darwin" else 1024.0**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
