"""ROS 1 bags (format 2.0), read from front to back: an index is not needed.

A .bag.active of a recorder that was killed has none. Chunks that are cut off are read as far as
they go. Format: https://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import bz2
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_core.data.bags.container import Message, Raw, Topic, ros2_name
from v2w_core.data.bags.mapped import MappedFile
from v2w_core.data.notices import Notice

MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION, _CHUNK_INFO = 2, 5, 7, 6
_U32 = struct.Struct("<I")


class Ros1File:
    """An open ROS 1 bag; see :class:`~v2w_core.data.bags.container.Container`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[Notice] = []
        self._file = MappedFile(path, MAGIC, "a ROS 1 bag of format 2.0")
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
        for fields, body in self._records(self._view, len(MAGIC), top=True):
            if fields["op"][0] == _CHUNK:
                data = self._unpack(fields, body)
                for inner, part in self._records(data, 0, top=False):
                    yield from self._message(inner, part)
            else:
                yield from self._message(fields, body)

    def _message(self, fields: dict[str, bytes], body: Raw) -> Iterator[tuple[int, int, Raw]]:
        kind = fields["op"][0]
        if kind == _CONNECTION:
            self._learn(fields, body)
        elif kind == _MESSAGE:
            key = _U32.unpack(fields["conn"])[0]
            seconds, nanoseconds = struct.unpack("<II", fields["time"])
            if key in self._topics:
                yield key, seconds * 1_000_000_000 + nanoseconds, body

    def _records(self, view: Any, at: int, *, top: bool) -> Iterator[tuple[dict[str, bytes], Raw]]:
        """Yields (header fields, data) of records; a chunk at the end may be cut off."""
        while at + 4 <= len(view):
            (head,) = _U32.unpack_from(view, at)
            if at + 8 + head > len(view):
                break
            fields = _fields(view[at + 4 : at + 4 + head])
            (size,) = _U32.unpack_from(view, at + 4 + head)
            at += 8 + head
            if at + size > len(view):
                if top:
                    self._note_cut()
                    if fields["op"][0] == _CHUNK:
                        yield fields, view[at:]
                return
            yield fields, view[at : at + size]
            at += size
            if top:
                self._file.read_up_to(at)
        if top and at != len(view):
            self._note_cut()

    def _note_cut(self) -> None:
        text = f"{self.path.name} ends in the middle: its recorder was killed, or the copy was cut"
        remedy = "all that is there is read; rosbag reindex makes a whole bag of it for other tools"
        self.notices.append(Notice("file_cut", text, remedy, {"bytes": len(self._view)}))

    def _unpack(self, fields: dict[str, bytes], body: Raw) -> Any:
        method = fields.get("compression", b"none")
        try:
            if method == b"bz2":
                return memoryview(bz2.BZ2Decompressor().decompress(body))
            if method == b"lz4":
                import lz4.frame

                return memoryview(lz4.frame.LZ4FrameDecompressor().decompress(body))
        except (OSError, RuntimeError, EOFError) as error:
            text = f"{self.path.name}: a damaged chunk of messages is left out ({error})"
            remedy = "copy the file again if there is another; what is missing is a gap"
            self.notices.append(Notice("damaged_chunks", text, remedy, {"chunks": 1}))
            return memoryview(b"")
        return body

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
        fields, _ = next(self._records(self._view, len(MAGIC), top=False))
        (at,) = struct.unpack("<Q", fields["index_pos"])
        if not len(MAGIC) < at < len(self._view):
            return None
        counts: Counter[int] = Counter()
        starts = []
        for fields, body in self._records(self._view, at, top=False):
            if fields["op"][0] == _CONNECTION:
                self._learn(fields, body)
            elif fields["op"][0] == _CHUNK_INFO:
                seconds, nanoseconds = struct.unpack("<II", fields["start_time"])
                starts.append(seconds * 1_000_000_000 + nanoseconds)
                for key, count in struct.iter_unpack("<II", body):
                    counts[key] += count
        self.start_ns = min(starts, default=0)
        return counts if starts else None

    def _count(self) -> dict[int, int]:
        counts: Counter[int] = Counter()
        for key, receive_ns, _ in self._scan():
            self.start_ns = receive_ns if not counts else min(self.start_ns, receive_ns)
            counts[key] += 1
        return counts


def _fields(data: Raw) -> dict[str, bytes]:
    """The name=value fields of a record's header."""
    found, at = {}, 0
    while at + 4 <= len(data):
        (size,) = _U32.unpack_from(data, at)
        name, _, value = bytes(data[at + 4 : at + 4 + size]).partition(b"=")
        found[name.decode(errors="replace")] = value
        at += 4 + size
    return found
