"""One parameter of a node, and what its values may be."""

from __future__ import annotations

from dataclasses import dataclass

from v2w.bringup.ros_names import check_topic_name
from v2w_core.errors import V2WError

#: Kind of the parameters that are names of topics.
TOPIC = "topic name"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        name: its name.
        default: its default value; a value must have the same type.
        unit: physical unit, or what is counted; empty for neither.
        text: what it means, in one or two sentences.
        low, high: the range of a number, both included; None for any number.
        choices: the values that a text may have; empty for any text.
        fixed: it can only be set at start-up, in a YAML file or with ``-p``.
        kind: :data:`TOPIC` for a text that must be a topic's name; empty for any.
    """

    name: str
    default: bool | int | float | str
    unit: str
    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False
    kind: str = ""

    def check(self, value: object) -> None:
        """Check type and range of a value.

        Raises:
            V2WError: a value of another type, out of range, none of the choices, or no name.
        """
        field = f"parameter {self.name}"
        if type(value) is not type(self.default):
            rule = f"a {type(self.default).__name__}, such as {self.default!r}"
            raise V2WError(field, rule, value)
        if self.choices and value not in self.choices:
            raise V2WError(field, f"one of {', '.join(self.choices)}", value)
        if self.kind == TOPIC:
            check_topic_name(str(value), field)
        if self.low is None or self.high is None:
            return
        if not (isinstance(value, (int, float)) and self.low <= value <= self.high):
            raise V2WError(
                field, f"within [{self.low:g}, {self.high:g}] {self.unit}".strip(), value
            )


def check_all(table: tuple[Parameter, ...], values: dict[str, object]) -> None:
    """Check the values of a table's parameters; other names are ignored.

    Raises:
        V2WError: as :meth:`Parameter.check`.
    """
    by_name = {parameter.name: parameter for parameter in table}
    for name, value in values.items():
        if name in by_name:
            by_name[name].check(value)
