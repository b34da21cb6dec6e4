"""Whether a track can be a robot's way: every check is a warning that names its remedy.

A robot that learns from poses in the wrong axes, or with a heading that is off, learns nonsense
without a word. The checks look at steps of about a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.poses import Track
from v2w_core.data.notices import Notice
from v2w_core.geometry import wrap_angle

Float64Array = NDArray[np.float64]
STEP_S = 0.25
#: Way (m) and turn (rad) below which a track says nothing.
LEAST_WAY_M, LEAST_TURN_RAD = 0.5, 0.4
#: Angle between heading and travel from which a heading is told to be off.
OFF_RAD = np.radians(30.0)
#: Cosine of the tilt that no robot on the ground keeps, 45 degrees.
TILTED = 0.7
#: Speed that no robot has, in m/s; millimetres for metres are beyond it.
FASTEST = 70.0
#: Metres along z for each metre in the plane that no robot on the ground climbs.
STEEP = 0.45


@dataclass(frozen=True)
class Walk:
    """A track as steps, K of them, none across a break.

    Attributes:
        way: float64 [K], metres in the plane; rise: metres along z.
        yaw: float64 [K], heading at the start; turn: its change, in radians.
        direction: float64 [K], of travel, in the plane.
        together: bool [K], the next step starts where this one ends.
        speed, spin: float64 [K], what the twist says: m/s in the plane, rad/s; NaN where unknown.
        seconds: float64 [K], length of the step.
        frames: names of the frames of the poses.
        upright: cosine of the angle between the body's z axis and the world's, its median.
    """

    way: Float64Array
    rise: Float64Array
    yaw: Float64Array
    turn: Float64Array
    direction: Float64Array
    together: NDArray[np.bool_]
    speed: Float64Array
    spin: Float64Array
    seconds: Float64Array
    frames: tuple[str, str] = ("", "")
    upright: float = 1.0

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Steps that go far enough to have a direction, and are not slow beside the others."""
        least = max(0.02, 0.2 * float(np.quantile(self.way, 0.9))) if self.way.size else 0.02
        return np.asarray(self.way > least)


def walk_of(track: Track, frames: tuple[str, str] = ("", "")) -> Walk:
    """The steps of a track."""
    seconds = track.seconds
    part = np.searchsorted(track.broken, np.arange(len(track)), side="left")
    tick = np.floor(seconds / STEP_S + 1e-6).astype(np.int64)
    change = np.diff(tick, prepend=-1) > 0
    kept = np.flatnonzero(change | (np.diff(part, prepend=-1) > 0))
    begin, end = kept[:-1], kept[1:]
    good = (part[begin] == part[end]) & (seconds[end] - seconds[begin] < 4 * STEP_S + 2.0)
    together = np.zeros(len(begin), bool)
    together[:-1] = good[:-1] & good[1:]
    moved = track.poses[end] - track.poses[begin]
    twist = track.twist[begin]
    return Walk(
        way=np.hypot(moved[good, 0], moved[good, 1]),
        rise=moved[good, 2],
        yaw=track.poses[begin, 3][good],
        turn=wrap_angle(moved[good, 3]),
        direction=np.arctan2(moved[good, 1], moved[good, 0]),
        together=together[good],
        speed=np.hypot(twist[good, 0], twist[good, 1]),
        spin=twist[good, 2],
        seconds=(seconds[end] - seconds[begin])[good],
        frames=frames,
        upright=float(np.median(track.upright)),
    )


def check(walk: Walk) -> tuple[Notice, ...]:
    """All warnings about a track."""
    if not walk.way.size:
        return ()
    found = [rule(walk) for rule in CHECKS]
    return tuple(notice for notice in found if notice is not None)


def vertical(walk: Walk) -> Notice | None:
    """Travel along z that no slope explains."""
    steps = np.column_stack([walk.way * np.cos(walk.direction), walk.way * np.sin(walk.direction)])
    plane = float(np.ptp(np.cumsum(steps, axis=0), axis=0).max())
    up = float(np.ptp(np.cumsum(walk.rise)))
    if up < max(STEEP * plane, LEAST_WAY_M):
        return None
    text = f"the poses reach {up:.1f} m along z and {plane:.1f} m in the plane"
    remedy = "axes of a camera (z forward)? --axes camera; otherwise use another odometry"
    return Notice("vertical", text, remedy, {"z_m": round(up, 3), "plane_m": round(plane, 3)})


