"""The camera frames of the last seconds, as they came or decoded, in a bounded amount of memory.

Adding a frame costs next to nothing: the message is kept as it came, behind a function that decodes
it. Only the few frames of a snapshot are ever decoded and resized, each of them once; and those of
cameras so large that the messages would take too much memory.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from v2w.errors import NodeError
from v2w.navigation.history import NS, HistoryConfig, UInt8Array
from v2w_core.errors import V2WError
from v2w_core.images import resize_frames
from v2w_core.spec import ObservationSpec


@dataclass(eq=False)
class Frame:
    """One frame: ``load`` decodes its message, until ``image`` is there.

    ``num_bytes`` are those of the message while it is kept.
    """

    stamp_ns: int
    load: Callable[[], UInt8Array] | None
    num_bytes: int
    image: UInt8Array | None = None


class CameraFrames:
    """Frames by stamp, oldest first.

    Args:
        observation: size of the decoded frames.
        config: how many seconds and bytes are kept.
        step_ns: of the model's time grid [ns].
        lock: of the history, around everything but decoding.

    Attributes:
        frames: the frames; read with the lock held.
        num_bytes: of the messages that are kept as they came.
    """

    def __init__(
        self,
        observation: ObservationSpec,
        config: HistoryConfig,
        step_ns: int,
        lock: threading.Lock,
    ) -> None:
        self._observation, self._config = observation, config
        self._step_ns, self._lock = step_ns, lock
        self.frames: list[Frame] = []
        self.num_bytes = 0

    def add(self, stamp_ns: int, load: Callable[[], UInt8Array], num_bytes: int) -> None:
        """Append the newest frame, and forget those that are too old. The lock is held."""
        self.frames.append(Frame(stamp_ns, load, num_bytes))
        self.num_bytes += num_bytes
        horizon = stamp_ns - round(NS * self._config.buffer_s)
        while self.frames[0].stamp_ns < horizon:
            self._let_go(self.frames.pop(0))

    def clear(self) -> None:
        """Forget all. The lock is held."""
        for frame in self.frames:
            self._let_go(frame)
        self.frames = []

    def _let_go(self, frame: Frame) -> None:
        """The message of a frame is no longer kept."""
        self.num_bytes -= frame.num_bytes
        frame.num_bytes = 0

    def shrink(self) -> int:
        """Replace the oldest messages by their pictures while they take too much memory.

        A frame whose neighbours are so near each other that one of them is always near enough to
        the time grid is not decoded but removed: a camera that is too large is often too fast, too.

        Returns:
            How many could not be decoded and were removed.
        """
        num_bad = 0
        while True:
            with self._lock:
                frame = self._too_much()
            if frame is None:
                return num_bad
            try:
                self.image(frame)
            except NodeError:
                num_bad += 1
                with self._lock:
                    self.frames = [other for other in self.frames if other is not frame]
                    self._let_go(frame)

    def _too_much(self) -> Frame | None:
        """The next frame to decode; those that need not be kept are removed before."""
        while self.num_bytes > self._config.max_bytes:
            index = next((i for i, frame in enumerate(self.frames) if frame.num_bytes), None)
            if index is None:
                return None
            if not 0 < index < len(self.frames) - 1:
                return self.frames[index]
            gap = self.frames[index + 1].stamp_ns - self.frames[index - 1].stamp_ns
            if gap > self._config.tolerance * self._step_ns:
                return self.frames[index]
            self._let_go(self.frames.pop(index))
        return None

    def nearest(self, target_ns: int, below: int) -> int | None:
        """Index under ``below`` of the frame nearest to the target stamp. The lock is held."""
        right = bisect_right(self.frames, target_ns, hi=below, key=lambda frame: frame.stamp_ns)
        around = [i for i in (right - 1, right) if 0 <= i < below]
        return min(around, key=lambda i: abs(self.frames[i].stamp_ns - target_ns), default=None)

    def image(self, frame: Frame) -> UInt8Array:
        """The decoded frame, RGB uint8 [h, w, 3]. The lock is not held.

        Raises:
            NodeError: HISTORY_UNAVAILABLE; it cannot be read.
        """
        # The image is set before load is cleared, so a second reader finds one of the two.
        load, image = frame.load, frame.image
        if image is None and load is not None:
            try:
                image = resize_frames(load()[None], self._observation)[0]
            except V2WError as error:
                raise NodeError(
                    error.field, error.rule, error.value, code="HISTORY_UNAVAILABLE"
                ) from error
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise NodeError(
                    "image", "a picture that can be read", said, code="HISTORY_UNAVAILABLE"
                ) from error
            frame.image = image
            frame.load = None
            with self._lock:
                self._let_go(frame)
        assert image is not None
        return image
