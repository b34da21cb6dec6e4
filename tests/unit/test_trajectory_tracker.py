from __future__ import annotations

import numpy as np
import pytest

from v2w.navigation.trajectory_tracker import NS, STOP, TrackerConfig, TrajectoryTracker, twist_of
from v2w_core.geometry import relative_motion
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(
    ("dx", "dy", "dyaw"), ("m", "m", "rad"), (-0.25, -0.25, -0.5), (0.5, 0.25, 0.5), rate_hz=4.0
)
PLAN = np.array([[0.3, 0.0, 0.2], [0.2, 0.1, -0.4], [0.0, 0.0, 0.3]])


def moved(pose: np.ndarray, twist: tuple[float, float, float], dt_s: float) -> np.ndarray:
    """Where a body at ``pose`` is after holding a twist; in small steps."""
    x, y, yaw = pose
    vx, vy, wz = twist
    for _ in range(50):
        h = dt_s / 50
        middle = yaw + wz * h / 2
        x += h * (np.cos(middle) * vx - np.sin(middle) * vy)
        y += h * (np.sin(middle) * vx + np.cos(middle) * vy)
        yaw += h * wz
    return np.array([x, y, yaw])


@pytest.mark.parametrize("step", [(0.3, 0.1, 0.5), (0.2, 0.0, 0.0), (0.0, 0.1, -1e-6), (0, 0, 1)])
def test_holding_the_twist_gives_the_displacement(step: tuple[float, float, float]) -> None:
    start = np.array([1.0, -2.0, 0.7])
    end = moved(start, twist_of(step, 0.25), 0.25)
    assert relative_motion(start, end) == pytest.approx(step, abs=1e-5)


def simulate(gain: float, slip: float = 1.0) -> tuple[np.ndarray, list]:
    """Drive PLAN at 20 Hz with a body that makes only ``slip`` of the commanded motion."""
    tracker = TrajectoryTracker(SPEC, TrackerConfig(gain=gain, settle_s=0.5))
    start = np.array([0.5, 0.5, 1.0])
    tracker.follow(PLAN, start, 0)
    pose, commands = start, []
    for tick in range(40):
        now = tick * NS // 20
        command = tracker.command(now, pose, now)
        commands.append(command)
        if command is not None:
            pose = moved(pose, tuple(slip * value for value in command), 0.05)
    return pose, commands


def goal() -> np.ndarray:
    pose = np.array([0.5, 0.5, 1.0])
    for step in PLAN:
        pose = moved(pose, twist_of(step, 0.25), 0.25)
    return pose


def test_a_plan_ends_where_it_was_meant_to_then_zero_then_silence() -> None:
    pose, commands = simulate(gain=0.0)
    assert pose == pytest.approx(goal(), abs=1e-3)
    assert STOP in commands
    assert commands[-1] is None
    assert commands[commands.index(None) - 1] == STOP


def test_corrections_make_up_for_slip() -> None:
    without, _ = simulate(gain=0.0, slip=0.8)
    corrected, _ = simulate(gain=3.0, slip=0.8)
    error = [np.hypot(*(pose - goal())[:2]) for pose in (without, corrected)]
    assert error[1] < 0.5 * error[0]


def test_commands_stay_within_the_action_bounds() -> None:
    tracker = TrajectoryTracker(SPEC, TrackerConfig(gain=10.0))
    tracker.follow(PLAN, (0.0, 0.0, 0.0), 0)
    command = tracker.command(NS // 10, (-50.0, 50.0, 3.0), NS // 10)
    assert command is not None
    assert (np.abs(command) <= np.array([2.0, 1.0, 2.0]) + 1e-9).all()


def test_the_watchdog_stops_and_forgets_the_plan() -> None:
    tracker = TrajectoryTracker(SPEC, TrackerConfig(odometry_timeout_s=0.5))
    tracker.follow(PLAN, (0.0, 0.0, 0.0), 0)
    assert tracker.command(NS // 10, (0.0, 0.0, 0.0), 0) != STOP
    assert tracker.command(NS * 6 // 10, (0.0, 0.0, 0.0), 0) == STOP
    assert "no odometry" in tracker.stopped_because
    assert tracker.command(NS * 7 // 10, (0.0, 0.0, 0.0), NS * 7 // 10) is None


def test_no_pose_and_a_clock_that_goes_back_stop_too() -> None:
    for pose, now in ((None, NS // 10), ((0.0, 0.0, 0.0), -NS)):
        tracker = TrajectoryTracker(SPEC, TrackerConfig())
        tracker.follow(PLAN, (0.0, 0.0, 0.0), 0)
        assert tracker.command(now, pose, now) == STOP
        assert not tracker.active


def test_the_reason_says_whether_odometry_is_old_or_was_never_there() -> None:
    for pose, pose_ns, reason in (
        (None, 0, "no odometry at all"),
        ((0.0, 0.0, 0.0), 1_763_900_000 * NS - 2 * NS, "no odometry for 2.00 s"),
    ):
        tracker = TrajectoryTracker(SPEC, TrackerConfig())
        tracker.follow(PLAN, (0.0, 0.0, 0.0), 1_763_900_000 * NS)
        assert tracker.command(1_763_900_000 * NS, pose, pose_ns) == STOP
        assert tracker.stopped_because.startswith(reason)


def test_stop_gives_one_zero() -> None:
    tracker = TrajectoryTracker(SPEC, TrackerConfig())
    assert tracker.command(0, (0.0, 0.0, 0.0), 0) is None
    tracker.follow(PLAN, (0.0, 0.0, 0.0), 0)
    tracker.stop("told to")
    assert tracker.command(1, (0.0, 0.0, 0.0), 1) == STOP
    assert tracker.command(2, (0.0, 0.0, 0.0), 2) is None
    assert not tracker.finished


def test_only_a_plan_that_was_driven_to_its_end_is_finished() -> None:
    tracker = TrajectoryTracker(SPEC, TrackerConfig(settle_s=0.5))
    tracker.follow(PLAN, (0.0, 0.0, 0.0), 0)
    end = round((len(PLAN) * SPEC.dt_s + 0.5) * NS)
    for now, finished in ((end - 1, False), (end, True)):
        tracker.command(now, (0.0, 0.0, 0.0), now)
        assert tracker.finished is finished
    tracker.follow(PLAN, (0.0, 0.0, 0.0), end)
    assert not tracker.finished
