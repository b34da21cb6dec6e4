"""Conversion of recordings to episodes: written under temporary names, renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.episode import is_episode
from v2w_core.data.episode_writer import (
    SUFFIX,
    EpisodeWriter,
    image_size,
    replace_action_spec,
)
from v2w_core.data.finished import Finished, Written
from v2w_core.data.sources.recording import Recording, RecordingSet
from v2w_core.data.sources.resample import bounds_around
from v2w_core.errors import DataError, V2WError
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
        undecoded: frames that could not be decoded: recording and time.
        sizes: heights and widths of the pictures.
        failed: of several bags, why single ones could not be read to their end.
    """

    action_spec: ActionSpec
    paths: list[Path] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    action_min: NDArray[np.float32] = field(init=False)
    action_max: NDArray[np.float32] = field(init=False)
    num_outside: int = 0
    too_short: list[int] = field(default_factory=list)
    undecoded: list[str] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.action_min = np.full(self.action_spec.dim, np.inf, np.float32)
        self.action_max = -self.action_min

    def add(self, actions: NDArray[np.float32], path: Path) -> None:
        """Adds an episode with actions [T-1, A] that was written to ``path``."""
        self.paths.append(path)
        self.sizes.add(image_size(path))
        self.lengths.append(len(actions) + 1)
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

    Of several bags those that were finished before an interruption are not written again.

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
    check_name(name)
    _replaceable(dest, name, overwrite)
    job = _Job(
        source=source,
        working=dest / f".{name}.{os.getpid()}.tmp",
        finished=Finished(
            dest / f".{name}.finished", f"{observation} {min_frames} {image_format} {quality}"
        ),
        done=Converted(source.action_spec),
        observation=observation,
        least=max(min_frames, 2),
        most=max_episodes,
        image_format=image_format,
        quality=quality,
    )
    try:
        job.working.mkdir(parents=True)
    except OSError as error:
        raise DataError("dest", "a folder that can be made and written", str(error)) from error
    try:
        with _told_when_full(dest):
            job.run()
            if source.fit_bounds:
                _fit_bounds(job.done)
            old = _replaceable(dest, name, overwrite)
            _replace_episodes(job.done, dest, name, old)
        shutil.rmtree(job.finished.folder, ignore_errors=True)
    except V2WError:
        shutil.rmtree(job.finished.folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(job.working, ignore_errors=True)
    return job.done


def check_name(name: str) -> None:
    """Raises DataError if episodes cannot be called NAME_000.h5."""
    bad = not name or name.startswith(".") or not name.isprintable() or len(name.encode()) > 200
    if bad or any(mark in name for mark in "/\\"):
        rule = "a name without slashes that does not start with a dot, at most 200 bytes long"
        raise DataError("--name", rule, name or "an empty name")


@contextmanager
def _told_when_full(dest: Path) -> Iterator[None]:
    """Turns errors of writing into a DataError that says what to do."""
    try:
        yield
    except V2WError:
        raise
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(dest).free
        if "No space left" in str(error) or free < 1 << 20:
            rule = (
                "free space for the episodes: no space left on this disk; free some or use another"
            )
            raise DataError(str(dest), rule, f"{free} bytes free") from error
        raise DataError(str(dest), "a folder that can be written", str(error)) from error


@dataclass(frozen=True)
class _Job:
    """One conversion; ``run`` writes all episodes into ``working``."""

    source: RecordingSet
    working: Path
    finished: Finished
    done: Converted
    observation: ObservationSpec | None
    least: int
    most: int | None
    image_format: ImageFormat
    quality: int

    def run(self) -> None:
        with progress(total=self.source.num_frames, desc="convert", unit="frame") as bar:
            for recording in self.source.recordings:
                if len(recording) < self.least:
                    self.done.too_short.append(len(recording))
                    continue
                bar.note(f"episode {len(self.done.paths) + 1} of {self.source.num_recordings}")
                written = self.finished.find(recording.key) if recording.key else None
                if written is None:
                    try:
                        written = self._write(recording, bar.update)
                    except V2WError as error:
                        if not recording.key:  # the only bag
                            raise
                        self.done.failed.append(f"{recording.name}: {error}")
                        continue
                    written = self.finished.keep(recording.key, written)
                else:
                    bar.update(len(recording))
                    for item in written:
                        replace_action_spec(item.path, self.source.action_spec)
                for item in written[: self._left]:
                    actions = recording.actions[item.start : item.start + item.length - 1]
                    self.done.add(actions, item.path)
                if len(self.done.paths) == self.most:
                    break
        if not self.done.paths and self.done.failed:
            raise DataError("bags", "one bag that can be read", self.done.failed[0])
        if not self.done.paths:
            rule = f"at least one with {self.least} frames in a row (--min-frames)"
            longest = max(self.done.too_short, default=0)
            raise DataError("recordings", rule, f"at most {longest} in a row")

    @property
    def _left(self) -> int | None:
        """How many more episodes are wanted; None: all."""
        return None if self.most is None else self.most - len(self.done.paths)

    def _write(self, recording: Recording, count: Callable[[], object]) -> list[Written]:
        """Writes an episode for each run of good frames of one size."""
        written: list[Written] = []
        writer, start, size = None, 0, None
        rows = zip(recording.frames, recording.poses, recording.stamps_ns, strict=True)
        try:
            for index, (frame, pose, stamp) in enumerate(rows):
                count()
                if frame is None:
                    at = f"{recording.time_of(index):.2f} s"
                    self.done.undecoded.append(f"{recording.name} {at}".strip())
                elif self.observation:
                    frame = resize_frame(frame, self.observation)
                shape = None if frame is None else frame.shape
                changed = shape != size and (frame is None or self.source.sizes_may_change)
                if writer is not None and changed:
                    written += self._close(writer, recording, start)
                    writer = None
                if frame is None:
                    continue
                if writer is None:
                    writer, start, size = self._writer(recording, len(written)), index, shape
                writer.add(frame, pose, int(stamp))
            if writer is not None:
                written += self._close(writer, recording, start)
        except BaseException:
            if writer is not None:
                writer.abort()
            raise
        return written

    def _writer(self, recording: Recording, number: int) -> EpisodeWriter:
        return EpisodeWriter(
            self.working / f"{len(self.done.paths) + number}{SUFFIX}",
            action_spec=self.source.action_spec,
            source=f"{self.source.title} {recording.name}".strip(),
            attributes=recording.attributes,
            image_format=self.image_format,
            quality=self.quality,
        )

    def _close(self, writer: EpisodeWriter, recording: Recording, start: int) -> list[Written]:
        """Finishes an episode, if it is long enough."""
        length = len(writer)
        if length < self.least:
            self.done.too_short.append(length)
            writer.abort()
            return []
        steps, motion = slice(start, start + length - 1), recording.motion
        path = writer.close(
            recording.actions[steps], motion=None if motion is None else motion[steps]
        )
        return [Written(path, start, length)]


def _fit_bounds(done: Converted) -> None:
    """Sets the action bounds of every episode to a little more than the range of all data."""
    low, high = bounds_around(done.action_min, done.action_max)
    spec = done.action_spec
    done.action_spec = replace(spec, low=low, high=high, scale=())
    done.num_outside = 0
    for path in done.paths:
        replace_action_spec(path, done.action_spec)


def _replace_episodes(done: Converted, dest: Path, name: str, old: list[Path]) -> None:
    """Renames the new episodes and removes the old ones, which are restored after an error."""
    digits = max(3, len(str(len(done.paths) - 1)))
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
