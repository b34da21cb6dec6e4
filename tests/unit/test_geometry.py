"""Pose arithmetic: REP 103 by hand, and inverses for any motion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from v2w_core.errors import V2WError
from v2w_core.geometry import (
    actions_from_poses,
    from_pose,
    integrate_actions,
    interpolate_poses,
    planar,
    relative_motion,
    wrap_angle,
    yaw_from_quaternion,
)

numbers = st.floats(-3.0, 3.0, allow_nan=False)
poses = arrays(np.float64, (3,), elements=numbers)
sequences = arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3)), elements=numbers)


def test_forward_left_and_counter_clockwise() -> None:
    north = (1.0, 2.0, math.pi / 2)
    assert integrate_actions([[1.0, 0.0, 0.0]], north)[1] == pytest.approx([1, 3, math.pi / 2])
    assert integrate_actions([[0.0, 1.0, 0.0]], north)[1] == pytest.approx([0, 2, math.pi / 2])
    assert relative_motion(north, (1.0, 3.0, math.pi)) == pytest.approx([1, 0, math.pi / 2])
    square = integrate_actions([[1.0, 0.0, math.pi / 2]] * 4)
    assert square[-1] == pytest.approx([0, 0, 0], abs=1e-12)
    assert square[2] == pytest.approx([1, 1, math.pi])


@given(sequences, poses)
def test_actions_of_the_path_are_the_actions(actions: np.ndarray, start: np.ndarray) -> None:
    path = integrate_actions(actions, start)
    assert path.shape == (len(actions) + 1, 3)
    again = actions_from_poses(path)
    assert again[:, :2] == pytest.approx(actions[:, :2], abs=1e-9)
    assert wrap_angle(again[:, 2] - actions[:, 2]) == pytest.approx(0, abs=1e-9)


@given(poses, poses)
def test_relative_motion_leads_there(first: np.ndarray, second: np.ndarray) -> None:
    end = integrate_actions(relative_motion(first, second)[None], first)[-1]
    assert end[:2] == pytest.approx(second[:2], abs=1e-9)
    assert wrap_angle(end[2] - second[2]) == pytest.approx(0, abs=1e-9)


@given(st.floats(-50, 50, allow_nan=False), st.integers(-3, 3))
def test_wrap_angle(angle: float, turns: int) -> None:
    wrapped = float(wrap_angle(angle + 2 * math.pi * turns))
    assert -math.pi < wrapped <= math.pi
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-9)
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)


def test_candidates_at_once() -> None:
    rng = np.random.default_rng(0)
    candidates = rng.uniform(-1, 1, (5, 4, 3))
    starts = rng.uniform(-1, 1, (5, 3))
    together = integrate_actions(candidates, starts)
    assert together.shape == (5, 5, 3)
    for k in range(5):
        assert together[k] == pytest.approx(integrate_actions(candidates[k], starts[k]))
    four = np.insert(starts[0], 2, 9.0)
    assert integrate_actions(candidates[0], four) == pytest.approx(together[0])


def test_interpolation_takes_the_short_way_round() -> None:
    table = [[0, 0, 0, math.radians(170)], [2, 4, 1, math.radians(-170)]]
    middle, quarter, end = interpolate_poses([0, 100], table, [50, 25, 100])
    assert middle == pytest.approx([1, 2, 0.5, math.pi])
    assert quarter == pytest.approx([0.5, 1, 0.25, math.radians(175)])
    assert end == pytest.approx(table[1])
    with pytest.raises(V2WError, match="within"):
        interpolate_poses([0, 100], table, [101])


def test_yaw_of_a_quaternion() -> None:
    for yaw in (-3.0, -1.0, 0.0, 0.5, 3.1):
        half = yaw / 2
        assert yaw_from_quaternion(0, 0, math.sin(half), math.cos(half)) == pytest.approx(yaw)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((4, 2)), np.float64(1)])
def test_bad_shapes(bad: np.ndarray) -> None:
    with pytest.raises(V2WError, match="shape"):
        integrate_actions(bad)
    with pytest.raises(V2WError, match="shape"):
        planar(np.zeros((3, 2)))


def test_poses_seen_from_a_pose_are_where_driving_from_it_leads():
    rng = np.random.default_rng(3)
    actions, start = rng.normal(size=(4, 6, 3)), np.array([2.0, -1.0, 2.5])
    from_there = integrate_actions(actions, start)
    np.testing.assert_allclose(from_pose(start, integrate_actions(actions)), from_there)
