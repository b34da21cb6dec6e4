"""ROS messages with random wrong contents: any field of any message, from a seeded generator.

A wrong number is NaN, infinite, huge, or the least or greatest of its type; a wrong text is empty,
very long, no name, or has line breaks; a wrong list is empty, too long, or of wrong elements.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from rosidl_parser.definition import (
    AbstractNestedType,
    AbstractString,
    Array,
    BasicType,
    NamespacedType,
)

FLOATS = (
    math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e-300, 1e30, -1e30, 1e300, -1e300,
    2.0**31,
)  # fmt: skip
TEXTS = (
    "", "odom", "base_link", "map", "/odom", "~", "a b", "/a//b", "9", "../../etc/passwd", "%s%n%x",
    "<script>alert(1)</script>", "two\nlines", "\x1b[31mred", "a\0b", "\u202eabc", "e\u0301" * 300,
    "x" * 100_000,
)  # fmt: skip
#: Lengths of wrong lists; those of bytes may be longer.
LENGTHS, BYTES = (0, 1, 2, 3, 7, 100, 3000), (0, 1, 2, 100, 9215, 9216, 9217, 1_000_000)


def corrupted(message: Any, rng: random.Random, count: int) -> Any:
    """The message with ``count`` of its fields, or fields of its fields, made wrong."""
    for _ in range(count):
        fields = list(_fields(message))
        owner, name, kind = fields[rng.randrange(len(fields))]
        setattr(owner, name, wrong_value(kind, rng))
    return message


def _fields(message: Any) -> Iterator[tuple[Any, str, Any]]:
    """(message, field name, type) of every field that is no message, however deep."""
    names = message.get_fields_and_field_types()
    for name, kind in zip(names, message.SLOT_TYPES, strict=True):
        value = getattr(message, name)
        if isinstance(kind, NamespacedType):
            yield from _fields(value)
            continue
        yield message, name, kind
        if isinstance(kind, AbstractNestedType) and isinstance(kind.value_type, NamespacedType):
            for one in value[:3]:
                yield from _fields(one)


def wrong_value(kind: Any, rng: random.Random) -> Any:
    """A random value that a field of this type can hold."""
    if isinstance(kind, AbstractNestedType):
        return _wrong_list(kind, rng)
    if isinstance(kind, AbstractString):
        return rng.choice(TEXTS)
    if isinstance(kind, NamespacedType):
        made = getattr(import_module(".".join(kind.namespaces)), kind.name)()
        return corrupted(made, rng, 1)
    assert isinstance(kind, BasicType)
    name = kind.typename
    if name in ("float", "double"):
        value = rng.choice((*FLOATS, rng.uniform(-10.0, 10.0), rng.uniform(-1e7, 1e7)))
        return max(-3e38, min(3e38, value)) if name == "float" and math.isfinite(value) else value
    if name == "boolean":
        return rng.random() < 0.5
    if name == "octet":
        return bytes([rng.randrange(256)])
    bits = int(name.removeprefix("u").removeprefix("int"))
    low, high = (
        (0, 2**bits - 1) if name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    near = (0, 1, -1, 2, 5, 1000, low, high, high - 1, rng.randint(low, high))
    return rng.choice([value for value in near if low <= value <= high])


def _wrong_list(kind: Any, rng: random.Random) -> Any:
    element = kind.value_type
    if isinstance(kind, Array):
        return [wrong_value(element, rng) for _ in range(kind.size)]
    if isinstance(element, BasicType) and element.typename in ("uint8", "octet"):
        return rng.randbytes(rng.choice(BYTES))
    if isinstance(element, (NamespacedType, AbstractString)):
        return [wrong_value(element, rng) for _ in range(rng.choice((0, 1, 2, 5)))]
    return [wrong_value(element, rng) for _ in range(rng.choice(LENGTHS))]


def wrong_bytes(message: bytes, rng: random.Random) -> bytes:
    """A serialised message that was cut off, or of which some bytes were changed."""
    data = bytearray(message)
    if rng.random() < 0.4:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice((1, 3, 30))):
        data[rng.randrange(4, len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(data)


def wrong_picture(picture: bytes, rng: random.Random) -> bytes:
    """A PNG or JPEG that is damaged, or claims to be very large, or none at all."""
    way = rng.randrange(5)
    if way == 0:
        return picture[: rng.randrange(len(picture) + 1)]
    if way == 1:
        return wrong_bytes(picture, rng)
    if way == 2:
        return rng.randbytes(rng.choice(BYTES))
    side = rng.choice((0, 1, 2**15, 2**20, 2**31 - 1))
    if way == 3:
        return _png(side, rng.choice((1, 2**15, side)))
    return b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", side & 0xFFFF, 65500) + bytes(12)


def _png(width: int, height: int) -> bytes:
    """A PNG of so many pixels by its header, with few bytes of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + end

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
