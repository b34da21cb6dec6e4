"""The checks that every velocity command passes, by name. Knows no ROS; all times are given.

A check is a function of :class:`Facts` that returns why the robot must not move; an empty text
means that it may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w.safety import camera, odometry
from v2w.safety.camera import CameraSettings, CameraState
from v2w.safety.limits import Limits, Twist
from v2w.safety.odometry import OdometrySettings, OdometryState, Pose
from v2w_core.geometry import wrap_angle

NS = 1_000_000_000
#: The clock of the nodes may step back by this much [s]: it is set now and then.
STEP_BACK_S = 0.5


@dataclass(frozen=True)
class SafetySettings:
    """What the checks ask for; each is a parameter of planner_node.

    Attributes:
        stall_s: a robot that does not do what it is told for so long is stopped [s].
        clock_timeout_s: the clock of the node must have advanced within this time [s].
        max_pause_s: a process that stood still for longer drops its plans [s].
        start_m, start_rad: a plan is begun no further than this from where it leads along.
        start_frame_s: and only with a camera frame that came within this time [s].
        max_plan_age_s: and if the newest frame of its history is no older than this [s].
    """

    camera: CameraSettings = field(default_factory=CameraSettings)
    odometry: OdometrySettings = field(default_factory=OdometrySettings)
    limits: Limits = field(default_factory=Limits)
    stall_s: float = 0.5
    clock_timeout_s: float = 0.3
    max_pause_s: float = 0.5
    start_m: float = 0.2
    start_rad: float = 0.2
    start_frame_s: float = 1.0
    max_plan_age_s: float = 15.0


def settings_from(values: Mapping[str, Any]) -> SafetySettings:
    """The settings that the parameters of planner_node, by name, stand for.

    Timeouts are shorter by a command period, so that the stop comes within them.
    """

    def in_time(name: str) -> float:
        return float(values[name] - min(1.0 / values["cmd_vel_rate"], values[name] / 5.0))

    speeds = ("max_linear_velocity", "max_angular_velocity")
    rates = [f"max_{kind}_{what}" for kind in ("linear", "angular")
             for what in ("acceleration", "deceleration")]  # fmt: skip
    return SafetySettings(
        camera=CameraSettings(
            in_time("camera_timeout"),
            values["camera_bad_frames"],
            values["camera_min_level"],
            values["camera_min_contrast"],
        ),
        odometry=OdometrySettings(
            in_time("odometry_timeout"),
            *(values[name] for name in speeds),
            values["odometry_jump"],
            values["odometry_jump_yaw"],
            values["max_stamp_ahead"],
        ),
        limits=Limits(*(values[name] for name in (*speeds, *rates, "holonomic"))),
        stall_s=values["stall_time"],
        clock_timeout_s=values["clock_timeout"],
        max_pause_s=values["max_pause"],
        start_m=values["start_tolerance"],
        start_rad=values["start_yaw_tolerance"],
        start_frame_s=values["start_frame_age"],
        max_plan_age_s=values["max_plan_age"],
    )


@dataclass(frozen=True)
class ClockState:
    """The node's clock beside the steady one.

    Attributes:
        ros_ns: the node's time at the last look; None before the first. changed_ns: when it
            advanced last. looked_ns: when the last look was.
        num_pauses: how often the process stood still.
        problem: of the last look; empty when all is well.
    """

    ros_ns: int | None = None
    changed_ns: int = 0
    looked_ns: int = 0
    num_pauses: int = 0
    problem: str = ""


@dataclass(frozen=True)
class PlanOrigin:
    """Where and when a plan was made.

    Attributes:
        pose: of the newest frame of its history (x m, y m, yaw rad).
        made_ns: when that history was taken, by the steady clock; frame_age_s: how old its newest
            frame was then [s].
        num_jumps, num_pauses, num_stops: of the odometry, the process and the robot until then.
    """

    pose: Pose
    made_ns: int
    frame_age_s: float
    num_jumps: int
    num_pauses: int
    num_stops: int


@dataclass(frozen=True)
class Facts:
    """All that checks look at.

    Attributes:
        commands: (when, twist) of the last seconds, oldest first.
        publishers: why another node's commands may reach the base as well; empty when none can.
        num_stops: how often somebody told the robot to stop, so that plans of before are void.
    """

    settings: SafetySettings
    now_ns: int
    ros_now_ns: int
    camera: CameraState = field(default_factory=CameraState)
    odometry: OdometryState = field(default_factory=OdometryState)
    clock: ClockState = field(default_factory=ClockState)
    commands: list[tuple[int, Twist]] = field(default_factory=list)
    publishers: str = ""
    num_stops: int = 0


def camera_fresh(facts: Facts) -> str:
    """The newest frame came within ``camera_timeout``, whatever its stamp."""
    return camera.not_fresh(facts.camera, facts.now_ns, facts.settings.camera)


def camera_alive(facts: Facts) -> str:
    """Frames can be read, are no repetition, and show something."""
    return camera.not_alive(facts.camera, facts.settings.camera)


def odometry_fresh(facts: Facts) -> str:
    """The newest message came, and was stamped, within ``odometry_timeout``."""
    return odometry.not_fresh(
        facts.odometry, facts.now_ns, facts.ros_now_ns, facts.settings.odometry
    )


def odometry_plausible(facts: Facts) -> str:
    """The newest message is a place that can be reached from the one before."""
    return facts.odometry.problem


def moving_as_commanded(facts: Facts) -> str:
    """The odometry shows at least a tenth of what was commanded."""
    # Told a little before stall_s is over, so that the stop comes within it.
    window_s = 0.8 * facts.settings.stall_s
    return odometry.not_as_commanded(facts.odometry, facts.commands, window_s)


def clock_alive(facts: Facts) -> str:
    """The node's clock advances, and the process did not stand still."""
    clock = facts.clock
    if clock.problem:
        return clock.problem
    return _no_time(clock, facts.ros_now_ns) or pause_since(clock, facts.now_ns, facts.settings)


