"""ROS 1 bags (format 2.0), read from front to back: an index is not needed.

A .bag.active of a recorder that was killed has none. Chunks that are cut off are read as far as
they go. Format: https://wiki.ros.org/Bags/Format/2.0

The library ``rosbags`` (0.11) reads bags with an index only, and ends at damage.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_core.data.bags.compression import METHODS, unpack
from v2w_core.data.bags.container import (
    Message,
    Raw,
    Topic,
    check_method,
    note_chunk,
    note_cut,
    ros2_name,
)
from v2w_core.data.bags.mapped import MappedFile
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION, _CHUNK_INFO = 2, 5, 7, 6
_U32 = struct.Struct("<I")


class Ros1File:
    """An open ROS 1 bag; see :class:`~v2w_core.data.bags.container.Container`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[Notice] = []
        self._file = MappedFile(path, MAGIC)
        self._view = self._file.view
        self._topics: dict[int, Topic] = {}
        self.start_ns = 0
        try:
            counts = self._read_index() or self._count()
        except Exception:
            self.close()
            raise
        for key, topic in self._topics.items():
            self._topics[key] = replace(topic, num_messages=counts.get(key, 0))
        self.topics = tuple(topic for topic in self._topics.values() if topic.num_messages)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, in the order of the file."""
        for key, receive_ns, raw in self._scan():
            topic = self._topics[key]
            if topic.name in names:
                yield Message(topic, receive_ns, raw)

    def _scan(self) -> Iterator[tuple[int, int, Raw]]:
        """Yields (connection, receive stamp, bytes) of every message; learns the connections."""
        self.notices.clear()
        try:
            for fields, body in self._records(self._view, len(MAGIC), self._file.read_up_to):
                if fields["op"][0] == _CHUNK:
                    yield from self._chunk(fields, body)
                else:
                    yield from self._message(fields, body)
        except _CutError as cut:
            note_cut(self, len(self._view), "rosbag reindex")
            if cut.fields and cut.fields["op"][0] == _CHUNK:
                yield from self._chunk(cut.fields, cut.rest, whole=False)
        except (KeyError, IndexError, struct.error) as error:
            note_chunk(self, f"and all that follows: {type(error).__name__} {error}")

    def _chunk(
        self, fields: dict[str, bytes], body: Raw, whole: bool = True
    ) -> Iterator[tuple[int, int, Raw]]:
        """Yields the messages of a chunk, as far as it goes."""
        method = fields.get("compression", b"none").decode(errors="replace")
        check_method(self, method, ("none", *METHODS), "rosbag decompress unpacks it")
        try:
            data = body if method == "none" else memoryview(unpack(body, method))
            for inner, part in self._records(data, 0):
                yield from self._message(inner, part)
        except _CutError:
            if whole:
                note_chunk(self, "a record that claims more than the chunk holds")
        except Exception as error:
            note_chunk(self, error)

    def _message(self, fields: dict[str, bytes], body: Raw) -> Iterator[tuple[int, int, Raw]]:
        kind = fields["op"][0]
        if kind == _CONNECTION:
            self._learn(fields, body)
        elif kind == _MESSAGE:
            key = _U32.unpack(fields["conn"])[0]
            seconds, nanoseconds = struct.unpack("<II", fields["time"])
            if key in self._topics:
                yield key, seconds * 1_000_000_000 + nanoseconds, body

    def _records(
        self, view: Any, at: int, passed: Callable[[int], None] | None = None
    ) -> Iterator[tuple[dict[str, bytes], Raw]]:
        """Yields (header fields, data) of records.

        Raises:
            _CutError: the last one is cut off.
        """
        fields: dict[str, bytes] = {}
        while at < len(view):
            try:
                (head,) = _U32.unpack_from(view, at)
                fields = _fields(view[at + 4 : at + 4 + head])
                (size,) = _U32.unpack_from(view, at + 4 + head)
            except struct.error as error:
                raise _CutError({}, b"") from error
            at += 8 + head
            if at + size > len(view):
                raise _CutError(fields, view[at:])
            yield fields, view[at : at + size]
            at += size
            if passed is not None:
                passed(at)

    def _learn(self, fields: dict[str, bytes], body: Raw) -> None:
        key = _U32.unpack(fields["conn"])[0]
        if key in self._topics:
            return
        about = _fields(body)
        self._topics[key] = Topic(
            name=fields["topic"].decode(errors="replace"),
            kind=ros2_name(about["type"].decode(errors="replace")),
            encoding="ros1",
            definition=about.get("message_definition", b""),
            definition_format="ros1msg",
        )

    def _read_index(self) -> dict[int, int] | None:
        """Numbers of messages by connection from the index; None where there is none."""
        fields, _ = self._first()
        if fields.get("encryptor"):
            rule = "a bag that is not encrypted; rosbag decrypt makes one of it"
            raise DataError(str(self.path), rule, fields["encryptor"].decode(errors="replace"))
        counts: Counter[int] = Counter()
        starts = []
        try:
            (at,) = struct.unpack("<Q", fields["index_pos"])
            if not len(MAGIC) < at < len(self._view):
                return None
            for fields, body in self._records(self._view, at):
                if fields["op"][0] == _CONNECTION:
                    self._learn(fields, body)
                elif fields["op"][0] == _CHUNK_INFO:
                    seconds, nanoseconds = struct.unpack("<II", fields["start_time"])
                    starts.append(seconds * 1_000_000_000 + nanoseconds)
                    for key, count in struct.iter_unpack("<II", body):
                        counts[key] += count
        except (KeyError, IndexError, struct.error, _CutError):
            counts.clear()
        if not any(counts.values()) or not all(key in self._topics for key in counts):
            self._topics.clear()
            return None
        self.start_ns = min(starts)
        return counts

    def _first(self) -> tuple[dict[str, bytes], Raw]:
        """The bag's own header; empty where it is cut off."""
        try:
            return next(self._records(self._view, len(MAGIC)), ({}, b""))
        except _CutError:
            return {}, b""

    def _count(self) -> dict[int, int]:
        counts: Counter[int] = Counter()
        for key, receive_ns, _ in self._scan():
            self.start_ns = receive_ns if not counts else min(self.start_ns, receive_ns)
            counts[key] += 1
        return counts


class _CutError(Exception):
    """A record is cut off: what there is of it."""

    def __init__(self, fields: dict[str, bytes], rest: Raw) -> None:
        super().__init__("cut off")
        self.fields, self.rest = fields, rest


def _fields(data: Raw) -> dict[str, bytes]:
    """The name=value fields of a record's header."""
    found, at = {}, 0
    while at + 4 <= len(data):
        (size,) = _U32.unpack_from(data, at)
        name, _, value = bytes(data[at + 4 : at + 4 + size]).partition(b"=")
        found[name.decode(errors="replace")] = value
        at += 4 + size
    return found
