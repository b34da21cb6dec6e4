"""An open bag: the topics and messages of all of its files together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from v2w_core.data.bags.compression import MAX_MESSAGE, ZSTD_MAGIC, unpack, unpack_file
from v2w_core.data.bags.container import Container, Message, Opener, Raw, Topic
from v2w_core.data.bags.decode import decoder_for, ros_kind
from v2w_core.data.bags.files import BagFiles, format_of, is_packed
from v2w_core.data.bags.mcap import McapFile
from v2w_core.data.bags.ros1 import Ros1File
from v2w_core.data.bags.sqlite import SqliteFile
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError, V2WError

#: How a file of each format begins, and what reads it. Names may lie: the file does not.
FORMATS: tuple[tuple[bytes, Opener], ...] = (
    (b"\x89MCAP0\r\n", McapFile),
    (b"SQLite format 3\0", SqliteFile),
    (b"#ROSBAG V2.0", Ros1File),
)
#: What may make a whole file of a damaged one, by format.
_MENDS = {".mcap": "mcap recover", ".bag": "rosbag reindex", ".db3": "sqlite3 OLD .recover"}


class Bag:
    """An open bag; made by :func:`open_bag`.

    Attributes:
        path: the file, or the folder of several.
        topics: the topics that have messages, by name; those of several types have the first.
    """

    def __init__(self, path: Path, containers: list[Container], notices: list[Notice]) -> None:
        self.path = path
        self._containers = sorted(containers, key=lambda item: item.start_ns)
        self._opening = [*notices, *(n for item in self._containers for n in item.notices)]
        self._decoders: dict[Topic, Callable[[Raw], Any]] = {}
        self.topics: dict[str, Topic] = {}
        for topic in (topic for item in self._containers for topic in item.topics):
            known = self.topics.get(topic.name)
            number = topic.num_messages + (known.num_messages if known else 0)
            self.topics[topic.name] = replace(known or topic, num_messages=number)

    @property
    def notices(self) -> list[Notice]:
        """What was wrong with the files, as far as they were read."""
        found = [*self._opening, *(n for item in self._containers for n in item.notices)]
        return list({(notice.code, notice.text): notice for notice in found}.values())

    def kind(self, name: str) -> str:
        """The ROS type that a topic's messages are read as."""
        return ros_kind(self.topics[name])

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """Yields the messages of topics, file by file in the order of their first messages.

        Raises:
            DataError: a file is damaged from the start.
        """
        for item in self._containers:
            with _guard(item.path):
                for message in item.messages(names):
                    # CDR starts with a zero: this is a message that rosbag2 has compressed.
                    if message.raw[:4] == ZSTD_MAGIC and message.topic.encoding == "cdr":
                        yield message._replace(raw=unpack(message.raw, "zstd", MAX_MESSAGE))
                    else:
                        yield message

    def decode(self, message: Message) -> Any:
        """The message as an object with ROS's field names.

        Raises:
            DataError: its type or its encoding cannot be read, or its bytes do not match the type.
        """
        topic = message.topic
        decoder = self._decoders.get(topic)
        if decoder is None:
            decoder = self._decoders[topic] = decoder_for(topic)
        try:
            return decoder(message.raw)
        except V2WError:
            raise
        except Exception as error:
            rule = f"a message of type {topic.kind}"
            raise DataError(topic.name, rule, f"{type(error).__name__}: {error}") from error


@contextmanager
def open_bag(files: BagFiles) -> Iterator[Bag]:
    """Context manager of an open bag; packed files are unpacked into a temporary folder.

    A file that cannot be opened is left out with a notice where others of the bag can.

    Raises:
        DataError: no file can be read, or rosbags is not installed.
    """
    try:
        import rosbags  # noqa: F401
    except ImportError as error:
        raise DataError("bag", "needs rosbags: pip install 'v2w[data]'", str(error)) from error
    if not files.files:
        raise DataError(
            str(files.path), "a folder with the bag's files", str(files.notices[0].text)
        )
    with ExitStack() as stack:
        containers, notices, broken = [], list(files.notices), []
        for path in files.files:
            try:
                container = _open(_plain(path, stack))
            except V2WError as error:
                broken.append(error)
                text = f"{path.name} is left out, it cannot be read ({error.value})"
                remedy = "copy it again if there is another; what it holds is a gap"
                notices.append(Notice("file_left_out", text, remedy))
                continue
            stack.callback(container.close)
            containers.append(container)
        if not containers:
            raise broken[0]
        bag = Bag(files.path, containers, notices)
        if not bag.topics:
            rule = "a bag with messages; its recorder wrote none, was it started before the robot?"
            if bag.notices:
                rule = f"a bag with messages; this one is damaged: {bag.notices[0]}"
            raise DataError(str(files.path), rule, "no messages")
        yield bag


def _plain(path: Path, stack: ExitStack) -> Path:
    """The file itself, or its unpacked copy."""
    if not is_packed(path):
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="v2w-bag-")))
    target = folder / path.stem
    try:
        unpack_file(path, target)
    except ImportError as error:
        rule = f"an unpacked bag: unpack {path.name} (zstd -d, lz4 -d)"
        raise DataError(str(path), rule, str(error)) from error
    except (V2WError, MemoryError):
        raise
    except Exception as error:
        rule = f"a whole packed file; try to unpack it (zstd -d {path.name}), with free space in "
        rule += str(folder.parent)
        raise DataError(str(path), rule, f"{type(error).__name__}: {error}") from error
    return target


def _open(path: Path) -> Container:
    with _guard(path):
        with path.open("rb") as file:
            start = file.read(16)
        for magic, opener in FORMATS:
            if start.startswith(magic):
                return opener(path)
        if start.startswith(b"#ROSBAG V"):
            rule = "a ROS 1 bag of format 2.0; rosbag fix of the ROS that recorded it converts it"
            raise DataError(str(path), rule, start.split(b"\n")[0].decode(errors="replace"))
        if start.startswith(b"version https"):
            rule = "a bag; this is a pointer to one: git lfs pull fetches it"
            raise DataError(str(path), rule, "a pointer of Git LFS")
        what = "an empty file" if not start else f"a file that starts with {start[:8]!r}"
        raise DataError(str(path), _whole(path), what)


def _whole(path: Path) -> str:
    mends = _MENDS[format_of(path) or ".mcap"]
    return f"a complete bag; this one is damaged, truncated, or no bag at all ({mends} may help)"


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Turns any exception of a reader on a damaged file into a DataError."""
    try:
        yield
    except (V2WError, GeneratorExit, KeyboardInterrupt):
        raise
    except ImportError as error:
        rule = "needs packages: pip install 'v2w[data]'"
        raise DataError(str(path), rule, str(error)) from error
    except OSError as error:
        raise DataError(str(path), "a file that can be read", str(error)) from error
    except Exception as error:
        raise DataError(str(path), _whole(path), f"{type(error).__name__}: {error}") from error
