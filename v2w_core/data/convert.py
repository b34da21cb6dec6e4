"""Conversion of recordings to episodes: written under temporary names, renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.episode import is_episode
from v2w_core.data.episode_writer import SUFFIX, EpisodeWriter, replace_action_spec
from v2w_core.data.sources.recording import Recording, RecordingSet
from v2w_core.data.sources.resample import bounds_around
from v2w_core.errors import DataError
from v2w_core.images import ImageFormat, resize_frame
from v2w_core.progress import progress
from v2w_core.spec import ActionSpec, ObservationSpec


@dataclass
class Converted:
    """Result of a conversion.

    Attributes:
        action_spec: the action space of all episodes.
        paths, lengths: files of the episodes and their numbers of frames.
        action_min, action_max: [A], minimum and maximum of all actions.
        num_outside: number of steps with an action outside the bounds.
        too_short: lengths of the recordings that were left out.
    """

    action_spec: ActionSpec
    paths: list[Path] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    action_min: NDArray[np.float32] = field(init=False)
    action_max: NDArray[np.float32] = field(init=False)
    num_outside: int = 0
    too_short: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.action_min = np.full(self.action_spec.dim, np.inf, np.float32)
        self.action_max = -self.action_min

    def add(self, recording: Recording, path: Path) -> None:
        """Adds a recording that was written to ``path``."""
        self.paths.append(path)
        self.lengths.append(len(recording))
        actions = recording.actions
        self.action_min = np.minimum(self.action_min, actions.min(axis=0))
        self.action_max = np.maximum(self.action_max, actions.max(axis=0))
        beyond = (actions < self.action_spec.low) | (actions > self.action_spec.high)
        self.num_outside += int(beyond.any(axis=1).sum())


def convert(
    source: RecordingSet,
    dest: Path,
    name: str,
    *,
    observation: ObservationSpec | None = None,
    min_frames: int = 2,
    max_episodes: int | None = None,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
    overwrite: bool = False,
) -> Converted:
    """Writes an episode for each recording; if one fails, none is kept.

    With ``overwrite``, all existing episodes of that name are removed in the same step.

    Args:
        source: the recordings.
        dest, name: folder and name of the episodes: DEST/NAME_000.h5 and so on.
        observation: frame format to resize to; None keeps the source's size.
        min_frames: minimum length; shorter recordings are left out. An episode has at least 2.
        max_episodes: maximum number of episodes.
        image_format, quality: encoding of the frames (JPEG quality 1-100).
        overwrite: whether existing episodes of the same name may be replaced.

    Raises:
        DataError: episodes of that name exist (without ``overwrite``), or other files do; no
            recording is long enough, a recording cannot be read, or ``dest`` cannot be written.
            Existing episodes are then left unchanged.
    """
    if max_episodes is not None and max_episodes < 1:
        raise DataError("--max-episodes", "at least 1", max_episodes)
    _replaceable(dest, name, overwrite)
    least = max(min_frames, 2)
    done = Converted(source.action_spec)
    working = dest / f".{name}.{os.getpid()}.tmp"
    try:
        working.mkdir(parents=True)
    except OSError as error:
        raise DataError("dest", "a folder that can be made and written", str(error)) from error
    try:
        with progress(total=source.num_frames, desc="convert", unit="frame") as bar:
            for recording in source.recordings:
                if len(recording) < least:
                    done.too_short.append(len(recording))
                    continue
                bar.note(f"episode {len(done.paths) + 1} of {source.num_recordings}")
                path = working / f"{len(done.paths)}{SUFFIX}"
                writer = EpisodeWriter(
                    path,
                    action_spec=source.action_spec,
                    source=f"{source.title} {recording.name}".strip(),
                    attributes=recording.attributes,
                    image_format=image_format,
                    quality=quality,
                )
                with writer:
                    _write(writer, recording, observation, bar.update)
                done.add(recording, path)
                if len(done.paths) == max_episodes:
                    break
        if not done.paths:
            rule = f"at least one with {least} frames in a row (--min-frames)"
            raise DataError(
                "recordings", rule, f"at most {max(done.too_short, default=0)} in a row"
            )
        if source.fit_bounds:
            _fit_bounds(done)
        old = _replaceable(dest, name, overwrite)
        _replace_episodes(done, dest, name, source.num_recordings, old)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return done


def _write(
    writer: EpisodeWriter,
    recording: Recording,
    observation: ObservationSpec | None,
    count: Callable[[], object],
) -> None:
    rows = zip(recording.frames, recording.poses, recording.stamps_ns, strict=True)
    for frame, pose, stamp in rows:
        prepared = resize_frame(frame, observation) if observation else frame
        writer.add(prepared, pose, int(stamp))
        count()
    writer.close(recording.actions)


def _fit_bounds(done: Converted) -> None:
    """Sets the action bounds of every episode to a little more than the range of all data."""
    low, high = bounds_around(done.action_min, done.action_max)
    spec = done.action_spec
    done.action_spec = replace(spec, low=low, high=high, scale=())
    done.num_outside = 0
    for path in done.paths:
        replace_action_spec(path, done.action_spec)


def _replace_episodes(
    done: Converted, dest: Path, name: str, num_recordings: int, old: list[Path]
) -> None:
    """Renames the new episodes and removes the old ones, which are restored after an error."""
    digits = max(3, len(str(num_recordings - 1)))
    targets = [dest / f"{name}_{n:0{digits}d}{SUFFIX}" for n in range(len(done.paths))]
    aside = dest / f".{name}.{os.getpid()}.old"
    aside.mkdir()
    moves = [(path, aside / path.name) for path in old]
    moves += zip(done.paths, targets, strict=True)
    try:
        for path, target in moves:
            os.replace(path, target)
    except BaseException:
        for path, target in reversed(moves):
            if not path.exists():
                os.replace(target, path)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
    done.paths = targets


def _replaceable(dest: Path, name: str, overwrite: bool) -> list[Path]:
    """Existing episodes of that name.

    Raises:
        DataError: there are some without ``overwrite``, or a file of such a name is no episode.
    """
    pattern = re.compile(rf"{re.escape(name)}_\d+{re.escape(SUFFIX)}")
    existing = sorted(item for item in dest.glob("*") if pattern.fullmatch(item.name))
    if existing and not overwrite:
        rule = "no episodes of that name yet, or --overwrite"
        raise DataError(str(dest), rule, [item.name for item in existing[:3]])
    foreign = [item.name for item in existing if not is_episode(item)]
    if foreign:
        rule = "only episodes under the names that --overwrite replaces; move this away, or --name"
        raise DataError(str(dest), rule, foreign[:3])
    return existing
