"""rosbag2's SQLite files (.db3), of every version; a recorder's write-ahead log is read too."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from v2w_core.data.bags.container import Message, Topic, ros2_name
from v2w_core.data.notices import Notice


class SqliteFile:
    """An open .db3 file; see :class:`~v2w_core.data.bags.container.Container`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[Notice] = []
        log = path.with_name(path.name + "-wal")
        # Without a log nothing is written beside the file, not even in a folder that is read-only.
        mode = "ro" if log.is_file() and log.stat().st_size else "ro&immutable=1"
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)
        try:
            self._topics = self._read_topics()
            first = "SELECT timestamp FROM messages ORDER BY id LIMIT 1"
            row = self._database.execute(first).fetchone()
        except Exception:
            self.close()
            raise
        self.start_ns = int(row[0]) if row else 0
        self.topics = tuple(topic for topic in self._topics.values() if topic.num_messages)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, in the order of the file."""
        self.notices.clear()
        keys = [key for key, topic in self._topics.items() if topic.name in names]
        marks = ",".join("?" * len(keys))
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks})"
        rows = iter(self._database.execute(f"{query} ORDER BY id", keys))
        number = 0
        while True:
            try:
                row = next(rows, None)
            except sqlite3.DatabaseError as error:
                self._note_damage(number, error)
                return
            if row is None:
                return
            number += 1
            yield Message(self._topics[row[0]], int(row[1]), bytes(row[2]))

    def _note_damage(self, number: int, error: Exception) -> None:
        if not number:
            raise error
        text = f"{self.path.name} is damaged after {number} messages ({error})"
        remedy = "what comes before is read; sqlite3 OLD .recover | sqlite3 NEW may find more"
        self.notices.append(Notice("file_cut", text, remedy, {"messages": number}))

    def _read_topics(self) -> dict[int, Topic]:
        run = self._database.execute
        query = "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
        topics = {
            int(key): Topic(name, ros2_name(kind), encoding or "cdr")
            for key, name, kind, encoding in run(query)
        }
        if run("SELECT 1 FROM sqlite_master WHERE name = 'message_definitions'").fetchone():
            columns = "topic_type, encoding, encoded_message_definition"
            for kind, form, text in run(f"SELECT {columns} FROM message_definitions"):
                for key, topic in topics.items():
                    if topic.kind == ros2_name(kind):
                        topics[key] = replace(
                            topic, definition=str(text).encode(), definition_format=form
                        )
        counted = run("SELECT topic_id, count(*) FROM messages GROUP BY topic_id")
        for key, count in counted:
            if key in topics:
                topics[key] = replace(topics[key], num_messages=int(count))
        return topics
