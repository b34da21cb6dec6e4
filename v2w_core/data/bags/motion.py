"""The track of a bag: from poses, velocities, transforms, or positions of a GPS with an Imu."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from v2w_core.data.bags.clocks import TimeLine
from v2w_core.data.bags.motion_rows import QUATERNION, Stream
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.poses import Track, from_gps, track_of, turned, yaw_of
from v2w_core.data.bags.topics import FIX, TF, Motion
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

#: Pairs of frames that are taken of a tree of transforms without being named, best first.
_FIXED = ("odom", "map", "world", "earth")
_BODIES = ("base_link", "base_footprint", "base", "body", "chassis", "imu_link")
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
    streams = {**_chained(streams, frames), **streams}
    key = _frames_of(streams, motion.topic, frames)
    return Chosen(f"{motion.topic} {key}", streams[key])


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
    if chosen.stream.bad:
        text = f"{chosen.name}: {chosen.stream.bad} messages cannot be decoded and are left out"
        numbers = {"messages": chosen.stream.bad}
        notices = (*notices, Notice("bad_messages", text, "what they leave is a gap", numbers))
    return turned(replace(track, notices=notices), options.yaw_offset_deg)


def check_density(track: Track, name: str, max_silence_s: float) -> None:
    """Raises DataError if poses are too seldom to tell where the robot was between them."""
    if len(track) < 2:
        raise DataError(name, "at least two poses with different stamps", len(track))
    typical = float(np.median(np.diff(track.line_ns))) * 1e-9
    if typical > max_silence_s:
        rule = f"odometry with a pose at least every {max_silence_s:g} s; this topic's come every "
        rule += (
            f"{typical:.2f} s: use a faster odometry topic (--odom-topic); a lower --rate-hz or "
        )
        rule += "a larger gap does not help"
        raise DataError(f"{name}: poses", rule, f"{1 / typical:.2f} Hz")


def _frames_of(streams: Mapping[str, Stream], topic: str, frames: tuple[str, str] | None) -> str:
    listed = ", ".join(sorted(streams))
    if frames is not None:
        key = f"{frames[0].lstrip('/')} -> {frames[1].lstrip('/')}"
        if key not in streams:
            raise DataError("--tf-frames", f"two of {topic}'s frames: {listed}", " ".join(frames))
        return key
    for parent in _FIXED:
        for child in _BODIES:
            fitting = [key for key in streams if _is(key, parent, child)]
            if len(fitting) == 1:
                return fitting[0]
    moving = [key for key, item in streams.items() if np.ptp(item.rows[:, :3], axis=0).max() > 0.1]
    if len(moving) == 1:
        return moving[0]
    rule = f"one pair of frames that tells the motion: --tf-frames PARENT CHILD, of {listed}"
    raise DataError(topic, rule, f"{len(streams)} pairs")


def _chained(streams: Mapping[str, Stream], frames: tuple[str, str] | None) -> dict[str, Stream]:
    """The transform between two named frames by way of a third, in the plane.

    The first of the two may be published less often (map -> odom): it is interpolated.
    """
    if frames is None:
        return {}
    parent, child = (name.lstrip("/") for name in frames)
    for key, last in streams.items():
        middle, _, end = key.partition(" -> ")
        first = streams.get(f"{parent} -> {middle}")
        if end != child or first is None:
            continue
        stamps, at = np.unique(first.header_ns, return_index=True)
        slow = np.column_stack(
            [first.rows[at, :3], np.unwrap(yaw_of(first.rows[at][:, QUATERNION]))]
        )
        x, y, z, yaw = (np.interp(last.header_ns, stamps, column) for column in slow.T)
        cos, sin = np.cos(yaw), np.sin(yaw)
        rows = last.rows.copy()
        rows[:, 0] = x + cos * last.rows[:, 0] - sin * last.rows[:, 1]
        rows[:, 1] = y + sin * last.rows[:, 0] + cos * last.rows[:, 1]
        rows[:, 2] = z + last.rows[:, 2]
        turned_by = (yaw + yaw_of(last.rows[:, QUATERNION])) / 2
        rows[:, QUATERNION] = 0.0
        rows[:, 5], rows[:, 6] = np.sin(turned_by), np.cos(turned_by)
        return {f"{parent} -> {child}": replace(last, rows=rows, frames=(parent, child))}
    return {}


def _is(key: str, parent: str, child: str) -> bool:
    """Whether a pair of frames has these names, perhaps with a robot's prefix."""
    names = key.split(" -> ")
    return all(
        own == name or own.endswith((f"/{name}", f"_{name}"))
        for own, name in zip(names, (parent, child), strict=True)
    )


def _fused(streams: Mapping[str, Stream], motion: Motion) -> Chosen:
    fix = streams["fix"]
    imu = streams.get("imu")
    yaw = None
    if imu is not None:
        known = np.linalg.norm(np.nan_to_num(imu.rows[:, QUATERNION]), axis=1) > 0.5
        turning = np.unwrap(yaw_of(imu.rows[known][:, QUATERNION]))
        stamps, first = np.unique(imu.header_ns[known], return_index=True)
        if stamps.size > 1 and stamps[0] <= fix.header_ns[-1] and stamps[-1] >= fix.header_ns[0]:
            yaw = np.interp(fix.header_ns, stamps, turning[first])
    heading = f"the heading of {motion.imu}" if yaw is not None else "the direction of travel"
    text = f"{motion.topic}: positions of the GPS with {heading}, a simple planar fusion"
    remedy = "check the way in v2w data preview; robot_localization's odometry is better"
    rows = from_gps(fix.rows, yaw)
    notice = Notice("gps_fusion", text, remedy)
    return Chosen(motion.topic, replace(fix, rows=rows), (notice,))


def in_window(line: TimeLine, low_ns: int, high_ns: int) -> TimeLine:
    """The messages from ``low_ns`` to ``high_ns`` on the common line."""
    return line.where((line.line_ns >= low_ns) & (line.line_ns <= high_ns))
