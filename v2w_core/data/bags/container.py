"""What a bag's file holds, whatever its format: topics, and serialised messages in file order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

#: Serialised bytes; a view where the file is mapped into memory.
Raw = bytes | memoryview


@dataclass(frozen=True)
class Topic:
    """A topic of a file.

    Attributes:
        name: name of the topic.
        kind: message type as ROS 2 writes it ("sensor_msgs/msg/Image"), or another schema's name.
        encoding: "cdr", "ros1", "json" or "protobuf"; others cannot be decoded.
        num_messages: number of messages.
        definition: the type's definition as the file has it; empty: none.
        definition_format: "ros2msg", "ros2idl", "ros1msg", "protobuf", "jsonschema", ... or empty.
    """

    name: str
    kind: str
    encoding: str
    num_messages: int = 0
    definition: bytes = b""
    definition_format: str = ""


class Message(NamedTuple):
    """A serialised message.

    Attributes:
        topic: where it was published.
        receive_ns: when it was recorded.
        raw: its bytes; valid until the next message is read.
    """

    topic: Topic
    receive_ns: int
    raw: Raw


class Container(Protocol):
    """An open file.

    Attributes:
        path: the file.
        topics: its topics that have messages.
        start_ns: when its first message was recorded.
        notices: what was wrong with it, as far as it was read.
    """

    path: Path
    topics: tuple[Topic, ...]
    start_ns: int
    notices: list[Notice]

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, in the order of the file."""

    def close(self) -> None:
        """Closes the file."""


def note_cut(container: Container, size: int, tool: str) -> None:
    """Notes that a file ends in the middle."""
    text = f"{container.path.name} ends in the middle: its recorder was killed, or the copy was cut"
    remedy = f"all that is there is read; {tool} makes a whole file of it for other tools"
    container.notices.append(Notice("file_cut", text, remedy, {"bytes": size}))


def note_chunk(container: Container, error: object) -> None:
    """Notes, and counts, that a chunk of messages is damaged."""
    code = "damaged_chunks"
    earlier = [notice for notice in container.notices if notice.code == code]
    number = 1 + sum(int(notice.numbers["chunks"]) for notice in earlier)
    text = f"{container.path.name}: {number} damaged chunks of messages are left out ({error})"
    remedy = "copy the file again if there is another; what is missing is a gap"
    kept = [notice for notice in container.notices if notice not in earlier]
    container.notices[:] = [*kept, Notice(code, text, remedy, {"chunks": number})]


def check_method(container: Container, method: str, known: Collection[str], advice: str) -> None:
    """Raises DataError where chunks are packed by a method that is not read."""
    if method not in known:
        rule = f"chunks packed with one of {', '.join(filter(None, known))}: {advice}"
        raise DataError(str(container.path), rule, method)


#: Opens a file; raises any exception where it cannot be read.
Opener = Callable[[Path], Container]


def ros2_name(kind: str) -> str:
    """ "sensor_msgs/Image" -> "sensor_msgs/msg/Image"; other names are returned unchanged."""
    parts = kind.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else kind
