"""Index of fixed-length windows over many episodes; deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import DataError


@dataclass(frozen=True)
class Window:
    """Frames start..stop-1 of an episode, with the actions start..stop-2 between them."""

    episode: int
    start: int
    stop: int


class WindowIndex:
    """All windows of ``window`` frames at a stride of ``stride``, episode by episode.

    Episodes shorter than a window have none; ``skipped`` counts them.

    Args:
        lengths: number of frames of each episode.
        window: number of frames in a window, at least 1.
        stride: number of frames between the starts of successive windows of an episode.

    Raises:
        DataError: window or stride below 1, or no episode is long enough.
    """

    def __init__(self, lengths: Sequence[int], window: int, stride: int = 1) -> None:
        if window < 1 or stride < 1:
            raise DataError("window, stride", "at least 1", (window, stride))
        counts = [max(0, (length - window) // stride + 1) for length in lengths]
        if not sum(counts):
            rule = f"an episode of at least {window} frames; record longer episodes"
            raise DataError("episodes", rule, f"lengths {sorted(lengths)[-5:]}")
        self.window = window
        self.stride = stride
        self.skipped = counts.count(0)
        self._ends: NDArray[np.int64] = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Window:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        position = index % len(self)
        episode = int(np.searchsorted(self._ends, position, side="right"))
        before = int(self._ends[episode - 1]) if episode else 0
        start = (position - before) * self.stride
        return Window(episode, start, start + self.window)

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))

    def shuffled(self, seed: int) -> NDArray[np.int64]:
        """A permutation of the window numbers; the same seed gives the same order."""
        return np.random.default_rng(seed).permutation(len(self)).astype(np.int64)


def split_episodes(
    num_episodes: int, held_out: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Episode numbers (training, held out), both sorted; whole episodes are held out.

    Args:
        num_episodes: number of episodes, at least 2 if ``held_out`` is above 0.
        held_out: fraction, from 0 to below 1; if above 0, at least one episode is held out.

    Raises:
        DataError: the fraction is out of range, or there are too few episodes to split.
    """
    if not 0 <= held_out < 1:
        raise DataError("held_out", "a fraction from 0 to below 1", held_out)
    count = max(1, round(num_episodes * held_out)) if held_out else 0
    if count >= num_episodes:
        raise DataError("episodes", f"more than the {count} held out", num_episodes)
    order = np.random.default_rng(seed).permutation(num_episodes)
    return sorted(int(i) for i in order[count:]), sorted(int(i) for i in order[:count])
