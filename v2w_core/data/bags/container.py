"""What a bag's file holds, whatever its format: topics, and serialised messages in file order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from v2w_core.data.notices import Notice

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


#: Opens a file; raises any exception where it cannot be read.
Opener = Callable[[Path], Container]


def ros2_name(kind: str) -> str:
    """ "sensor_msgs/Image" -> "sensor_msgs/msg/Image"; other names are returned unchanged."""
    parts = kind.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else kind
