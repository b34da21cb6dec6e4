"""Exceptions of the nodes, and the error codes of the ROS interfaces (nav2's convention)."""

from __future__ import annotations

from v2w_core.errors import V2WError

NONE = 0

#: The constants of the Imagine and Plan services and of the Plan action; a test keeps them equal.
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
    "NOT_DRIVEN": 110,
}


class NodeError(V2WError):
    """A request that a node refuses; ``code`` names the error code of the answer."""


def answer(error: BaseException) -> tuple[int, str]:
    """(error_code, error_msg) for an exception. Unexpected exceptions are MODEL_ERROR."""
    if isinstance(error, V2WError):
        return CODES.get(error.code, CODES["UNKNOWN"]), str(error)
    if isinstance(error, TimeoutError):
        return CODES["TIMEOUT"], str(error) or "took too long"
    if isinstance(error, MemoryError):
        return CODES["MODEL_ERROR"], f"out of memory: {error}"
    return CODES["MODEL_ERROR"], f"{type(error).__name__}: {error}"
