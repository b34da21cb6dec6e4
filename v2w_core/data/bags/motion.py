"""The track of a bag: from poses, velocities, transforms, or positions of a GPS with an Imu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from v2w_core.data.bags.clocks import TimeLine
from v2w_core.data.bags.motion_rows import QUATERNION, Stream
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.poses import Track, from_gps, track_of, turned
from v2w_core.data.bags.rotations import yaw_of
from v2w_core.data.bags.topics import FIX, TF, Motion
from v2w_core.data.bags.transforms import find_transform
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError
from v2w_core.geometry import relative_motion, wrap_angle

#: Silence of an odometry that is told, though it is bridged.
SILENT_S = 0.3
#: Angle between velocities and the way of the poses that is told.
APART_RAD = 0.5
#: Types whose messages are commands: they hold until the next.
_COMMAND = "geometry_msgs/msg/Twist"


@dataclass(frozen=True)
class Chosen:
    """The stream that tells the motion.

    Attributes:
        name: for messages: the topic, for transforms with the frames.
        stream: its rows.
        notices: how it was chosen, where the user did not say.
    """

    name: str
    stream: Stream
    notices: tuple[Notice, ...] = ()


def choose_stream(
    streams: Mapping[str, Stream], motion: Motion, frames: tuple[str, str] | None
) -> Chosen:
    """The stream of a motion; of transforms that of two frames, of a GPS the fused one.

    Raises:
        DataError: the frames are not in the bag, or several pairs could be meant.
    """
    if motion.kind == FIX:
        return _fused(streams, motion)
    if motion.kind != TF:
        if frames is not None:
            raise DataError("--tf-frames", "only with --motion-from tf", motion.kind)
        return Chosen(motion.topic, streams["pose"])
    name, stream, notices = find_transform(streams, motion.topic, frames)
    return Chosen(f"{motion.topic} {name}", stream, notices)


def make_track(chosen: Chosen, line: TimeLine, motion: Motion, options: BagOptions) -> Track:
    """The track of a stream whose messages are in order. Raises as for ``track_of``."""
    track = track_of(
        chosen.stream.rows,
        line,
        chosen.name,
        axes=options.axes,
        from_twist=motion.source == "twist",
        held=motion.kind == _COMMAND or options.motion_from == "commands",
    )
    notices = (*chosen.notices, *track.notices)
    if motion.source == "twist":
        notices = (*notices, *_frame_of_twist(chosen, line, track))
    if chosen.stream.bad:
        text = f"{chosen.name}: {chosen.stream.bad} messages cannot be decoded and are left out"
        numbers = {"messages": chosen.stream.bad}
        notices = (*notices, Notice("bad_messages", text, "what they leave is a gap", numbers))
    return turned(replace(track, notices=notices), options.yaw_offset_deg)


def _frame_of_twist(chosen: Chosen, line: TimeLine, track: Track) -> Iterator[Notice]:
    """Whether an odometry's velocities are in the axes of its poses instead of the body's."""
    try:
        poses = track_of(
            chosen.stream.rows, line, chosen.name, axes="enu", from_twist=False, held=False
        )
    except DataError:  # there are no poses
        return
    steps = [relative_motion(item.poses[:-1], item.poses[1:]) for item in (poses, track)]
    if len(steps[0]) != len(steps[1]):
        return
    by_pose, by_twist = (np.hypot(item[:, 0], item[:, 1]) for item in steps)
    moving = (by_pose > 1e-3) & (by_twist > 1e-3)
    apart = np.array([np.arctan2(item[moving, 1], item[moving, 0]) for item in steps])
    if moving.sum() < 20 or np.median(np.abs(wrap_angle(apart[0] - apart[1]))) < APART_RAD:
        return
    text = f"{chosen.name}: the velocities point elsewhere than the poses move; they must be in "
    text += "the axes of the body (forward, left)"
    yield Notice("twist_frame", text, "--motion-from pose, if the poses are right")


def check_density(
    track: Track, name: str, max_silence_s: float, rate_hz: float
) -> Iterator[Notice]:
    """What is to be said of poses that come less often than images are wanted.

    Raises:
        DataError: they are too seldom to tell where the robot was between them.
    """
    if len(track) < 2:
        raise DataError(name, "at least two poses with different stamps", len(track))
    typical = float(np.median(np.diff(track.line_ns))) * 1e-9
    if typical > max_silence_s:
        rule = f"odometry with a pose at least every {max_silence_s:g} s; this topic's come every "
        rule += f"{typical:.2f} s: use a faster odometry topic (--odom-topic); a lower --rate-hz "
        rule += "or a larger gap does not help"
        raise DataError(f"{name}: poses", rule, f"{1 / typical:.2f} Hz")
    steps = np.diff(track.line_ns) * 1e-9
    silent = steps[(steps > max(SILENT_S, 5 * typical)) & (steps <= max_silence_s)]
    if silent.size:
        text = f"{name}: no pose for up to {silent.max():.2f} s, {silent.size} times; in between "
        text += "the motion is taken to be even"
        numbers = {"times": int(silent.size), "longest_s": round(float(silent.max()), 3)}
        remedy = "what the robot did then is not known; --start-s and --end-s cut it off"
        yield Notice("pose_gaps", text, remedy, numbers)
    if typical * rate_hz > 1.1:
        text = f"{name}: poses come at {1 / typical:.2f} Hz, images are taken at {rate_hz:g} Hz: "
        text += "in between the motion is taken to be even"
        remedy = f"--rate-hz {1 / typical:.3g}, or a faster odometry (--odom-topic)"
        yield Notice("slow_odometry", text, remedy, {"pose_hz": round(1 / typical, 3)})


def _fused(streams: Mapping[str, Stream], motion: Motion) -> Chosen:
    if "fix" not in streams:
        raise DataError(motion.topic, "messages that can be decoded", "none")
    fix = streams["fix"]
    imu = streams.get("imu")
    yaw = None
    if imu is not None:
        known = np.linalg.norm(np.nan_to_num(imu.rows[:, QUATERNION]), axis=1) > 0.5
        turning = np.unwrap(yaw_of(imu.rows[known][:, QUATERNION]))
        stamps, first = np.unique(imu.header_ns[known], return_index=True)
        if stamps.size > 1 and stamps[0] <= fix.header_ns[-1] and stamps[-1] >= fix.header_ns[0]:
            yaw = np.interp(fix.header_ns, stamps, turning[first])
    heading = f"the heading of {motion.beside}" if yaw is not None else "the direction of travel"
    text = f"{motion.topic}: positions of the GPS with {heading}, a simple planar fusion"
    remedy = "check the way in v2w data preview; robot_localization's odometry is better"
    rows = from_gps(fix.rows, yaw)
    notice = Notice("gps_fusion", text, remedy)
    return Chosen(motion.topic, replace(fix, rows=rows), (notice,))


def in_window(line: TimeLine, low_ns: int, high_ns: int) -> TimeLine:
    """The messages from ``low_ns`` to ``high_ns`` on the common line."""
    return line.where((line.line_ns >= low_ns) & (line.line_ns <= high_ns))