def still(walk: Walk) -> Notice | None:
    """Poses that never change, while the twist does or not."""
    if walk.way.sum() > 0.01 or np.abs(walk.turn).sum() > 0.02:
        return None
    known = np.isfinite(walk.speed) & np.isfinite(walk.spin)
    went = float((walk.speed * walk.seconds)[known].sum())
    spun = float(np.abs(walk.spin * walk.seconds)[known].sum())
    numbers = {"twist_m": round(went, 3), "twist_rad": round(spun, 3)}
    if went > LEAST_WAY_M or spun > LEAST_TURN_RAD:
        text = f"the pose is constant while the twist travels {went:.1f} m and turns {spun:.1f} rad"
        remedy = "--motion-from twist integrates the velocities"
        return Notice("pose_constant", text, remedy, numbers)
    text = "the robot stands still in the whole recording: every action is zero"
    remedy = "is it the right odometry topic? --odom-topic"
    return Notice("stands_still", text, remedy, numbers)


def heading_constant(walk: Walk) -> Notice | None:
    """A heading that stays while the path bends."""
    if np.abs(wrap_angle(walk.yaw - walk.yaw[0])).max() > 0.01 or np.abs(walk.turn).max() > 0.01:
        return None
    directions = walk.direction[walk.moving]
    if walk.way.sum() < LEAST_WAY_M or directions.size < 4:
        return None
    # Twice the angle: forth and back on one line is no bend.
    bend = float(np.abs(wrap_angle(2 * (directions - directions[0]))).max()) / 2
    if bend < LEAST_TURN_RAD:
        return None
    text = f"the heading (yaw) is constant while the path bends by {np.degrees(bend):.0f} degrees"
    remedy = "this odometry has no orientation? Use a fused one (--odom-topic), or --motion-from "
    remedy += "twist; it is right for a robot that can drive sideways"
    return Notice("heading_constant", text, remedy, {"bend_rad": round(bend, 3)})


def off_heading(walk: Walk) -> Notice | None:
    """Travel that is mostly sideways or backwards in the body frame."""
    moving = walk.moving
    if walk.way[moving].sum() < LEAST_WAY_M:
        return None
    angle = walk.direction[moving] - walk.yaw[moving] - walk.turn[moving] / 2
    mean = np.average(np.exp(1j * angle), weights=walk.way[moving])
    off = float(np.angle(mean))
    if np.abs(mean) < 0.85 or abs(off) < OFF_RAD or heading_constant(walk) is not None:
        return None
    degrees = float(np.degrees(off))
    numbers = {"off_deg": round(degrees, 1)}
    if abs(off) > np.pi - OFF_RAD:
        text = "the robot drives backwards: its heading (yaw) is opposite to its travel"
        remedy = "--yaw-offset 180 turns the heading; nothing to do if it did drive backwards"
        return Notice("backwards", text, remedy, numbers)
    side = "left" if off > 0 else "right"
    text = f"the robot drives sideways: it travels {abs(degrees):.0f} degrees to the {side} of its "
    text += "heading (yaw)"
    remedy = f"--yaw-offset {degrees:.0f} turns the heading"
    return Notice("sideways", text, remedy, numbers)


