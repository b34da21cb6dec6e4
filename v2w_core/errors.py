"""Errors that a user can act on: every message names the field, the rule and the value."""

from __future__ import annotations


class V2WError(ValueError):
    """Invalid input: the command line exits with 2, a ROS service responds with ``error_code``.

    Args:
        field: name of the invalid input ("action_sequence", "topic", "checkpoint").
        rule: what is allowed, and how to correct the input.
        value: the invalid value (shortened in the message).
        code: name of an error code of the ROS interfaces ("INVALID_REQUEST", "HISTORY_STALE",
            ...), so that a node can map the error without parsing its text.
    """

    def __init__(
        self, field: str, rule: str, value: object = None, *, code: str = "INVALID_REQUEST"
    ) -> None:
        self.field = field
        self.rule = rule
        self.value = value
        self.code = code
        shown = "" if value is None else f" (got {_short(value)})"
        super().__init__(f"{field}: {rule}{shown}")


class CheckpointError(V2WError):
    """A checkpoint that is missing, truncated, incompatible or of another format version."""


class DataError(V2WError):
    """A recording, an episode or an image that cannot be used."""


class DeviceError(V2WError):
    """The compute device is lost or broken: nothing on it can be used any more."""


class Interrupted(Exception):
    """The caller stopped a rollout: its deadline has passed, or its plan was cancelled."""


def _short(value: object, limit: int = 160) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
