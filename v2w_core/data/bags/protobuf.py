"""Protobuf messages as dicts, by the schema that an MCAP file holds (a FileDescriptorSet)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from v2w_core.errors import DataError

#: Messages inside each other; the types of sensors have five.
_MAX_DEPTH = 16


def protobuf_decoder(definition: bytes, kind: str) -> Callable[[bytes], dict[str, Any]]:
    """A function from bytes to a dict of all fields of the message type ``kind``.

    Fields that are absent have protobuf's defaults, messages too.

    Raises:
        DataError: protobuf is not installed, or the definition does not hold that type.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise DataError(kind, "needs protobuf: pip install 'v2w[data]'", str(error)) from error
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(definition).file
        pool = descriptor_pool.DescriptorPool()
        for file in _in_order({file.name: file for file in files}):
            pool.Add(file)
        message = message_factory.GetMessageClass(pool.FindMessageTypeByName(kind))
    except Exception as error:  # the library's errors have no common kind
        raise DataError(kind, "a protobuf schema that defines this type", str(error)) from error
    return lambda raw: _as_dict(message.FromString(raw), 0)


def _in_order(files: dict[str, Any]) -> list[Any]:
    """The files of a schema, each after those that it imports."""
    found: dict[str, Any] = {}

    def add(name: str) -> None:
        if name in files and name not in found:
            file = files.pop(name)
            for other in file.dependency:
                add(other)
            found[name] = file

    for name in list(files):
        add(name)
    return list(found.values())


def _as_dict(message: Any, depth: int) -> dict[str, Any]:
    fields = message.DESCRIPTOR.fields
    return {field.name: _value(getattr(message, field.name), depth) for field in fields}


def _value(value: Any, depth: int) -> Any:
    if hasattr(value, "DESCRIPTOR"):
        # A type that holds itself has no end where it is absent.
        return _as_dict(value, depth + 1) if depth < _MAX_DEPTH else None
    if isinstance(value, str | bytes | int | float):
        return value
    return [_value(item, depth) for item in value]
