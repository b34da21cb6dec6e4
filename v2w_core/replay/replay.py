"""Replay: rollouts from moments of a recording, compared with the frames recorded next.

The recording is a ROS bag (camera and odometry) or an episode file. Its actions may lie outside the
bounds of the model's action space; :attr:`Recording.share_outside` is the share that does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from v2w_core.errors import V2WError
from v2w_core.geometry import Float64Array
from v2w_core.media.rollout_sheet import RolloutPicture
from v2w_core.metrics.steps import StepScores
from v2w_core.replay.recording import Recording
from v2w_core.world_model import WorldModel


@dataclass(frozen=True)
class Moment:
    """Start of a rollout: frame ``index`` of a track, ``time_s`` seconds into the recording."""

    track: int
    index: int
    time_s: float


@dataclass(frozen=True)
class Replayed:
    """A rollout with its scores against the recorded frames.

    Attributes:
        motion_error: float64 [horizon, 3], the predicted displacement of each step less the
            recorded one (dx m, dy m, dyaw rad); None of a model that does not predict motion.
    """

    moment: Moment
    picture: RolloutPicture
    scores: StepScores
    motion_error: Float64Array | None = None


def choose_moments(
    recording: Recording,
    num_history: int,
    horizon: int,
    *,
    times_s: Sequence[float] | None = None,
    every_s: float = 1.0,
    max_rollouts: int = 32,
) -> list[Moment]:
    """Chooses moments with a whole history before and a whole horizon after them.

    Args:
        recording: the recording.
        num_history: number of history frames.
        horizon: number of frames to imagine.
        times_s: times in seconds, for which the nearest frames are chosen; None: regular moments.
        every_s: interval of regular moments in seconds.
        max_rollouts: maximum number of regular moments; more are thinned evenly.

    Raises:
        V2WError: there is no moment near one of the times, or no part of the recording is long
            enough.
    """
    if not (math.isfinite(every_s) and every_s > 0):
        raise V2WError("--every", "a positive number of seconds", every_s)
    if max_rollouts < 1:
        raise V2WError("--max-rollouts", "at least 1", max_rollouts)
    possible = [
        Moment(number, index, float(track.times_s[index]))
        for number, track in enumerate(recording.tracks)
        for index in range(num_history - 1, len(track) - horizon)
    ]
    if not possible:
        needed = num_history + horizon
        rule = (
            f"{needed} frames in a row at {recording.action_spec.rate_hz:g} Hz "
            f"({num_history} given, {horizon} ahead); a lower --horizon needs fewer"
        )
        longest = max(len(track) for track in recording.tracks)
        raise V2WError(str(recording.source), rule, f"at most {longest} in a row",
                       code="HISTORY_UNAVAILABLE")  # fmt: skip
    tolerance_s = 0.25 * recording.action_spec.dt_s  # stamps may jitter
    if times_s is not None:
        return [_nearest(possible, time, recording.action_spec.dt_s) for time in times_s]
    chosen = [possible[0]]
    for moment in possible[1:]:
        other_track = moment.track != chosen[-1].track
        if other_track or moment.time_s - chosen[-1].time_s >= every_s - tolerance_s:
            chosen.append(moment)
    if len(chosen) > max_rollouts:
        picks = np.linspace(0, len(chosen) - 1, max_rollouts).round().astype(int)
        chosen = [chosen[int(i)] for i in picks]
    return chosen


def _nearest(possible: Sequence[Moment], time_s: float, dt_s: float) -> Moment:
    found = min(possible, key=lambda moment: abs(moment.time_s - time_s))
    if not abs(found.time_s - time_s) <= dt_s:
        rule = (
            f"seconds from {possible[0].time_s:.2f} to {possible[-1].time_s:.2f} with a whole "
            "history before and a whole horizon after them"
        )
        raise V2WError("--times", rule, time_s)
    return found


def replay(
    model: WorldModel,
    recording: Recording,
    moments: Sequence[Moment],
    horizon: int,
    *,
    num_sampling_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
) -> Iterator[Replayed]:
    """Yields a rollout of ``horizon`` steps under the recorded actions for each moment."""
    num_history = model.config.num_history
    for moment in moments:
        track, now = recording.tracks[moment.track], moment.index
        first = now - num_history + 1
        history, past = track.frames[first : now + 1], track.actions[first:now]
        actions = track.actions[now : now + horizon]
        recorded = track.frames[now + 1 : now + 1 + horizon]
        session = model.start(history, past, seed=seed)
        rollouts = session.imagine(
            actions[None],
            num_sampling_steps=num_sampling_steps,
            guidance_scale=guidance_scale,
            seed=seed,
            bounds=False,
        )
        imagined = rollouts.frames()[0]
        scores = StepScores.compute(imagined, recorded, history[-1])
        picture = RolloutPicture(
            history, imagined, actions, past, recording.action_spec, recorded, scores.psnr,
            title=f"{recording.source.name} at {moment.time_s:.2f} s",
        )  # fmt: skip
        error = None
        if session.predicts_motion and track.motion is not None:
            error = rollouts.motion[0] - track.motion[now : now + horizon]
        yield Replayed(moment, picture, scores, error)
