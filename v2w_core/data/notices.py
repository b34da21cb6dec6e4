"""Warnings about a recording, as data: printed by commands and kept with the episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Notice:
    """One thing about a recording that its user should know.

    Attributes:
        code: short name, the same for every recording ("sideways", "camera_clock").
        text: what was found, with its numbers.
        remedy: what to do about it: an option, a command, or what to check.
        numbers: the numbers in the text, by name with units (JSON values).
    """

    code: str
    text: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text

    def to_dict(self) -> dict[str, Any]:
        """The notice as JSON values."""
        return {
            "code": self.code,
            "text": self.text,
            "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }


def notices_from(attributes: Mapping[str, Any]) -> list[Notice]:
    """The notices in an episode's attributes; entries of another form are left out."""
    found = []
    rows = attributes.get("warnings")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            numbers = row.get("numbers")
            found.append(
                Notice(
                    str(row.get("code", "")),
                    row["text"],
                    str(row.get("remedy", "")),
                    numbers if isinstance(numbers, dict) else {},
                )
            )
    return found


def as_attributes(notices: Iterable[Notice]) -> dict[str, Any]:
    """Attributes of an episode that keep the notices; none if there are none."""
    rows = [notice.to_dict() for notice in notices]
    return {"warnings": rows} if rows else {}
