"""Errors that a user can act on: every message names the field, the rule and the value."""

from __future__ import annotations


class V2WError(ValueError):
    """Bad input. The command line exits with code 2, a ROS service answers with ``error_code``.

    Args:
        field: what was wrong ("action_sequence", "topic", "checkpoint").
        rule: what is allowed, and what to do about it.
        value: the offending value, as it was given (shortened in the message).
        code: one of the names of the ROS interfaces' error codes, so that a node can map the
            error without parsing text ("INVALID_REQUEST", "HISTORY_STALE", ...).
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
    """A checkpoint that is missing, truncated, of another format version, or that does not fit."""


class DataError(V2WError):
    """A recording, an episode or an image that cannot be used as it is."""


class DeviceError(V2WError):
    """The device that computes is gone or broken: nothing on it can be used any more."""


class Interrupted(Exception):
    """Whoever asked for a rollout no longer wants it (a deadline, a cancelled plan)."""


def _short(value: object, limit: int = 160) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
