"""Requests to set parameters that cannot be converted: they are refused, where rclpy has an error.

A value of a type that does not exist, or bytes that are no list of bytes, end rclpy's callback
with an exception: the client gets no answer, and the node counts a fault of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter

from v2w.inference.faults import one_line

#: Names of parameters are cut off in answers after so many characters.
LONGEST_NAME = 80


def guard_parameters(node: Node) -> None:
    """Let a node answer every request to set parameters, whatever is in it."""
    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = partial(_set, service.callback)
        elif service.srv_type is SetParametersAtomically:
            service.callback = partial(_set_atomically, service.callback)


def _set(rclpys: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    for parameter in request.parameters:
        one = SetParameters.Request(parameters=[parameter])
        try:
            response.results.extend(rclpys(one, SetParameters.Response()).results)
        except Exception as error:
            response.results.append(_refusal([parameter], error))
    return response


def _set_atomically(rclpys: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    try:
        return rclpys(request, response)
    except Exception as error:
        response.result = _refusal(request.parameters, error)
        return response


def _refusal(messages: list[Any], error: Exception) -> SetParametersResult:
    """Why parameters were not set: the first that is none, else the error."""
    for message in messages:
        try:
            Parameter.from_parameter_msg(message)
        except Exception as wrong:
            name, rule = message.name[:LONGEST_NAME], "must be a value of one of ROS's types"
            reason = f"parameter {name!r}: {rule}: {one_line(wrong)}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=False, reason=one_line(error))