def mirrored(walk: Walk) -> Notice | None:
    """Turns whose sign is opposite to the path's, or to the twist's; or frames called NED."""
    pairs = np.flatnonzero(walk.together[:-1] & walk.moving[:-1] & walk.moving[1:])
    bend = wrap_angle(walk.direction[pairs + 1] - walk.direction[pairs])
    turn = (walk.turn[pairs] + walk.turn[pairs + 1]) / 2
    remedy = "--axes ned turns north-east-down poses into ROS's axes; or use another odometry"
    if np.abs(turn).sum() > LEAST_TURN_RAD and np.abs(bend).sum() > LEAST_TURN_RAD:
        alike = _alike(turn, bend)
        if alike < -0.5:
            text = "the turns are mirrored: where the path bends left the heading (yaw) turns right"
            return Notice("mirrored", text, remedy, {"correlation": round(alike, 2)})
    known = np.isfinite(walk.spin)
    spun = walk.spin[known] * walk.seconds[known]
    if np.abs(spun).sum() > LEAST_TURN_RAD and np.abs(walk.turn[known]).sum() > LEAST_TURN_RAD:
        alike = _alike(walk.turn[known], spun)
        if alike < -0.5:
            text = "the turns are mirrored: the heading (yaw) turns against the angular velocity"
            return Notice("mirrored", text, remedy, {"correlation": round(alike, 2)})
    words = {word for name in walk.frames for word in name.lower().replace("/", "_").split("_")}
    if words & {"ned", "frd"}:
        text = f"the frames of the poses are called {' and '.join(filter(None, walk.frames))}: in "
        text += "NED and FRD z points down, left and right are mirrored"
        return Notice("ned_frame", text, remedy)
    return None


def tilted(walk: Walk) -> Notice | None:
    """A body that lies on its side or upside down all the time."""
    if walk.upright > TILTED:
        return None
    numbers = {"upright": round(walk.upright, 3)}
    if walk.upright < -TILTED:
        text = "the robot is upside down: z of its body points down in the poses' frame"
        remedy = "--axes ned if the positions are north, east, down; if only the body's axes are "
        remedy += "(forward, right, down) the plane is right: look at it with v2w data preview"
        return Notice("upside_down", text, remedy, numbers)
    degrees = float(np.degrees(np.arccos(walk.upright)))
    text = f"the robot lies on its side: z of its body is {degrees:.0f} degrees off the vertical"
    remedy = "a camera's frame (z forward)? --yaw-offset where the travel is told to be sideways, "
    remedy += "or --axes camera; quaternions that begin with w? another odometry (--odom-topic)"
    return Notice("tilted", text, remedy, numbers)


def speed(walk: Walk) -> Notice | None:
    """A speed that no robot has."""
    typical = float(np.quantile(walk.way / walk.seconds, 0.9))
    if typical < FASTEST:
        return None
    text = f"the robot travels at {typical:.0f} m/s"
    remedy = "positions in millimetres? ROS counts in metres: use another odometry (--odom-topic)"
    return Notice("speed", text, remedy, {"speed_m_s": round(typical, 1)})


def scale(walk: Walk) -> Notice | None:
    """A path, or turns, that are not as long as what the twist makes."""
    remedy = "one of them is in other units or wrong; compare with the real way, --motion-from"
    known = np.isfinite(walk.speed)
    way, went = float(walk.way[known].sum()), float((walk.speed * walk.seconds)[known].sum())
    if _differ(way, went, 0.05, LEAST_WAY_M):
        text = f"the poses travel {way:.2f} m, the twist {went:.2f} m"
        return Notice("scale", text, remedy, {"pose_m": round(way, 3), "twist_m": round(went, 3)})
    turning = np.isfinite(walk.spin) & (np.abs(walk.turn) > 0.02)
    turn = float(np.abs(walk.turn[turning]).sum())
    spun = float(np.abs(walk.spin * walk.seconds)[turning].sum())
    if _differ(turn, spun, 0.05, LEAST_TURN_RAD):
        text = f"the poses turn {turn:.2f} rad, the twist {spun:.2f} rad (degrees for radians?)"
        numbers = {"pose_rad": round(turn, 3), "twist_rad": round(spun, 3)}
        return Notice("scale", text, remedy, numbers)
    return None


def _differ(first: float, second: float, least: float, large: float) -> bool:
    """Whether of two sums, both above ``least`` and one above ``large``, one is three times the
    other. A sum of zero says that it was never filled in."""
    low, high = min(first, second), max(first, second)
    return low > least and high > large and high > 3 * low


CHECKS: tuple[Callable[[Walk], Notice | None], ...] = (
    vertical, still, heading_constant, off_heading, mirrored, tilted, scale, speed,
)  # fmt: skip


def _alike(first: Float64Array, second: Float64Array) -> float:
    """Cosine of the angle between two series."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size else 0.0
