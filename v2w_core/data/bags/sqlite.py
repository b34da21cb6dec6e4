"""rosbag2's SQLite files (.db3), of every version; a recorder's write-ahead log is read too.

SQLite itself reads them. Of a file that is cut off, or has a hole, it gives every row that it still
finds by its number: rosbag2 numbers messages in their order.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_core.data.bags.compression import MAX_MESSAGE
from v2w_core.data.bags.container import Message, Topic, ros2_name
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

#: So many numbers in a row without a row are the end of a damaged file.
_MISSING = 100_000
#: SQLite's number of the limit of a row's length.
_LENGTH = 0
_COLUMNS = "id, topic_id, timestamp, data"


class SqliteFile:
    """An open .db3 file; see :class:`~v2w_core.data.bags.container.Container`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[Notice] = []
        self._stack = ExitStack()
        try:
            self._database = self._open()
            self._damaged = False
            try:
                self._topics = self._read_topics()
                counts = dict(
                    self._run("SELECT topic_id, count(*) FROM messages GROUP BY topic_id")
                )
                row = self._run("SELECT timestamp FROM messages ORDER BY id LIMIT 1").fetchone()
                self.start_ns = int(row[0]) if row else 0
            except sqlite3.DatabaseError:
                counts = self._open_damaged()
        except Exception:
            self.close()
            raise
        for key, count in counts.items():
            if key in self._topics:
                self._topics[key] = replace(self._topics[key], num_messages=int(count))
        self.topics = tuple(topic for topic in self._topics.values() if topic.num_messages)

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, in the order of the file."""
        if not self._damaged:
            self.notices.clear()
        wanted = {key: topic for key, topic in self._topics.items() if topic.name in names}
        for key, topic_key, stamp, data in self._rows(list(wanted)):
            if isinstance(stamp, int) and isinstance(data, bytes) and topic_key in wanted:
                yield Message(wanted[topic_key], stamp, data)
            elif topic_key in wanted:
                self._note_damage(f"message {key} holds no bytes")

    def _rows(self, keys: list[int]) -> Iterator[tuple[Any, ...]]:
        """Yields rows of messages; where the file is damaged, all that can be found."""
        last = 0
        if not self._damaged:
            marks = ",".join("?" * len(keys))
            query = f"SELECT {_COLUMNS} FROM messages WHERE topic_id IN ({marks}) ORDER BY id"
            try:
                for row in self._run(query, keys):
                    yield row
                    last = int(row[0])
                return
            except sqlite3.DatabaseError as error:
                self._note_damage(str(error))
        yield from self._found_rows(_COLUMNS, last + 1)

    def _found_rows(self, columns: str, number: int) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a damaged file from a number on."""
        missing = 0
        while missing < _MISSING:
            row = None
            with suppress(sqlite3.DatabaseError):
                row = self._run(
                    f"SELECT {columns} FROM messages WHERE id = ?", (number,)
                ).fetchone()
            if row is not None:
                yield row
            missing = 0 if row is not None else missing + 1
            number += 1

    def _open(self) -> sqlite3.Connection:
        log = self.path.with_name(self.path.name + "-wal")
        if not (log.is_file() and log.stat().st_size):
            # Nothing is written beside the file, not even in a folder that is read-only.
            return self._connect(self.path, "immutable=1")
        index = self.path.with_name(self.path.name + "-shm")
        if not index.exists():
            self._stack.callback(_remove, index)
        try:
            found = self._connect(self.path, "mode=ro")
            found.execute("SELECT 1 FROM sqlite_master").fetchone()
            return found
        except sqlite3.OperationalError:  # SQLite reads a log only in a folder that it can write
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="v2w-bag-"))
            for part in (self.path, log):
                shutil.copyfile(part, Path(folder) / part.name)
            return self._connect(Path(folder) / self.path.name, "mode=ro")

    def _connect(self, path: Path, options: str) -> sqlite3.Connection:
        found = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&{options}", uri=True)
        self._stack.callback(found.close)
        limit: Any = getattr(found, "setlimit", None)  # from Python 3.11 on
        if limit is not None:
            limit(_LENGTH, MAX_MESSAGE)
        return found

    def _open_damaged(self) -> dict[int, int]:
        """Opens a file that SQLite calls malformed; numbers of messages by topic."""
        self._damaged = True
        self._database = self._connect(self.path, "immutable=1")
        self._run("PRAGMA writable_schema = ON")  # else it opens no file that was cut off
        self._topics = self._read_topics()
        counts: Counter[int] = Counter()
        self.start_ns = 0
        for key, stamp in self._found_rows("topic_id, timestamp", 1):
            self.start_ns = self.start_ns if counts else int(stamp)
            counts[key] += 1
        if not counts:
            raise sqlite3.DatabaseError("not one message is found")
        self._note_damage(f"{counts.total()} messages are found")
        return counts

    def _note_damage(self, what: str) -> None:
        text = f"{self.path.name} is damaged or cut off: {what}"
        remedy = "all that is found is read, the rest is a gap; copy it again, or try sqlite3 OLD "
        remedy += ".recover | sqlite3 NEW"
        self.notices[:] = [Notice("file_cut", text, remedy)]

    def _read_topics(self) -> dict[int, Topic]:
        tables = dict(self._run("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        for name in ("topics", "messages"):
            if not str(tables.get(name, "")).upper().startswith("CREATE TABLE"):
                rule = "a database that rosbag2 recorded, with tables topics and messages"
                raise DataError(str(self.path), rule, ", ".join(sorted(tables)) or "no tables")
        query = "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
        topics = {
            int(key): Topic(str(name), ros2_name(str(kind)), encoding or "cdr")
            for key, name, kind, encoding in self._run(query)
        }
        if "message_definitions" in tables:
            columns = "topic_type, encoding, encoded_message_definition"
            for kind, form, text in self._run(f"SELECT {columns} FROM message_definitions"):
                for key, topic in topics.items():
                    if topic.kind == ros2_name(kind):
                        topics[key] = replace(
                            topic, definition=str(text).encode(), definition_format=form
                        )
        return topics

    def _run(self, query: str, values: Collection[Any] = ()) -> sqlite3.Cursor:
        return self._database.execute(query, tuple(values))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
