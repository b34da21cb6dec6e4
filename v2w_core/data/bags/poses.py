"""Poses of the body from rows of motion: a track with the places where it is broken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.clocks import TimeLine
from v2w_core.data.bags.motion_rows import POSITION, QUATERNION, TWIST
from v2w_core.data.bags.rotations import unit, upright, yaw_of
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError
from v2w_core.geometry import MAX_COORDINATE_M, wrap_angle

Float64Array = NDArray[np.float64]
#: Longest silence across which velocities are integrated and poses interpolated.
MAX_SILENCE_S = 1.0
#: Largest coordinates of maps (UTM, and those counted from the centre of the earth).
MAX_MAP_M = 2e7
#: Metres of a degree of latitude, on a sphere.
DEGREE_M = 111_320.0


@dataclass(frozen=True)
class Track:
    """Poses in the order of time.

    Attributes:
        line_ns: int64 [M], strictly increasing, on the line of all epochs.
        poses: float64 [M, 4], x y z (m) and yaw (rad).
        twist: float64 [M, 3], forward and left (m/s), turning (rad/s); NaN where unknown.
        broken: int64, sorted; nothing leads from row i to row i + 1 for these i.
        upright: float64 [M], cosine of the angle between the body's z axis and the world's; 1 where
            poses are made of velocities.
        notices: what was odd about them.
    """

    line_ns: NDArray[np.int64]
    poses: Float64Array
    twist: Float64Array
    broken: NDArray[np.int64]
    upright: Float64Array
    notices: tuple[Notice, ...] = ()

    def __len__(self) -> int:
        return len(self.line_ns)

    @property
    def seconds(self) -> Float64Array:
        return (self.line_ns - self.line_ns[0]).astype(np.float64) * 1e-9


def track_of(
    rows: Float64Array, line: TimeLine, topic: str, *, axes: str, from_twist: bool, held: bool
) -> Track:
    """The track of a stream.

    Args:
        rows: float64 [N, 10] of :mod:`~v2w_core.data.bags.motion_rows`, in the file's order.
        line: its messages in the order of time.
        topic: name in notices and errors.
        axes: axes of the poses, see :class:`~v2w_core.data.bags.options.BagOptions`.
        from_twist: integrate the velocities instead of taking the poses.
        held: a velocity holds until the next message (a command), instead of changing evenly.

    Raises:
        DataError: no row can be used.
    """
    first = np.unique(line.line_ns, return_index=True)[1]
    chosen, epoch = rows[line.index[first]], line.epoch[first]
    chosen, moved = _near_origin(chosen, topic)
    good, notices = _good_rows(chosen, topic, from_twist)
    stamps, epoch, chosen = line.line_ns[first][good], epoch[good], chosen[good]
    twist = chosen[:, TWIST]
    broken = np.flatnonzero(np.diff(epoch) > 0).astype(np.int64)
    if from_twist:
        silent = np.flatnonzero(np.diff(stamps) > MAX_SILENCE_S * 1e9)
        broken = np.union1d(broken, silent).astype(np.int64)
        poses = integrate_twist((stamps - stamps[0]) * 1e-9, twist, held)
        up: Float64Array = np.ones(len(poses))
    else:
        place, turn = in_ros_axes(chosen[:, POSITION], unit(chosen[:, QUATERNION]), axes)
        poses, up = np.column_stack([place, yaw_of(turn)]), upright(turn)
    return Track(stamps, poses, twist, broken, up, (*moved, *notices))


def turned(track: Track, yaw_offset_deg: float) -> Track:
    """The track with an angle added to its heading."""
    if not yaw_offset_deg:
        return track
    poses = track.poses.copy()
    poses[:, 3] = wrap_angle(poses[:, 3] + np.radians(yaw_offset_deg))
    return replace(track, poses=poses)


def integrate_twist(seconds: Float64Array, twist: Float64Array, held: bool) -> Float64Array:
    """Poses float64 [M, 4] from the origin of velocities [M, 3] at given times [M]."""
    steps = np.diff(seconds)[:, None]
    mean = twist[:-1] if held else (twist[:-1] + twist[1:]) / 2
    moved = mean * steps
    yaw = np.concatenate([[0.0], np.cumsum(moved[:, 2])])
    middle = yaw[:-1] + moved[:, 2] / 2
    cos, sin = np.cos(middle), np.sin(middle)
    x = np.concatenate([[0.0], np.cumsum(cos * moved[:, 0] - sin * moved[:, 1])])
    y = np.concatenate([[0.0], np.cumsum(sin * moved[:, 0] + cos * moved[:, 1])])
    return np.column_stack([x, y, np.zeros_like(x), wrap_angle(yaw)])


def in_ros_axes(
    place: Float64Array, turn: Float64Array, axes: str
) -> tuple[Float64Array, Float64Array]:
    """Positions [M, 3] and quaternions [M, 4] (x y z w) in ROS's axes: forward, left, up."""
    if axes == "camera":  # right, down, forward
        order, sign = [2, 0, 1], np.array([1.0, -1.0, -1.0])
    elif axes == "ned":  # north or forward, east or right, down
        order, sign = [0, 1, 2], np.array([1.0, -1.0, -1.0])
    else:
        return place, turn
    vector = turn[:, :3][:, order] * sign
    return place[:, order] * sign, np.column_stack([vector, turn[:, 3]])


