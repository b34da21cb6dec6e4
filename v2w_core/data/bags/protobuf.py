"""Protobuf messages as dicts, read with the schema that an MCAP file holds (FileDescriptorSet).

Only what messages of sensors use: no groups, maps, or extensions. Absent fields are zero.
Wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from v2w_core.errors import DataError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Field types (FieldDescriptorProto.Type) -> struct format of fixed-size numbers.
_FIXED = {1: "<d", 2: "<f", 6: "<Q", 7: "<I", 15: "<i", 16: "<q"}
_STRING, _MESSAGE, _DATA, _BOOL, _SIGNED, _ZIGZAG = 9, 11, 12, 8, (3, 5), (17, 18)


@dataclass(frozen=True)
class _Field:
    name: str
    kind: int
    repeated: bool
    message: str


def protobuf_decoder(definition: bytes, kind: str) -> Callable[[bytes], dict[str, Any]]:
    """A function from bytes to a dict of all fields of the message type ``kind``.

    Raises:
        DataError: the definition does not hold that type.
    """
    try:
        types = _types(definition)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError(kind, "a protobuf schema that can be read", str(error)) from error
    if kind not in types:
        raise DataError(kind, f"one of the schema's {', '.join(sorted(types)) or 'types'}", kind)
    return lambda raw: _message(raw, kind, types)


def _types(definition: bytes) -> dict[str, dict[int, _Field]]:
    """Fields by number of every message type in a FileDescriptorSet."""
    types: dict[str, dict[int, _Field]] = {}

    def learn(raw: bytes, prefix: str) -> None:
        name, fields, nested = "", {}, []
        for number, value in _entries(raw):
            if number == 1:
                name = f"{prefix}.{value.decode()}" if prefix else value.decode()
            elif number == 2:
                entry = dict(_entries(value))
                fields[int(entry[3])] = _Field(
                    name=entry[1].decode(),
                    kind=int(entry.get(5, 0)),
                    repeated=entry.get(4) == 3,
                    message=entry.get(6, b"").decode().lstrip("."),
                )
            elif number == 3:
                nested.append(value)
        types[name] = fields
        for inner in nested:
            learn(inner, name)

    for number, file in _entries(definition):
        if number == 1:
            entries = list(_entries(file))
            package = next((value.decode() for key, value in entries if key == 2), "")
            for key, value in entries:
                if key == 4:
                    learn(value, package)
    return types


def _message(raw: bytes, kind: str, types: dict[str, dict[int, _Field]]) -> dict[str, Any]:
    fields = types.get(kind, {})
    result: dict[str, Any] = {f.name: _default(f, types) for f in fields.values()}
    for number, value in _entries(raw):
        field = fields.get(number)
        if field is None:
            continue
        if not field.repeated:
            result[field.name] = _value(value, field, types)
        elif isinstance(value, bytes) and field.kind not in (_STRING, _MESSAGE, _DATA):
            result[field.name].extend(_packed(value, field))
        else:
            result[field.name].append(_value(value, field, types))
    return result


def _default(field: _Field, types: dict[str, dict[int, _Field]]) -> Any:
    if field.repeated:
        return []
    if field.kind == _MESSAGE:
        return _message(b"", field.message, types)
    return {_STRING: "", _DATA: b""}.get(field.kind, 0)


def _value(value: Any, field: _Field, types: dict[str, dict[int, _Field]]) -> Any:
    if field.kind == _MESSAGE:
        return _message(value, field.message, types)
    if field.kind == _STRING:
        return value.decode(errors="replace")
    if field.kind in _FIXED:
        return struct.unpack(_FIXED[field.kind], value)[0]
    if field.kind in _SIGNED:
        return value - (1 << 64) if value >> 63 else value
    if field.kind in _ZIGZAG:
        return (value >> 1) ^ -(value & 1)
    return bool(value) if field.kind == _BOOL else value


def _packed(raw: bytes, field: _Field) -> Iterator[Any]:
    if field.kind in _FIXED:
        yield from (item[0] for item in struct.iter_unpack(_FIXED[field.kind], raw))
        return
    at = 0
    while at < len(raw):
        number, at = _varint(raw, at)
        yield _value(number, field, {})


def _entries(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yields (field number, value): an int of a varint, bytes of anything else."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(raw, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise IndexError(f"wire type {wire}")
        if at + size > len(raw):
            raise IndexError("a message that is cut off")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = raw[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
