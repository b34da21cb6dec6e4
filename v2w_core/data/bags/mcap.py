"""MCAP files, read from front to back: an index, a summary and an end are not needed.

Records and their fields: https://mcap.dev/spec. What a killed recorder has written is read up to
the last whole message; a chunk that cannot be unpacked is left out and counted.

The library ``mcap`` (1.6) does neither: it ends with an error at the first damaged chunk, and gives
nothing of one that is cut off. It copies every message; a pass takes three to four times as long.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from v2w_core.data.bags.compression import MAX_CHUNK, METHODS, unpack
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
from v2w_core.errors import V2WError

MAGIC = b"\x89MCAP0\r\n"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END, _STATISTICS = 3, 4, 5, 6, 15, 11
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_FOOTER_SIZE = 9 + 20 + len(MAGIC)


class McapFile:
    """An open MCAP file; see :class:`~v2w_core.data.bags.container.Container`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[Notice] = []
        self._file = MappedFile(path, MAGIC)
        self._view = self._file.view
        self._schemas: dict[int, tuple[str, str, bytes]] = {}
        self._channels: dict[int, Topic] = {}
        self.start_ns = 0
        counts = self._read_summary() or self._count()
        self._channels = {
            key: Topic(
                topic.name,
                topic.kind,
                topic.encoding,
                counts.get(key, 0),
                topic.definition,
                topic.definition_format,
            )
            for key, topic in self._channels.items()
        }
        self.topics = tuple(topic for topic in self._channels.values() if topic.num_messages)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, in the order of the file."""
        wanted = {key: topic for key, topic in self._channels.items() if topic.name in names}
        for key, receive_ns, raw in self._scan():
            topic = wanted.get(key)
            if topic is not None:
                yield Message(topic, receive_ns, raw)

    def _scan(self) -> Iterator[tuple[int, int, Raw]]:
        """Yields (channel, receive stamp, bytes) of every message; learns the channels."""
        self.notices.clear()
        for kind, body in self._records():
            parts = self._chunk(body) if kind == _CHUNK else ((kind, body),)
            try:
                for inner, part in parts:
                    if inner == _MESSAGE:
                        key, _, receive_ns, _ = _MESSAGE_HEAD.unpack_from(part)
                        yield key, receive_ns, part[_MESSAGE_HEAD.size :]
                    else:
                        self._learn(inner, part)
            except struct.error as error:
                note_chunk(self, error)

    def _records(self) -> Iterator[tuple[int, memoryview]]:
        """Yields (kind, bytes) of the data section's records; the last one may be cut off."""
        view, at = self._view, len(MAGIC)
        while at + 9 <= len(view):
            kind, (size,) = view[at], _U64.unpack_from(view, at + 1)
            at += 9
            if kind == _DATA_END or (kind == 2 and size == 20):
                return
            if at + size > len(view):
                note_cut(self, len(self._view), "mcap recover")
                if kind == _CHUNK:
                    yield kind, view[at:]
                return
            yield kind, view[at : at + size]
            at += size
            self._file.read_up_to(at)
        note_cut(self, len(self._view), "mcap recover")

    def _chunk(self, body: memoryview) -> Iterator[tuple[int, Raw]]:
        """Yields the records of a chunk; one that is cut off has fewer."""
        try:
            data, whole = self._unpack(body)
        except V2WError:
            raise
        except Exception as error:
            note_chunk(self, error)
            return
        at = 0
        while at + 9 <= len(data):
            kind, (size,) = data[at], _U64.unpack_from(data, at + 1)
            if at + 9 + size > len(data):
                break
            yield kind, data[at + 9 : at + 9 + size]
            at += 9 + size
        if whole and at != len(data):
            note_chunk(self, f"a record that claims more than the chunk's {len(data)} bytes")

    def _unpack(self, body: memoryview) -> tuple[memoryview, bool]:
        """The records of a chunk, and whether it is whole."""
        _, _, size, check = _CHUNK_HEAD.unpack_from(body)
        method, at = _string(body, _CHUNK_HEAD.size)
        (packed_size,) = _U64.unpack_from(body, at)
        packed = body[at + 8 : at + 8 + packed_size]
        whole = len(packed) == packed_size
        advice = "mcap compress --compression zstd packs it anew"
        check_method(self, method, ("", *METHODS), advice)
        if size > MAX_CHUNK:
            raise ValueError(f"a claim of {size} bytes")
        data = memoryview(unpack(packed, method, size)) if method else packed
        if whole and len(data) != size:
            raise ValueError(f"{len(data)} bytes instead of {size}")
        if whole and check and zlib.crc32(data) != check:
            raise ValueError("its checksum is wrong")
        return data, whole

    def _learn(self, kind: int, body: Raw) -> None:
        """Keeps a schema or a channel."""
        if kind == _SCHEMA:
            (key,) = _U16.unpack_from(body)
            name, at = _string(body, 2)
            encoding, at = _string(body, at)
            (size,) = _U32.unpack_from(body, at)
            self._schemas[key] = (name, encoding, bytes(body[at + 4 : at + 4 + size]))
        elif kind == _CHANNEL:
            key, schema = struct.unpack_from("<HH", body)
            topic, at = _string(body, 4)
            encoding, _ = _string(body, at)
            kind_name, form, definition = self._schemas.get(schema, ("", "", b""))
            if key not in self._channels:
                self._channels[key] = Topic(
                    topic, ros2_name(kind_name), encoding, 0, definition, form
                )

    def _read_summary(self) -> dict[int, int] | None:
        """Numbers of messages by channel from the summary; None where it has none."""
        view = self._view
        foot = len(view) - _FOOTER_SIZE
        if foot < len(MAGIC) or view[-len(MAGIC) :] != MAGIC or view[foot] != 2:
            return None
        (at,) = _U64.unpack_from(view, foot + 9)
        counts: dict[int, int] | None = None
        try:
            while 0 < at < foot:
                kind, (size,) = view[at], _U64.unpack_from(view, at + 1)
                body = view[at + 9 : at + 9 + size]
                self._learn(kind, body)
                if kind == _STATISTICS:
                    counts, self.start_ns = _counts(body)
                at += 9 + size
        except (struct.error, IndexError, ValueError):
            counts = None
        if (
            not counts
            or not any(counts.values())
            or not all(key in self._channels for key in counts)
        ):
            self._schemas.clear()
            self._channels.clear()
            return None
        return counts

    def _count(self) -> dict[int, int]:
        counts: Counter[int] = Counter()
        for key, receive_ns, _ in self._scan():
            self.start_ns = receive_ns if not counts else min(self.start_ns, receive_ns)
            counts[key] += 1
        return counts


def _counts(body: memoryview) -> tuple[dict[int, int], int]:
    """Number of messages of each channel, and the first stamp, from a Statistics record."""
    (start_ns,) = _U64.unpack_from(body, 26)
    (size,) = _U32.unpack_from(body, 42)
    rows = struct.iter_unpack("<HQ", body[46 : 46 + size])
    return {int(key): int(count) for key, count in rows}, int(start_ns)


def _string(body: Raw, at: int) -> tuple[str, int]:
    (size,) = _U32.unpack_from(body, at)
    return bytes(body[at + 4 : at + 4 + size]).decode(errors="replace"), at + 4 + size
