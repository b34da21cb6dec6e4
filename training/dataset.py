"""Episodes for training, in their files or in memory, and random windows of them."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_core.data.episode import (
    Episode,
    list_episodes,
    read_episode,
    require_commands_alike,
)
from v2w_core.data.windows import Window, WindowIndex, split_episodes
from v2w_core.errors import DataError
from v2w_core.images import resize_frames
from v2w_core.progress import progress
from v2w_core.spec import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class Clips:
    """All episodes of a folder in memory, concatenated.

    Attributes:
        frames: uint8 [N, h, w, 3].
        actions: float32 [N, A] physical units; actions[i] leads from frame i to i + 1 (the last
            of an episode is zero and never used within a window). Commands if ``has_commands``.
        starts: index of the first frame of each episode, and N at the end.
        action_spec: the action space of all episodes.
        motion: float32 [N, 3], the displacement that follows (dx m, dy m, dyaw rad in the body
            frame) as odometry reports it, the last of an episode zero; None: unknown, as the
            actions are not planar.
        contact: bool [N], whether something is touched in the step that follows, the last of an
            episode False; None: unknown in at least one episode.
        has_commands: whether actions and motion were recorded apart; if not, they are the same.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    action_spec: ActionSpec
    motion: NDArray[np.float32] | None = None
    contact: NDArray[np.bool_] | None = None
    has_commands: bool = False

    def window_starts(self, window: int) -> NDArray[np.int64]:
        """Indices of the first frames of all windows; see :func:`window_starts`."""
        return window_starts(self.starts, window)


@dataclass(frozen=True)
class EpisodeFiles:
    """Episodes whose frames are read from their files on demand."""

    episodes: tuple[Episode, ...]

    @property
    def action_spec(self) -> ActionSpec:
        """The action space of the first episode; the others differ in bounds at most."""
        return self.episodes[0].action_spec

    @property
    def num_frames(self) -> int:
        return sum(len(episode) for episode in self.episodes)

    def split(self, held_out: float = 0.1) -> tuple[EpisodeFiles, EpisodeFiles]:
        """Splits into (training, held out) by whole episodes; a single episode is both."""
        if len(self.episodes) < 2:
            return self, self
        indices = split_episodes(len(self.episodes), held_out)
        parts = [tuple(self.episodes[i] for i in part) for part in indices]
        return EpisodeFiles(parts[0]), EpisodeFiles(parts[1])

    def windows(self, num_frames: int) -> WindowIndex:
        """All windows of ``num_frames``. Raises DataError if no episode is long enough."""
        return WindowIndex([len(episode) for episode in self.episodes], num_frames)

    def frames(self, window: Window, observation: ObservationSpec) -> NDArray[np.uint8]:
        """The frames of a window, read and resized, uint8 [T, h, w, 3]."""
        episode = self.episodes[window.episode]
        return resize_frames(episode.frames(window.start, window.stop), observation)

    def actions(self, window: Window) -> NDArray[np.float32]:
        """The actions of a window [T, A] in physical units; the last is zero, as in ``Clips``."""
        recorded = self.episodes[window.episode].actions[window.start : window.stop - 1]
        return _with_last(recorded)

    def in_memory(self, observation: ObservationSpec) -> Clips:
        """All episodes with resized frames; shows a progress bar."""
        frames, actions, starts = [], [], [0]
        numbers = range(len(self.episodes))
        for number in progress(numbers, desc="reading episodes", unit="episode", transient=True):
            whole = Window(number, 0, len(self.episodes[number]))
            frames.append(self.frames(whole, observation))
            actions.append(self.actions(whole))
            starts.append(starts[-1] + whole.stop)
        motion = [episode.motion for episode in self.episodes]
        contact = [episode.contact for episode in self.episodes]
        return Clips(
            np.concatenate(frames),
            np.concatenate(actions),
            np.array(starts),
            self.action_spec,
            motion=_joined(motion),
            contact=_joined(contact),
            has_commands=self.episodes[0].has_commands,
        )


def _with_last(steps: NDArray[Any]) -> NDArray[Any]:
    """Rows of T-1 steps, and a row of zeros for the last of T frames."""
    return np.concatenate([steps, np.zeros_like(steps[:1])])


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """The rows of all episodes, each with a last row of zeros; None if an episode has none."""
    known = [_with_last(part) for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def window_starts(starts: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Indices of the first frames of all windows, each within one episode.

    Args:
        starts: index of the first frame of each episode, and the end of the last one.
        window: number of frames of a window.

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


def open_episodes(
    folders: str | pathlib.Path | Sequence[str | pathlib.Path],
    *,
    action_spec: ActionSpec | None = None,
) -> EpisodeFiles:
    """The episodes of a folder, or of several together.

    Args:
        folders: one folder or a list of them.
        action_spec: action space that all episodes must have; None: the first episode's.

    Raises:
        DataError: a folder has no episodes, or some episodes have commands and others none.
        V2WError: the action spaces differ.
    """
    named = [folders] if isinstance(folders, str | pathlib.Path) else list(folders)
    paths = []
    for folder in named:
        found = list_episodes(folder)
        if not found:
            rule = "a folder with episodes; make some with v2w collect or v2w convert"
            raise DataError("data", rule, str(folder))
        paths += found
    if not paths:
        raise DataError("data", "at least one folder with episodes", named)
    episodes = [
        read_episode(path)
        for path in progress(paths, desc="opening episodes", unit="episode", transient=True)
    ]
    spec = action_spec or episodes[0].action_spec
    for episode in episodes:
        spec.require_same(episode.action_spec, field=str(episode.path))
    require_commands_alike(episodes)
    return EpisodeFiles(tuple(episodes))


def load_clips(
    folder: str | pathlib.Path,
    observation: ObservationSpec,
    *,
    action_spec: ActionSpec | None = None,
) -> Clips:
    """The episodes of a folder in memory; see :func:`open_episodes`."""
    return open_episodes(folder, action_spec=action_spec).in_memory(observation)


def draw_windows(
    starts: NDArray[np.int64], batch_size: int, window: int, generator: torch.Generator
) -> Tensor:
    """Frame indices [batch_size, window] of random windows, drawn with replacement."""
    chosen = torch.randint(len(starts), (batch_size,), generator=generator)
    return torch.from_numpy(starts)[chosen][:, None] + torch.arange(window)[None]


def to_images(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """Frames uint8 [N, h, w, 3] -> images float32 [N, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