def single_publisher(facts: Facts) -> str:
    """No other planner of this name is active."""
    return facts.publishers


#: Every command passes these; "limits" and "plan valid from here" are where commands are made.
CHECKS: dict[str, Callable[[Facts], str]] = {
    "clock alive": clock_alive,
    "camera fresh": camera_fresh,
    "camera alive": camera_alive,
    "odometry fresh": odometry_fresh,
    "odometry plausible": odometry_plausible,
    "moving as commanded": moving_as_commanded,
    "single publisher": single_publisher,
}
PLAN_VALID, LIMITS = "plan valid from here", "limits"
NAMES = (*CHECKS, PLAN_VALID, LIMITS)


def results(facts: Facts) -> dict[str, str]:
    """Why each check fails; empty for those that do not. One that raises an error fails."""
    found = {}
    for name, check in CHECKS.items():
        try:
            found[name] = check(facts)
        except Exception as error:
            found[name] = f"the check failed: {type(error).__name__}: {error}"
    return found


def look_at_clock(
    clock: ClockState, now_ns: int, ros_now_ns: int, settings: SafetySettings
) -> ClockState:
    """The state after a look at both clocks; there is one with every command."""
    paused = pause_since(clock, now_ns, settings)
    changed_ns = clock.changed_ns if ros_now_ns == clock.ros_ns else now_ns
    problem = paused or _no_time(clock, ros_now_ns)
    if not problem and now_ns - changed_ns > settings.clock_timeout_s * NS:
        problem = f"time stands still for {(now_ns - changed_ns) / NS:.2f} s"
    return ClockState(ros_now_ns, changed_ns, now_ns, clock.num_pauses + bool(paused), problem)


def _no_time(clock: ClockState, ros_now_ns: int) -> str:
    """Why the node's clock is none since the last look; empty when it may be one."""
    if ros_now_ns == 0:
        return "no time: use_sim_time is set and there is no /clock"
    if clock.ros_ns is not None and clock.ros_ns - ros_now_ns > STEP_BACK_S * NS:
        return f"time jumped back by {(clock.ros_ns - ros_now_ns) / NS:.2f} s"
    return ""


def pause_since(clock: ClockState, now_ns: int, settings: SafetySettings) -> str:
    """Why the process must have stood still since the last look; empty when it did not."""
    gap_s = (now_ns - clock.looked_ns) / NS
    if not clock.looked_ns or gap_s <= settings.max_pause_s:
        return ""
    return f"the process stood still for {gap_s:.2f} s"


def plan_not_valid(origin: PlanOrigin, path: NDArray[np.float64], facts: Facts) -> str:
    """Why a plan must not be begun now; empty when it may.

    Args:
        path: where it leads along, poses [n + 1, 3] (x m, y m, yaw rad); the first is where it was
            made.
    """
    settings = facts.settings
    if origin.num_stops != facts.num_stops:
        return "the robot was told to stop while it was made"
    if origin.num_pauses != facts.clock.num_pauses:
        return "the process stood still while it was made"
    if origin.num_jumps != facts.odometry.num_jumps:
        return "the odometry jumped while it was made"
    age_s = origin.frame_age_s + (facts.now_ns - origin.made_ns) / NS
    if age_s > settings.max_plan_age_s:
        longest = f"max_plan_age is {settings.max_plan_age_s:g} s"
        return f"its newest frame is {age_s:.2f} s old, {longest}"
    arrived_ns = facts.camera.arrived_ns
    if arrived_ns is None or facts.now_ns - arrived_ns > settings.start_frame_s * NS:
        return f"no camera frame within {settings.start_frame_s:g} s"
    here = facts.odometry.planar
    if here is None:
        return "no odometry"
    _, metres, radians = nearest_on(path, here, settings)
    if metres > settings.start_m or radians > settings.start_rad:
        return (
            f"the robot is {metres:.2f} m and {radians:.2f} rad from where the plan leads along, "
            f"at most {settings.start_m:g} m and {settings.start_rad:g} rad are allowed"
        )
    return ""


def nearest_on(
    path: NDArray[np.float64], pose: Pose, settings: SafetySettings
) -> tuple[float, float, float]:
    """(steps, metres, radians): how far along the path [n + 1, 3] ``pose`` lies, and beside it."""
    shares = np.linspace(0.0, 1.0, 11)[:, None]
    turns = wrap_angle(np.diff(path[:, 2]))
    best = (0.0, math.inf, math.inf)
    worst = math.inf
    for index, turn in enumerate(turns):
        places = path[index, :2] + shares * (path[index + 1, :2] - path[index, :2])
        yaws = path[index, 2] + shares[:, 0] * turn
        metres = np.hypot(places[:, 0] - pose[0], places[:, 1] - pose[1])
        radians = np.abs(wrap_angle(yaws - pose[2]))
        apart = np.maximum(metres / settings.start_m, radians / settings.start_rad)
        nearest = int(np.argmin(apart))
        if apart[nearest] < worst - 1e-9:
            worst = float(apart[nearest])
            steps = index + float(shares[nearest, 0])
            best = (steps, float(metres[nearest]), float(radians[nearest]))
    return best
