"""Whether the pictures of a camera can be read: known from the first one, not from the first goal.

Knows no ROS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

#: How many formats are remembered as readable.
MAX_FORMATS = 16


class CameraFormat:
    """Decodes one picture of every format that comes, and remembers which can be read.

    Attributes:
        problem: why the newest picture cannot be read, in one line; empty when it can.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._readable: set[Hashable] = set()
        self._lock = threading.Lock()

    def check(self, kind: Hashable, load: Callable[[], object]) -> None:
        """Check that a picture can be read; nothing is decoded if one like it was.

        Args:
            kind: what tells formats apart: encoding, size, length of the data.
            load: decodes the picture.

        Raises:
            Exception: what ``load`` raises; ``problem`` says it too.
        """
        if kind not in self._readable:
            try:
                load()
            except Exception as error:
                self.problem = " ".join(str(error).split()) or type(error).__name__
                raise
            with self._lock:
                if len(self._readable) >= MAX_FORMATS:
                    self._readable.clear()
                self._readable.add(kind)
        self.problem = ""


def kind_of(message: object) -> Hashable:
    """What tells the format of a sensor_msgs/Image or CompressedImage from that of another."""
    data = getattr(message, "data", b"")
    if not hasattr(message, "encoding"):
        return getattr(message, "format", ""), bytes(data[:3])
    layout = ("encoding", "height", "width", "step", "is_bigendian")
    return (*(getattr(message, name) for name in layout), len(data))
