"""Declares the parameters of a table on a node, and reads them. Uses rclpy when it is called."""

from __future__ import annotations

from typing import Any

from v2w.parameters.parameter import Parameter, check_all
from v2w_core.errors import V2WError


def declare(node: Any, table: tuple[Parameter, ...]) -> None:
    """Declare every parameter with its descriptor; later changes are checked against the table.

    Raises:
        V2WError: a value given at start-up has the wrong type or is out of range.
    """
    from rcl_interfaces.msg import (
        FloatingPointRange,
        IntegerRange,
        ParameterDescriptor,
        SetParametersResult,
    )
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    for parameter in table:
        unit = f" [{parameter.unit}]" if parameter.unit else ""
        choices = f" One of: {', '.join(parameter.choices)}." if parameter.choices else ""
        descriptor = ParameterDescriptor(
            description=parameter.text + unit + choices, read_only=parameter.fixed
        )
        if parameter.low is not None and parameter.high is not None:
            if isinstance(parameter.default, int):
                limits = IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high))
                descriptor.integer_range = [limits]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=parameter.low, to_value=parameter.high)
                ]
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise V2WError(
                f"parameter {parameter.name}", descriptor.description, str(error)
            ) from error
        parameter.check(value)

    def on_set(changes: list[Any]) -> SetParametersResult:
        try:
            check_all(table, {change.name: change.value for change in changes})
        except V2WError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def values(node: Any, table: tuple[Parameter, ...]) -> dict[str, Any]:
    """The current values of a table's parameters, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}
