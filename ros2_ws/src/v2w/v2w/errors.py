"""From exceptions to the error codes of the ROS interfaces (v2w_msgs, nav2's convention)."""

from __future__ import annotations

from v2w_core.errors import V2WError

NONE = 0

#: The constants of Imagine, Plan (service) and Plan (action); a test keeps them equal.
CODES = {
    "NONE": NONE,
    "UNKNOWN": 100,
    "NOT_READY": 101,
    "INVALID_REQUEST": 102,
    "HISTORY_UNAVAILABLE": 103,
    "HISTORY_STALE": 104,
    "TF_ERROR": 105,
    "BUSY": 106,
    "TIMEOUT": 107,
    "MODEL_ERROR": 108,
    "NO_VALID_PLAN": 109,
}


class NodeError(V2WError):
    """A request that a node refuses, with the code it answers."""


def answer(error: BaseException) -> tuple[int, str]:
    """(error_code, error_msg) for a response. Unexpected exceptions are MODEL_ERROR."""
    if isinstance(error, V2WError):
        return CODES.get(error.code, CODES["UNKNOWN"]), str(error)
    if isinstance(error, TimeoutError):
        return CODES["TIMEOUT"], str(error) or "took too long"
    if isinstance(error, MemoryError):
        return CODES["MODEL_ERROR"], f"out of memory: {error}"
    return CODES["MODEL_ERROR"], f"{type(error).__name__}: {error}"
