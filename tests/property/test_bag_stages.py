"""Rules of the stages that read a bag, for many inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_core.data.bags.clocks import SECOND, choose_stamps, time_lines
from v2w_core.data.bags.jumps import without_jumps
from v2w_core.data.bags.plausibility import check, walk_of
from v2w_core.data.bags.poses import Track, in_ros_axes, integrate_twist, turned, yaw_of
from v2w_core.data.sources.resample import plan_segments, rates_of
from v2w_core.errors import DataError
from v2w_core.geometry import wrap_angle

START = 1_700_000_000 * SECOND


def circle(
    count: int = 300, hz: float = 50.0, speed: float = 0.5, turn: float = 0.25, heading: float = 0.0
) -> Track:
    seconds = np.arange(count) / hz
    yaw = heading + turn * seconds
    radius = speed / turn
    x, y = radius * (np.sin(yaw) - np.sin(heading)), radius * (np.cos(heading) - np.cos(yaw))
    poses = np.column_stack([x, y, np.zeros(count), wrap_angle(yaw)])
    stamps = START + np.round(seconds * SECOND).astype(np.int64)
    return Track(stamps, poses, np.full((count, 3), np.nan), np.zeros(0, np.int64), np.ones(count))


def codes(track: Track) -> set[str]:
    return {notice.code for notice in check(walk_of(track))}


@given(
    speed=st.floats(0.2, 3.0),
    turn=st.floats(0.1, 1.0) | st.floats(-1.0, -0.1),
    heading=st.floats(-3.1, 3.1),
    hz=st.sampled_from([10.0, 20.0, 50.0, 100.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_robot_that_drives_forwards_is_plausible(
    speed: float, turn: float, heading: float, hz: float
) -> None:
    track = circle(round(6 * hz), hz, speed, turn, heading)
    assert codes(track) == set()
    assert without_jumps(track) is track


@given(off=st.floats(40, 140) | st.floats(-140, -40), heading=st.floats(-3.1, 3.1))
@settings(max_examples=40, deadline=None)
def test_the_remedy_for_sideways_travel_is_the_angle_that_is_missing(
    off: float, heading: float
) -> None:
    track = turned(circle(heading=heading), -off)
    (notice,) = check(walk_of(track))
    assert notice.code == "sideways"
    assert notice.numbers["off_deg"] == pytest.approx(off, abs=2)
    assert codes(turned(track, notice.numbers["off_deg"])) == set()


@given(
    at=st.integers(20, 270), jump=st.floats(0.3, 50), angle=st.floats(-3, 3), hz=st.floats(10, 100)
)
@settings(max_examples=60, deadline=None)
def test_a_jump_breaks_the_track_there_and_nowhere_else(
    at: int, jump: float, angle: float, hz: float
) -> None:
    track = circle(hz=hz)
    poses = track.poses.copy()
    poses[at:, :2] += jump * np.array([np.cos(angle), np.sin(angle)])
    broken = without_jumps(
        Track(track.line_ns, poses, track.twist, track.broken, track.upright)
    ).broken
    assert broken.tolist() == [at - 1]


@given(
    swaps=st.lists(st.integers(0, 90), max_size=6, unique=True),
    late=st.integers(1, 5),
    latency_ms=st.integers(0, 200),
)
@settings(max_examples=80, deadline=None)
def test_a_small_disorder_is_sorted(swaps: list[int], late: int, latency_ms: int) -> None:
    order = list(range(100))
    for place in swaps:
        order.insert(place + late, order.pop(place))
    header = START + np.array(order, np.int64) * (SECOND // 20)
    receive = START + np.arange(100, dtype=np.int64) * (SECOND // 20) + latency_ms * 1_000_000
    times = choose_stamps("/camera", header, receive)
    (line,) = time_lines([times])
    assert not times.steps.size
    assert np.array(order)[line.index].tolist() == list(range(100))


@given(at=st.integers(15, 85), back_ms=st.integers(600, 10**6), both=st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_clock_that_is_set_back_begins_an_epoch(at: int, back_ms: int, both: bool) -> None:
    places = np.arange(100, dtype=np.int64)
    receive = START + places * (SECOND // 20)
    header = receive - np.where(places >= at, back_ms * 1_000_000, 0) - 5_000_000
    times = choose_stamps("/camera", header, header + 5_000_000 if both else receive)
    assert times.steps.tolist() == [at]
    (line,) = time_lines([times])
    assert (np.diff(line.line_ns) > 0).all()
    assert line.epoch.tolist() == [0] * at + [1] * (100 - at)


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(x * x for x in q) > 0.1)
)
def test_axes_of_a_camera_and_ned_are_rotations(values: list[float]) -> None:
    turn = np.array([values]) / np.linalg.norm(values)
    place = np.array([[1.0, 2.0, 3.0]])
    for axes in ("camera", "ned", "enu"):
        moved, turned_by = in_ros_axes(place, turn, axes)
        assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(place))
        assert np.linalg.norm(turned_by) == pytest.approx(1.0)
    forward = in_ros_axes(np.array([[0.0, 0.0, 1.0]]), turn, "camera")[0]
    assert forward.tolist() == [[1.0, 0.0, 0.0]]
    left_turn = np.array([[0.0, -np.sin(0.3), 0.0, np.cos(0.3)]])  # about the camera's up
    assert yaw_of(in_ros_axes(place, left_turn, "camera")[1])[0] == pytest.approx(0.6)


@given(speed=st.floats(-2, 2), turn=st.floats(-1, 1).filter(lambda v: abs(v) > 0.01))
def test_velocities_integrate_to_a_circle(speed: float, turn: float) -> None:
    seconds = np.arange(200) * 0.02
    poses = integrate_twist(seconds, np.tile([speed, 0.0, turn], (200, 1)), held=False)
    x, y = speed / turn * np.sin(turn * seconds), speed / turn * (1 - np.cos(turn * seconds))
    assert np.abs(poses[:, 0] - x).max() < 1e-3 and np.abs(poses[:, 1] - y).max() < 1e-3


@given(camera_hz=st.sampled_from([5.0, 7.5, 10.0, 15.0, 25.0, 30.0]), rate_hz=st.floats(1.0, 5.0))
@settings(max_examples=60, deadline=None)
def test_rates_that_are_offered_give_even_steps(camera_hz: float, rate_hz: float) -> None:
    stamps = START + np.round(np.arange(120) / camera_hz * SECOND).astype(np.int64)
    track = circle(3000)
    kept = stamps[stamps < track.line_ns[-1]]
    for rate in rates_of(camera_hz, rate_hz):
        try:
            parts = plan_segments(kept, track.line_ns, track.poses, rate_hz=rate)
        except DataError:
            continue  # so slow that the recording is too short
        for part in parts:
            shortest, longest = part.step_range_s
            assert longest - shortest < 0.25 * shortest
