"""Episodes in memory: resized frames, normalised actions, and windows drawn from a seed."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.data.transforms import resize_frames
from v2w_core.data.windows import split_episodes
from v2w_core.errors import DataError
from v2w_core.spec import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class Clips:
    """All episodes of a folder, one after the other.

    Attributes:
        frames: uint8 [N, h, w, 3].
        actions: float32 [N, A] physical units; actions[i] leads from frame i to i + 1 (the last
            of an episode is zero and never used inside a window).
        starts: first frame of each episode, and N at the end.
        action_spec: the same in all episodes.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    action_spec: ActionSpec

    def window_starts(self, window: int) -> NDArray[np.int64]:
        """Indices at which ``window`` frames of one episode begin.

        Raises:
            DataError: no episode is long enough.
        """
        return window_starts(self.starts, window)

    def take(self, episodes: Sequence[int]) -> Clips:
        """Only the episodes of these numbers."""
        spans = [slice(self.starts[i], self.starts[i + 1]) for i in episodes]
        lengths = [span.stop - span.start for span in spans]
        return Clips(
            np.concatenate([self.frames[span] for span in spans]),
            np.concatenate([self.actions[span] for span in spans]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.action_spec,
        )

    def split(self, held_out: float = 0.1) -> tuple[Clips, Clips]:
        """(training, held out), by whole episodes; a single episode serves as both."""
        count = len(self.starts) - 1
        if count < 2:
            return self, self
        kept, held = split_episodes(count, held_out)
        return self.take(kept), self.take(held)


def window_starts(starts: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Frames at which ``window`` frames of one episode begin.

    Args:
        starts: first frame of each episode, and the end of the last.

    Raises:
        DataError: no episode is long enough.
    """
    spans = itertools.pairwise(starts.tolist())
    parts = [np.arange(a, max(a, b - window + 1)) for a, b in spans]
    joined = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if joined.size == 0:
        longest = int(np.diff(starts).max(initial=0))
        rule = f"episodes of at least {window} frames (num_frames)"
        raise DataError("data.train", rule, f"longest has {longest}")
    return joined


def load_clips(
    folder: str | pathlib.Path,
    observation: ObservationSpec,
    *,
    action_spec: ActionSpec | None = None,
    first: int | None = None,
) -> Clips:
    """Read the episodes of a folder into memory, resized, with progress.

    Args:
        action_spec: what the episodes must agree with; the first episode's when None.
        first: use only the first so many frames of every episode.

    Raises:
        DataError: no episodes. V2WError: ActionSpecs that differ.
    """
    paths = list_episodes(folder)
    if not paths:
        rule = "a folder with episodes; make some with v2w collect or v2w convert"
        raise DataError("data", rule, str(folder))
    frames, actions, starts, spec = [], [], [0], action_spec
    for path in tqdm(paths, desc=f"reading {folder}", unit="episode", leave=False):
        episode = read_episode(path)
        if spec is None:
            spec = episode.action_spec
        spec.require_same(episode.action_spec, field=str(path))
        part = resize_frames(episode.frames(0, first), observation)
        moves = np.zeros((len(part), spec.dim), np.float32)
        moves[: len(part) - 1] = episode.actions[: len(part) - 1]
        frames.append(part)
        actions.append(moves)
        starts.append(starts[-1] + len(part))
    assert spec is not None
    return Clips(np.concatenate(frames), np.concatenate(actions), np.array(starts), spec)


def draw_windows(
    starts: NDArray[np.int64], batch_size: int, window: int, generator: torch.Generator
) -> Tensor:
    """Frame indices [batch_size, window] of windows drawn with replacement."""
    chosen = torch.randint(len(starts), (batch_size,), generator=generator)
    return torch.from_numpy(starts)[chosen][:, None] + torch.arange(window)[None]


def to_images(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """uint8 [N, h, w, 3] -> float32 [N, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