def from_gps(fix: Float64Array, imu_yaw: Float64Array | None) -> Float64Array:
    """Rows of poses from longitude, latitude, altitude [M, 10] and headings [M] (or none).

    A plane that touches the earth at the first fix, x to the east. Without headings the direction
    of travel is the heading.
    """
    rows = fix.copy()
    known = np.isfinite(fix[:, :2]).all(axis=1)
    if known.any():
        origin = fix[known][0]
        rows[:, 0] = (fix[:, 0] - origin[0]) * DEGREE_M * np.cos(np.radians(origin[1]))
        rows[:, 1] = (fix[:, 1] - origin[1]) * DEGREE_M
        rows[:, 2] = fix[:, 2] - origin[2]
    rows[:, 2] = np.nan_to_num(rows[:, 2])
    yaw = imu_yaw if imu_yaw is not None else travel_direction(rows[:, :2])
    rows[:, QUATERNION] = 0.0
    rows[:, 5], rows[:, 6] = np.sin(yaw / 2), np.cos(yaw / 2)
    return rows


def travel_direction(places: Float64Array, least_m: float = 0.3) -> Float64Array:
    """Direction [M] of the way to each position [M, 2] from the last that is ``least_m`` away."""
    yaw = np.full(len(places), np.nan)
    anchor = 0
    for index in range(1, len(places)):
        step = places[index] - places[anchor]
        if np.hypot(*step) >= least_m:
            yaw[anchor + 1 : index + 1] = np.arctan2(step[1], step[0])
            anchor = index
    known = np.flatnonzero(np.isfinite(yaw))
    if not known.size:
        return np.zeros(len(places))
    return np.asarray(
        yaw[known[np.clip(np.searchsorted(known, np.arange(len(yaw))), 0, known.size - 1)]]
    )


def _near_origin(rows: Float64Array, topic: str) -> tuple[Float64Array, tuple[Notice, ...]]:
    """The rows with positions from a nearer origin, where they are a map's (UTM): those are far
    beyond what an episode holds, though the way itself is short."""
    places = rows[:, POSITION]
    known = places[np.isfinite(places).all(axis=1)]
    far = np.abs(known).max(axis=1, initial=0.0)
    if not known.size or not MAX_COORDINATE_M < np.median(far) < MAX_MAP_M:
        return rows, ()
    origin = np.round(known[0])
    shifted = rows.copy()
    shifted[:, POSITION] = places - origin
    text = f"{topic}: positions are a map's coordinates; {origin.tolist()} m is the origin of the "
    text += "episode's poses"
    numbers = dict(zip(("x_m", "y_m", "z_m"), origin.tolist(), strict=True))
    return shifted, (Notice("map_origin", text, "nothing to do", numbers),)


def _good_rows(
    rows: Float64Array, topic: str, from_twist: bool
) -> tuple[NDArray[np.bool_], tuple[Notice, ...]]:
    """Which rows can be used; the others are counted, with why.

    Raises:
        DataError: none can, or so many quaternions are no rotations that none is to be trusted.
    """
    if from_twist:
        good = np.asarray(np.isfinite(rows[:, TWIST]).all(axis=1))
        if not good.any():
            raise DataError(f"{topic}: twist", "finite velocities", "none")
        return good, _left_out(topic, {"velocities that are not finite": int((~good).sum())}, good)
    norm = np.linalg.norm(rows[:, QUATERNION], axis=1)
    near = (np.abs(rows[:, :3]) <= MAX_COORDINATE_M).all(axis=1)
    finite = np.isfinite(rows[:, :7]).all(axis=1) & near
    zero = finite & (norm < 1e-6)
    wrong = finite & ~zero & ~(np.abs(norm - 1.0) <= 0.05)
    good = np.asarray(finite & ~zero & ~wrong)
    rule = f"finite positions within {MAX_COORDINATE_M:g} m and unit quaternions; cut with "
    rule += "--start-s and --end-s, or use another odometry (--odom-topic)"
    if wrong.sum() > 0.1 * len(rows) or not good.any():
        bad = int(np.flatnonzero(wrong if wrong.any() else ~good)[0])
        found = f"{int((~good).sum())} of {len(rows)} wrong, first {rows[bad, :3].tolist()}"
        raise DataError(f"{topic}[{bad}]: pose", rule, f"{found}, norm {norm[bad]:.3g}")
    why = {
        "numbers that are not finite or far too large": int((~finite).sum()),
        "a quaternion of zeros": int(zero.sum()),
        "a quaternion that is no rotation": int(wrong.sum()),
    }
    return good, _left_out(topic, why, good)


def _left_out(topic: str, why: dict[str, int], good: NDArray[np.bool_]) -> tuple[Notice, ...]:
    count = int((~good).sum())
    if not count:
        return ()
    listed = ", ".join(f"{number} with {name}" for name, number in why.items() if number)
    text = f"{topic}: {count} of {good.size} poses are left out: {listed}"
    return (Notice("bad_poses", text, "what they leave is a gap", {"poses": count}),)
