"""~/status (latched) and /diagnostics (once a period) of a model node."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from v2w_msgs.msg import ModelStatus

from v2w.messages import conversions

if TYPE_CHECKING:
    from v2w.nodes.model_node import ModelNode

#: (p50, p95) of what has not been measured yet.
NO_TIME = (-1.0, -1.0)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Health:
    """Publishes how a node is doing; the node says when something changed."""

    def __init__(self, node: ModelNode) -> None:
        self._node = node
        self._status = node.create_publisher(ModelStatus, "~/status", LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer: Any = None
        self._group = MutuallyExclusiveCallbackGroup()

    def start(self) -> None:
        """Publish periodically from now on."""
        if self._timer is None:
            period = self._node.get_parameter("status_period").value
            self._timer = self._node.create_timer(period, self._tick, callback_group=self._group)

    def stop(self) -> None:
        """Publish on demand only."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def publish(self) -> ModelStatus:
        """Publish ~/status now."""
        node, history = self._node, self._node.history
        size = age = None
        required, max_age = 0, node.get_parameter("max_history_age").value
        if history is not None:
            size, age = history.size(), history.age_s(node.now_ns)
            required = history.config.num_frames
        node.readiness.busy, node.readiness.waiting = node.busy, node.num_waiting
        state, text = node.readiness.state(size or 0, required, age, max_age)
        model, timings = node.model, {}
        if model is not None:
            timings = model.timings.percentiles()
            text = f"{text}; {model.degraded}" if model.degraded else text
        message = ModelStatus(
            header=conversions.header_message(node.now_ns, node.base_frame),
            state=state,
            model_id=getattr(node, "model_id", ""),
            device=model.device if model else "",
            backend=model.backend if model else node.get_parameter("backend").value,
            precision=model.precision if model else node.get_parameter("precision").value,
            engine_key=model.key if model else "",
            degraded=bool(model and model.degraded),
            history_size=size or 0,
            history_required=required,
            history_age=-1.0 if age is None else float(age),
            last_inference_time=float(node.readiness.last_inference_s),
            median_request_time=timings.get("request", NO_TIME)[0],
            median_step_time=timings.get("step", NO_TIME)[0],
            requests_waiting=node.num_waiting,
            requests_served=node.readiness.served,
            requests_failed=node.readiness.failed,
            message=text,
        )
        self._status.publish(message)
        return message

    def _tick(self) -> None:
        status = self.publish()
        values = {
            "state": status.NAMES[status.state],
            "history [frames]": f"{status.history_size}/{status.history_required}",
            "history age [s]": f"{status.history_age:.3f}",
            "back end": f"{status.backend} on {status.device}, {status.precision}",
            "engine": status.engine_key or "none built",
            "last inference [s]": f"{status.last_inference_time:.3f}",
            **self._timings(),
            "requests waiting": str(status.requests_waiting),
            "requests served": str(status.requests_served),
            "requests failed": str(status.requests_failed),
            "peak memory [MiB]": f"{_peak_memory_mib():.0f}",
        }
        if self._node.history is not None:
            counters = self._node.history.counters
            values |= {
                "camera frames": str(counters.frames),
                "odometry messages": str(counters.odometry),
                "late messages dropped": str(counters.dropped),
                "jumps back in time": str(counters.jumps),
            }
        level = {status.READY: DiagnosticStatus.OK, status.BUSY: DiagnosticStatus.OK}
        entry = DiagnosticStatus(
            level=level.get(status.state, DiagnosticStatus.WARN),
            name=f"{self._node.get_fully_qualified_name()}: model",
            message=status.message,
            hardware_id=status.device,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        if status.degraded:
            entry.level = DiagnosticStatus.WARN
        if status.state == status.ERROR:
            entry.level = DiagnosticStatus.ERROR
        array = DiagnosticArray(header=status.header, status=[entry])
        self._diagnostics.publish(array)

    def _timings(self) -> dict[str, str]:
        """Of the last requests, by stage."""
        model = self._node.model
        found = {} if model is None else model.timings.percentiles()
        return {
            f"{name} p50 / p95 [ms]": f"{1e3 * p50:.1f} / {1e3 * p95:.1f}"
            for name, (p50, p95) in found.items()
        }


def _peak_memory_mib() -> float:
    scale = 1024.0 if sys.platform != "darwin" else 1024.0**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
