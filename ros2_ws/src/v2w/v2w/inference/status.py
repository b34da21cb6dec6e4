"""Which state a model node reports: ModelStatus, decided without ROS."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN, LOADING, WAITING_FOR_HISTORY, READY, BUSY, ERROR, WARMING_UP = range(7)
NAMES = ("UNKNOWN", "LOADING", "WAITING_FOR_HISTORY", "READY", "BUSY", "ERROR", "WARMING_UP")


@dataclass
class Readiness:
    """Facts that the node sets; :meth:`state` turns them into one state and a sentence."""

    loading: bool = False
    warming_up: bool = False
    loaded: bool = False
    active: bool = False
    busy: bool = False
    waiting: int = 0
    error: str = ""
    served: int = 0
    failed: int = 0
    last_inference_s: float = -1.0

    def state(
        self, history_size: int, required: int, age_s: float | None, max_age_s: float
    ) -> tuple[int, str]:
        """(constant of ModelStatus, message for people).

        Args:
            history_size: frames at the model's rate there are, of ``required``.
            age_s: of the newest usable frame, None without one; stale above ``max_age_s``.
        """
        if self.error:
            return ERROR, self.error
        if self.loading:
            return LOADING, "loading the checkpoint"
        if self.warming_up:
            return WARMING_UP, "trial rollouts, so that the first request is no slower than others"
        if not self.loaded:
            return UNKNOWN, "not configured"
        if not self.active:
            return UNKNOWN, "configured, not active"
        if self.busy:
            return BUSY, f"working on a request, {self.waiting} waiting"
        if age_s is None:
            return WAITING_FOR_HISTORY, "no camera image with odometry around it yet"
        if age_s > max_age_s:
            return WAITING_FOR_HISTORY, f"the newest usable frame is {age_s:.1f} s old"
        if history_size < required:
            return WAITING_FOR_HISTORY, f"{history_size} of {required} frames"
        return READY, "ready"

    def finish(self, ok: bool, duration_s: float | None = None) -> None:
        """Count a request that was answered; ``duration_s`` when the model ran."""
        if ok:
            self.served += 1
        else:
            self.failed += 1
        if duration_s is not None:
            self.last_inference_s = duration_s
