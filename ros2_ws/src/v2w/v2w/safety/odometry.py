"""Can the odometry be believed? Each message is judged against the one before. Knows no ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from v2w_core.geometry import relative_motion

Pose = tuple[float, float, float]
NS = 1_000_000_000
#: Coordinates beyond this are no place [m].
FARTHEST_M = 1e7
#: Poses that are kept for comparing motion with commands [ns].
TRAIL_NS = 12 * NS
#: Stamps that go back by more than this are another time [s].
BACK_S = 0.5


@dataclass(frozen=True)
class OdometrySettings:
    """What believable odometry is.

    Attributes:
        timeout_s: the newest message came, and was stamped, at most so long ago [s].
        max_linear_velocity, max_angular_velocity: of the robot [m/s, rad/s]; twice that is
            believed.
        jump_m, jump_rad: and so much more from one message to the next.
        max_ahead_s: stamps that are further ahead of the clock are refused [s].
    """

    timeout_s: float = 0.5
    max_linear_velocity: float = 0.5
    max_angular_velocity: float = 1.0
    jump_m: float = 0.1
    jump_rad: float = 0.1
    max_ahead_s: float = 0.5


@dataclass(frozen=True)
class OdometryState:
    """What the messages so far say; :func:`seen` makes the next one.

    Attributes:
        pose: the newest believed one (x m, y m, z m, yaw rad); None before the first.
        stamp_ns: its stamp. arrived_ns: when it came, by the steady clock.
        frame: its frame and body frame.
        problem: why the newest message was refused, or is no motion; empty when all is well.
        num_jumps: how often the pose, the frame or the time was another from one message to the
            next.
        num_refused: messages that were refused.
        trail: (arrived_ns, (x, y, yaw)) since the last jump.
    """

    pose: tuple[float, float, float, float] | None = None
    stamp_ns: int = 0
    arrived_ns: int = 0
    frame: str = ""
    problem: str = ""
    num_jumps: int = 0
    num_refused: int = 0
    trail: tuple[tuple[int, Pose], ...] = ()

    @property
    def planar(self) -> Pose | None:
        """(x m, y m, yaw rad) of the newest pose."""
        return None if self.pose is None else (self.pose[0], self.pose[1], self.pose[3])

    def at(self, moment_ns: int) -> Pose | None:
        """The pose that was newest at a moment of the steady clock; None: not known."""
        for arrived_ns, pose in reversed(self.trail):
            if arrived_ns <= moment_ns:
                return pose
        return None


def refused(state: OdometryState, reason: str) -> OdometryState:
    """The state after a message that cannot be used."""
    return replace(state, problem=reason, num_refused=state.num_refused + 1)


def seen(
    state: OdometryState,
    pose: tuple[float, float, float, float],
    stamp_ns: int,
    now_ns: int,
    ros_now_ns: int,
    frame: str,
    settings: OdometrySettings,
) -> OdometryState:
    """The state after a message.

    Args:
        pose: (x m, y m, z m, yaw rad).
        stamp_ns: of the message; ros_now_ns: the time of the same clock.
        now_ns: when it came, by the steady clock.
        frame: names of its frame and of the body frame.
    """
    if not all(math.isfinite(v) and abs(v) <= FARTHEST_M for v in pose):
        return refused(state, f"no place: {', '.join(f'{v:g}' for v in pose)}")
    ahead_s = (stamp_ns - ros_now_ns) / NS
    if ahead_s > settings.max_ahead_s:
        return refused(state, f"stamped {ahead_s:.2f} s ahead of the clock")
    problem = ""
    if state.pose is not None:
        passed_s = (stamp_ns - state.stamp_ns) / NS
        if -BACK_S <= passed_s <= 0.0:
            return state  # late, or the same once more
        problem = _jump(state, pose, passed_s, frame, settings)
    planar = (pose[0], pose[1], pose[3])
    kept = () if problem else state.trail
    if kept and kept[len(kept) // 2][0] < now_ns - TRAIL_NS:
        kept = kept[len(kept) // 2 :]
    return replace(
        state,
        pose=pose,
        stamp_ns=stamp_ns,
        arrived_ns=now_ns,
        frame=frame,
        problem=problem,
        num_jumps=state.num_jumps + bool(problem),
        trail=(*kept, (now_ns, planar)),
    )


def _jump(
    state: OdometryState,
    pose: tuple[float, float, float, float],
    passed_s: float,
    frame: str,
    settings: OdometrySettings,
) -> str:
    """Why this pose does not follow from the one before; empty when it does."""
    assert state.pose is not None
    if frame != state.frame:
        return f"its frames changed from {state.frame} to {frame}"
    if passed_s < 0.0:
        return f"its time jumped back by {-passed_s:.2f} s"
    metres = math.dist(pose[:2], state.pose[:2])
    turn = abs((pose[3] - state.pose[3] + math.pi) % (2 * math.pi) - math.pi)
    # After a gap anything may have happened: no more than a second of motion is believed.
    time_s = min(passed_s, 1.0)
    if metres > 2.0 * settings.max_linear_velocity * time_s + settings.jump_m:
        return f"jumped {metres:.2f} m in {passed_s:.2f} s"
    if turn > 2.0 * settings.max_angular_velocity * time_s + settings.jump_rad:
        return f"jumped {turn:.2f} rad in {passed_s:.2f} s"
    return ""


def not_fresh(
    state: OdometryState, now_ns: int, ros_now_ns: int, settings: OdometrySettings
) -> str:
    """Why the newest message is too old, by arrival or by stamp; empty when it is not."""
    if state.pose is None:
        return "no odometry at all since the node was activated, or since time jumped"
    arrived_s, stamped_s = (now_ns - state.arrived_ns) / NS, (ros_now_ns - state.stamp_ns) / NS
    if arrived_s > settings.timeout_s:
        return f"no odometry for {arrived_s:.2f} s"
    if stamped_s > settings.timeout_s:
        return f"no odometry for {stamped_s:.2f} s, by its stamps"
    return ""


def not_as_commanded(
    state: OdometryState,
    commands: list[tuple[int, tuple[float, float, float]]],
    window_s: float,
) -> str:
    """Why the robot does not do what it is told; empty when it does, or as far as is known.

    Args:
        commands: (when, twist), oldest first, each held until the next.
        window_s: what was commanded during so many seconds before the newest message is compared
            with what the odometry shows.
    """
    now_ns = state.arrived_ns
    begin_ns = now_ns - round(window_s * NS)
    before = state.at(begin_ns)
    if before is None or state.planar is None or not commands or commands[0][0] > begin_ns:
        return ""
    told = np.zeros(3)
    ends = [when for when, _ in commands[1:]] + [now_ns]
    for (when, twist), end in zip(commands, ends, strict=True):
        told += np.asarray(twist) * max(0, min(end, now_ns) - max(when, begin_ns)) / NS
    done = np.asarray(relative_motion(before, state.planar), dtype=np.float64)
    length, turn = float(np.hypot(told[0], told[1])), abs(float(told[2]))
    # A tenth of what was asked for is motion; slower than 0.05 m/s and 0.1 rad/s nothing is said.
    if length >= 0.05 * window_s and float(told[:2] @ done[:2]) < 0.1 * length**2:
        moved = math.hypot(done[0], done[1])
        return f"commanded but not moving: {length:.2f} m in {window_s:.2f} s, moved {moved:.2f} m"
    if turn >= 0.1 * window_s and float(told[2] * done[2]) < 0.1 * turn**2:
        return (
            f"commanded but not moving: {turn:.2f} rad in {window_s:.2f} s, "
            f"turned {abs(done[2]):.2f} rad"
        )
    return ""
