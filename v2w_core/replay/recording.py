"""Recordings that can be replayed: bags and episodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.episode import read_episode
from v2w_core.data.episode_writer import SUFFIX
from v2w_core.data.notices import Notice
from v2w_core.data.sources.bag import scan_bag, stack_frames
from v2w_core.errors import DataError, V2WError
from v2w_core.images import ImageArray, resize_frames
from v2w_core.spec import PLANAR_NAMES, ActionSpec, ObservationSpec

#: Units of the actions that odometry provides, in this order.
BAG_UNITS = ("m", "m", "rad")


#: Share of the action range beyond a bound from which an action counts as far outside.
FAR_OUTSIDE = 0.1


@dataclass(frozen=True)
class Track:
    """An unbroken part of a recording, T frames at a steady rate.

    Attributes:
        frames: RGB uint8 [T, h, w, 3] at the model's size.
        actions: float32 [T-1, A], physical units; actions[i] leads from frame i to i + 1.
        times_s: float64 [T], seconds after the first image of the recording.
        motion: float32 [T-1, 3], the displacement of each step (dx m, dy m, dyaw rad in the body
            frame); None: unknown, as the actions are not planar.
    """

    frames: ImageArray
    actions: NDArray[np.float32]
    times_s: NDArray[np.float64]
    motion: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Recording:
    """A recording at the model's rate and image size.

    Attributes:
        source: path of the bag or the episode.
        action_spec: the model's action space.
        tracks: the unbroken parts.
        image_topic, odom_topic: topics of the bag; empty for episodes.
        notices: what the user should know about it.
    """

    source: Path
    action_spec: ActionSpec
    tracks: tuple[Track, ...]
    image_topic: str = ""
    odom_topic: str = ""
    notices: tuple[Notice, ...] = ()

    @property
    def num_frames(self) -> int:
        return sum(len(track) for track in self.tracks)

    @property
    def share_outside(self) -> float:
        """Share of the steps with an action far outside the bounds of the model's action space."""
        actions = np.concatenate([track.actions for track in self.tracks])
        low = np.asarray(self.action_spec.low, dtype=np.float32)
        high = np.asarray(self.action_spec.high, dtype=np.float32)
        slack = FAR_OUTSIDE * (high - low)
        outside = (actions < low - slack) | (actions > high + slack)
        return float(outside.any(axis=1).mean()) if len(actions) else 0.0


def read_recording(
    path: str | Path,
    action: ActionSpec,
    observation: ObservationSpec,
    *,
    image_topic: str | None = None,
    odom_topic: str | None = None,
    rate_hz: float | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    repairs: Mapping[str, Any] | None = None,
) -> Recording:
    """Reads a bag or an episode (.h5) at the model's rate and image size.

    Args:
        path: the bag or the episode file.
        action, observation: the model's action space and frame format.
        image_topic, odom_topic: topics of a bag; None finds the only ones.
        rate_hz: None or the model's rate; any other is an error.
        start_s, end_s: range to read, from start_s to before end_s, in seconds after the first
            image.
        repairs: further options of a bag, see :class:`~v2w_core.data.bags.options.BagOptions`.

    Raises:
        V2WError: the actions do not match the model's (names, units, rate), or the recording
            cannot be used.
    """
    if rate_hz is not None and not math.isclose(rate_hz, action.rate_hz, rel_tol=1e-3):
        rule = (
            f"{action.rate_hz:g}, the rate this checkpoint was trained at: leave --rate-hz out, "
            "or fine-tune a checkpoint at your rate (v2w convert --rate-hz, v2w train)"
        )
        raise V2WError("--rate-hz", rule, rate_hz)
    if not (math.isfinite(start_s) and start_s >= 0):
        raise V2WError("--start-s", "a number of seconds, at least 0", start_s)
    if end_s is not None and not (math.isfinite(end_s) and end_s > start_s):
        raise V2WError("--end-s", f"a number of seconds above --start-s {start_s:g}", end_s)
    source = Path(path)
    if source.suffix == SUFFIX:
        if repairs:
            rule = "only for a bag; an episode was repaired when it was converted"
            raise V2WError(
                f"--{next(iter(repairs)).removesuffix('_deg').replace('_', '-')}", rule, source.name
            )
        return _from_episode(source, action, observation, start_s, end_s)
    if action.names != PLANAR_NAMES or action.units != BAG_UNITS:
        rule = f"a checkpoint with actions {PLANAR_NAMES} in {BAG_UNITS}, which odometry gives"
        raise V2WError("checkpoint: action", rule, (action.names, action.units))
    scan = scan_bag(
        source,
        image_topic=image_topic,
        odom_topic=odom_topic,
        rate_hz=action.rate_hz,
        start_s=start_s,
        end_s=end_s,
        **(repairs or {}),
    )
    frames: list[list[ImageArray | None]] = [[] for _ in scan.segments]
    for number, frame in scan.frames(observation):
        frames[number].append(frame)
    tracks = [
        track
        for images, part, times in zip(frames, scan.segments, scan.times_s, strict=True)
        for track in _good_tracks(images, part.actions, times, scan.image_topic)
    ]
    if not tracks:
        raise DataError(scan.image_topic, "pictures that can be decoded", "none in a row")
    return Recording(
        scan.path, action, tuple(tracks), scan.image_topic, scan.odom_topic, scan.notices
    )


def _good_tracks(
    images: Sequence[ImageArray | None],
    actions: NDArray[np.float32],
    times_s: NDArray[np.float64],
    topic: str,
) -> Iterator[Track]:
    """A track for each run of pictures that could be decoded."""
    bad = [-1, *(i for i, image in enumerate(images) if image is None), len(images)]
    for before, after in pairwise(bad):
        first = before + 1
        if after - first >= 2:
            frames = stack_frames(images[first:after], topic)
            moved = actions[first : after - 1]  # by odometry: the displacement stands for both
            yield Track(frames, moved, times_s[first:after], moved)


def _from_episode(
    path: Path,
    action: ActionSpec,
    observation: ObservationSpec,
    start_s: float,
    end_s: float | None,
) -> Recording:
    episode = read_episode(path)
    action.require_same(episode.action_spec, field=f"{path.name}: action_spec")
    times = (episode.stamps_ns - episode.stamps_ns[0]) * 1e-9
    last = math.inf if end_s is None else end_s
    kept = np.flatnonzero((times >= start_s - 1e-9) & (times < last))
    if not kept.size:
        raise DataError("--start-s, --end-s", f"within the {times[-1]:.1f} s of {path.name}",
                        (start_s, end_s))  # fmt: skip
    first, stop = int(kept[0]), int(kept[-1]) + 1
    frames = resize_frames(episode.frames(first, stop), observation)
    steps = slice(first, stop - 1)
    motion = None if episode.motion is None else episode.motion[steps]
    track = Track(frames, episode.actions[steps], times[first:stop], motion)
    return Recording(path, action, (track,))
