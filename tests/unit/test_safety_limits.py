"""Limits of commands and of plans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from core_toys import history, small_model
from hypothesis import given
from hypothesis import strategies as st

from planners.goals import PoseGoal
from v2w.navigation.history import Snapshot
from v2w.navigation.planning import PlanningCore, PlanSettings
from v2w.navigation.trajectory_tracker import TrackerConfig, TrajectoryTracker, twist_of
from v2w.safety.limits import STOP, Limits
from v2w_core.testing import PLANAR_4HZ as SPEC

SPEEDS = st.floats(-1e6, 1e6)
TWISTS = st.tuples(SPEEDS, SPEEDS, SPEEDS)


@given(TWISTS, TWISTS, st.floats(0.0, 1.0), st.booleans())
def test_no_command_is_faster_than_allowed(
    twist: tuple[float, float, float],
    previous: tuple[float, float, float],
    passed_s: float,
    holonomic: bool,
) -> None:
    limits = Limits(holonomic=holonomic)
    vx, vy, wz = limits.limited(twist, limits.limited(previous), passed_s)
    assert math.hypot(vx, vy) <= 0.5 + 1e-9 and abs(wz) <= 1.0 + 1e-9
    assert holonomic or vy == 0.0


@given(TWISTS, TWISTS, st.floats(0.0, 0.2))
def test_commands_change_no_quicker_than_allowed(
    twist: tuple[float, float, float], previous: tuple[float, float, float], passed_s: float
) -> None:
    limits = Limits(max_linear_acceleration=1.0, max_linear_deceleration=2.0)
    before = limits.limited(previous)
    after = limits.limited(twist, before, passed_s)
    if after != STOP:
        assert math.dist(after[:2], before[:2]) <= 2.0 * passed_s + 1e-9
        assert abs(after[2] - before[2]) <= 5.0 * passed_s + 1e-9


def test_a_stop_is_never_delayed_and_an_arc_stays_an_arc() -> None:
    assert Limits().limited(STOP, (0.5, 0.0, 1.0), 0.0) == STOP
    assert Limits().limited((1.0, 0.0, 0.4)) == pytest.approx((0.5, 0.0, 0.2))
    assert Limits(max_linear_acceleration=1.0).limited((0.5, 0.0, 0.0), STOP, 0.1)[0] == (
        pytest.approx(0.1)
    )


@pytest.mark.parametrize("twist", [(math.nan, 0.0, 0.0), (0.0, 0.0, math.inf)])
def test_what_is_no_number_is_refused(twist: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="command"):
        Limits().limited(twist)


@given(st.floats(0.01, 20.0), st.floats(0.01, 20.0), st.booleans())
def test_plans_are_within_the_models_bounds_and_the_limits(
    linear: float, angular: float, holonomic: bool
) -> None:
    limits = Limits(linear, angular, holonomic=holonomic)
    spec = limits.bounds(SPEC)
    assert (np.asarray(spec.low) >= np.asarray(SPEC.low) - 1e-12).all()
    assert (np.asarray(spec.high) <= np.asarray(SPEC.high) + 1e-12).all()
    reach = np.maximum(np.abs(spec.low), np.abs(spec.high))
    assert reach[2] <= angular * spec.dt_s + 1e-9
    metres = math.hypot(reach[0], reach[1]) if holonomic else reach[0]
    assert metres <= linear * spec.dt_s + 1e-9
    assert (spec.offset, spec.scale) == (SPEC.offset, SPEC.scale)


def test_a_base_that_cannot_go_sideways_drives_arcs() -> None:
    limits = Limits(max_linear_velocity=2.0, max_angular_velocity=2.0, holonomic=False)
    spec = limits.bounds(SPEC)
    rng = np.random.default_rng(0)
    candidates = rng.uniform(spec.low, spec.high, (50, 8, 3)).astype(np.float32)
    arcs = limits.drivable(spec, candidates)
    for step in arcs.reshape(-1, 3):
        assert twist_of(step, spec.dt_s)[1] == pytest.approx(0.0, abs=1e-5)
    assert (arcs >= np.asarray(spec.low, np.float32) - 1e-6).all()
    assert (arcs <= np.asarray(spec.high, np.float32) + 1e-6).all()
    np.testing.assert_array_equal(arcs[..., 2], candidates[..., 2])


@pytest.mark.parametrize("holonomic", [True, False])
def test_what_is_planned_keeps_to_the_limits(holonomic: bool) -> None:
    limits = Limits(0.5, 1.0, holonomic=holonomic)
    asked = PlanSettings(
        horizon=6, num_iterations=3, num_candidates=32, time_budget_s=60.0, seed=1,
        execute_steps=2, limits=limits,
    )  # fmt: skip
    frames, actions = history()
    stamps = np.arange(len(frames), dtype=np.int64) * 250_000_000
    snapshot = Snapshot(frames, 0 * actions, stamps, np.zeros((len(frames), 4)))
    core = PlanningCore(small_model())
    outcome = core.plan(snapshot, PoseGoal((1.0, 1.0, 1.0)), "goal", asked)
    assert 32 <= outcome.num_scored <= 96
    for step in outcome.result.action_sequence:
        vx, vy, wz = twist_of(step, 0.25)
        assert math.hypot(vx, vy) <= 0.51 and abs(wz) <= 1.0 + 1e-6
        assert holonomic or vy == pytest.approx(0.0, abs=1e-5)


def test_a_base_that_cannot_go_sideways_steers_back_to_its_plan() -> None:
    steps = np.tile([0.1, 0.0, 0.0], (20, 1))

    def beside(holonomic: bool) -> tuple[float, float]:
        tracker = TrajectoryTracker(SPEC, TrackerConfig(holonomic=holonomic, settle_s=0.0))
        tracker.follow(steps, (0.0, 0.0, 0.0), 0)
        x, y, yaw, sideways = 0.0, 0.15, 0.0, 0.0
        for tick in range(100):
            now = tick * 50_000_000
            vx, vy, wz = tracker.command(now, (x, y, yaw), now) or STOP
            sideways = max(sideways, abs(vy))
            x += 0.05 * (math.cos(yaw) * vx - math.sin(yaw) * vy)
            y += 0.05 * (math.sin(yaw) * vx + math.cos(yaw) * vy)
            yaw += 0.05 * wz
        return abs(y), sideways

    assert beside(False)[0] < 0.05 and beside(False)[1] == 0.0
    assert beside(True)[0] < 0.05 and beside(True)[1] > 0.1
