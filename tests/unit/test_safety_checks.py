"""The checks that every velocity command passes, one after the other, without ROS."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w.parameters import PLANNER
from v2w.safety import camera, checks, odometry
from v2w.safety.camera import CameraSettings, CameraState, Look, look_at_compressed, look_at_image
from v2w.safety.checks import ClockState, Facts, PlanOrigin, SafetySettings
from v2w.safety.odometry import OdometrySettings, OdometryState
from v2w_core.data.ros_images import ENCODINGS

NS, MS = 1_000_000_000, 1_000_000
NOW = 1_000 * NS
STANDS, MOVES = 0.0, 0.02  # metres a frame
NOISE = np.random.default_rng(0)


def image(pixels: Any = None, encoding: str = "rgb8", **changes: Any) -> SimpleNamespace:
    if pixels is None:
        pixels = NOISE.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    data = np.ascontiguousarray(pixels)
    message = {
        "height": data.shape[0], "width": data.shape[1], "step": data[0].nbytes,
        "encoding": encoding, "is_bigendian": 0, "data": data.tobytes(),
    }  # fmt: skip
    return SimpleNamespace(**(message | changes))


def watched(looks: list[Look], step_m: float = MOVES, start: CameraState | None = None) -> str:
    """Why the camera is not alive after these looks, 33 ms apart."""
    state = start or CameraState()
    for index, look in enumerate(looks):
        now = NOW + index * 33 * MS + (state.stamp_ns or 0)
        state = camera.seen(state, look, now, now, (index * step_m, 0.0, 0.0), CameraSettings())
    return camera.not_alive(state, CameraSettings())


def others(count: int) -> list[Look]:
    return [look_at_image(image()) for _ in range(count)]


# -- camera -------------------------------------------------------------------------------------


def test_a_camera_that_lives_is_alive() -> None:
    assert watched(others(40)) == ""


@pytest.mark.parametrize(("count", "frozen"), [(1, False), (2, False), (3, True)])
def test_the_same_picture_three_times_is_frozen_when_the_robot_moves(
    count: int, frozen: bool
) -> None:
    looks = [*others(5), *others(1) * count]
    assert ("frozen" in watched(looks)) is frozen


def test_a_noisy_camera_is_frozen_also_where_the_robot_stands() -> None:
    assert watched([*others(20), *others(1) * 3], STANDS).startswith("frozen")


def test_a_simulated_camera_may_show_the_same_while_the_robot_stands() -> None:
    assert watched(others(1) * 40, STANDS) == ""


@pytest.mark.parametrize(("value", "why"), [(0, "dark"), (2, "dark"), (255, "contrast")])
def test_pictures_that_show_nothing(value: int, why: str) -> None:
    # with a little noise, so that it is not for being the same
    def plain() -> Look:
        return look_at_image(image(value + NOISE.integers(0, 2, (48, 64, 3)).astype(np.uint8) // 1))

    dim = [look_at_image(image(np.full((48, 64, 3), value, np.uint8))) for _ in range(3)]
    assert why in watched([*others(3), *dim])
    assert watched([*others(3), *dim[:2]]) == ""
    assert watched([*others(3), *dim[:2], *others(1), *dim[:1]]) == ""
    if value < 200:
        assert why in watched([*others(3), plain(), plain(), plain()])


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_is_looked_at(encoding: str) -> None:
    channels, depth, _ = ENCODINGS[encoding]
    kind = np.uint8 if depth == 1 else np.uint16

    def look(value: int | None) -> Look:
        size = (40, 64, channels)
        top = 256**depth
        pixels = NOISE.integers(0, top, size) if value is None else np.full(size, value)
        return look_at_image(image(pixels.astype(kind), encoding))

    assert not look(None).problem
    assert watched([look(None) for _ in range(5)]) == ""
    assert watched([look(None), look(0), look(0), look(0)]) != ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"encoding": "32FC1"}, "depth"),
        ({"data": b"\0" * 100}, "too few"),
        ({"data": b""}, "too few"),
        ({"step": 10}, "bytes a row"),
        ({"height": 0}, "no image"),
        ({"width": 2**31}, "no image"),
        ({"encoding": "", "step": 193}, "cannot be read"),
    ],
)
def test_images_that_cannot_be_used(changes: dict[str, Any], why: str) -> None:
    look = look_at_image(image(**changes))
    assert why in look.problem
    assert watched([*others(5), look]) == look.problem
    assert watched([*others(5), look, *others(1)]) == ""


def test_another_size_or_encoding_is_a_change_until_it_has_lasted() -> None:
    small = [look_at_image(image(np.ones((24, 32, 3), np.uint8) * n)) for n in range(40, 80)]
    small = [replace(look, contrast=50.0) for look in small]
    changed = watched([*others(3), *small[:1]])
    assert changed == "the camera changed from 64x48 rgb8 to 32x24 rgb8"
    assert watched([*others(3), *small[: camera.ADOPT_AFTER]]) == ""


def jpeg(pixels: Any = None, kind: str = ".jpg") -> bytes:
    if pixels is None:
        pixels = NOISE.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, pixels)[1])


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_compressed_pictures(kind: str) -> None:
    def look(data: bytes) -> Look:
        return look_at_compressed(SimpleNamespace(data=data), decode=True)

    assert watched([look(jpeg(kind=kind)) for _ in range(10)]) == ""
    assert "frozen" in watched([look(jpeg(kind=kind)), *[look(jpeg(kind=kind))] * 3])
    black = jpeg(np.zeros((48, 64, 3), np.uint8), kind)
    assert "dark" in watched([look(black + b"\0" * n) for n in range(3)])
    assert "cut off" in look(jpeg(kind=kind)[:-40]).problem
    assert look(b"no picture").problem
    assert camera.picture_size(jpeg(kind=kind)) == (64, 48)


def test_the_header_of_a_bomb_is_enough() -> None:
    data = bytearray(jpeg(kind=".png"))
    data[16:24] = (2**15).to_bytes(4, "big") * 2
    assert "pixels" in look_at_compressed(SimpleNamespace(data=bytes(data)), decode=True).problem


@given(st.binary(max_size=300))
def test_no_bytes_break_a_look(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"):
        for tail in (b"", b"\xff\xd9", b"IEND"):
            look_at_compressed(SimpleNamespace(data=head + data + tail), decode=True)


def test_a_frame_is_fresh_by_its_arrival_and_a_stamp_must_advance() -> None:
    state = camera.seen(CameraState(), others(1)[0], 5, NOW, None, CameraSettings())
    assert camera.not_fresh(state, NOW + 500 * MS, CameraSettings()) == ""
    assert "0.51 s" in camera.not_fresh(state, NOW + 510 * MS, CameraSettings())
    again = camera.seen(state, others(1)[0], 5, NOW + 400 * MS, None, CameraSettings())
    assert again == state
    assert camera.not_fresh(CameraState(), NOW, CameraSettings()) == "no camera image yet"


# -- odometry -----------------------------------------------------------------------------------


def heard(
    *poses: tuple[float, float, float], step_ms: int = 50, ahead_s: float = 0.0, frame: str = "odom"
) -> OdometryState:
    state = OdometryState()
    for index, (x, y, yaw) in enumerate(poses):
        now = NOW + index * step_ms * MS
        state = odometry.seen(
            state, (x, y, 0.0, yaw), now + round(ahead_s * NS), now, now, frame, OdometrySettings()
        )
    return state


@pytest.mark.parametrize(
    ("pose", "why"),
    [
        ((0.02, 0.0, 0.0), ""),
        ((0.0, 0.0, 0.05), ""),
        ((5.0, 0.0, 0.0), "jumped 5.00 m"),
        ((0.0, -0.3, 0.0), "jumped 0.30 m"),
        ((0.0, 0.0, math.pi), "jumped 3.14 rad"),
        ((0.0, 0.0, 2 * math.pi), ""),
        ((math.nan, 0.0, 0.0), "no place"),
        ((0.0, 1e300, 0.0), "no place"),
        ((0.0, 0.0, math.inf), "no place"),
    ],
)
def test_odometry_that_cannot_be_believed(pose: tuple[float, float, float], why: str) -> None:
    state = heard((0.0, 0.0, 0.0), pose)
    assert why in state.problem and bool(why) == bool(state.problem)
    assert state.num_jumps == ("jumped" in why)
    assert (state.planar == (0.0, 0.0, 0.0)) == ("place" in why)


@given(
    st.floats(-0.5, 0.5), st.floats(-1.0, 1.0), st.integers(5, 200), st.floats(-math.pi, math.pi)
)
def test_motion_within_the_limits_is_never_a_jump(
    speed: float, turn: float, step_ms: int, yaw: float
) -> None:
    step = step_ms / 1000
    poses = [(math.cos(yaw) * speed * step * n, math.sin(yaw) * speed * step * n,
              yaw + turn * step * n) for n in range(6)]  # fmt: skip
    state = heard(*poses, step_ms=step_ms)
    assert state.num_jumps == state.num_refused == 0


def test_stamps_ahead_of_the_clock_are_refused_and_do_not_count_as_fresh() -> None:
    state = heard((0.0, 0.0, 0.0), ahead_s=10.0)
    assert "10.00 s ahead" in state.problem and state.pose is None
    assert odometry.not_fresh(state, NOW, NOW, OdometrySettings()).startswith("no odometry at all")


def test_odometry_is_fresh_by_arrival_and_by_stamp() -> None:
    state = heard((0.0, 0.0, 0.0))
    for arrived, stamped, fresh in ((0.4, 0.4, True), (0.6, 0.1, False), (0.1, 0.6, False)):
        now, ros_now = NOW + round(arrived * NS), NOW + round(stamped * NS)
        assert (odometry.not_fresh(state, now, ros_now, OdometrySettings()) == "") is fresh


def test_another_frame_and_another_time_are_jumps() -> None:
    state = heard((0.0, 0.0, 0.0))
    pose = (0.0, 0.0, 0.0, 0.0)
    other = odometry.seen(state, pose, NOW + 1, NOW, NOW, "map", OdometrySettings())
    assert "from odom to map" in other.problem
    back = odometry.seen(state, pose, NOW - NS, NOW, NOW, "odom", OdometrySettings())
    assert "jumped back by 1.00 s" in back.problem and back.num_jumps == 1
    late = odometry.seen(state, pose, NOW - MS, NOW, NOW, "odom", OdometrySettings())
    assert late == state


def told(twist: tuple[float, float, float], seconds: float) -> list[tuple[int, Any]]:
    return [(NOW + n * 50 * MS, twist) for n in range(round(20 * seconds))]


@pytest.mark.parametrize(
    ("twist", "moves", "why"),
    [
        ((0.5, 0.0, 0.0), (0.5, 0.0, 0.0), ""),
        ((0.5, 0.0, 0.0), (0.1, 0.0, 0.0), ""),
        ((0.5, 0.0, 0.0), (0.0, 0.0, 0.0), "0.20 m in 0.40 s, moved 0.00 m"),
        ((0.5, 0.0, 0.0), (-0.5, 0.0, 0.0), "moved 0.20 m"),
        ((0.0, 0.3, 0.0), (0.3, 0.0, 0.0), "commanded but not moving"),
        ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), "0.40 rad"),
        ((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), "0.40 rad"),
        ((0.01, 0.0, 0.0), (0.0, 0.0, 0.0), ""),
    ],
)
def test_what_is_commanded_is_compared_with_what_moves(
    twist: tuple[float, float, float], moves: tuple[float, float, float], why: str
) -> None:
    poses = [tuple(0.05 * n * v for v in moves) for n in range(10)]
    found = odometry.not_as_commanded(heard(*poses), told(twist, 0.5), 0.4)  # type: ignore[arg-type]
    assert why in found and bool(why) == bool(found)


def test_nothing_is_said_before_the_robot_had_the_time_to_move() -> None:
    poses = [(0.0, 0.0, 0.0)] * 7
    assert odometry.not_as_commanded(heard(*poses), told((0.5, 0.0, 0.0), 0.3), 0.4) == ""


# -- clocks and plans ---------------------------------------------------------------------------


def ticks(*moments: tuple[float, float]) -> ClockState:
    clock = ClockState()
    for steady, ros in moments:
        clock = checks.look_at_clock(clock, NOW + round(steady * NS), round(ros * NS),
                                     SafetySettings())  # fmt: skip
    return clock


@pytest.mark.parametrize(
    ("moments", "why", "pauses"),
    [
        ([(0.0, 5.0), (0.05, 5.05), (0.1, 5.1)], "", 0),
        ([(0.0, 5.0)] + [(0.05 * n, 5.0) for n in range(1, 8)], "stands still", 0),
        ([(0.0, 5.0), (0.05, 0.0)], "use_sim_time", 0),
        ([(0.0, 5.0), (0.05, 3.0)], "jumped back", 0),
        ([(0.0, 5.0), (0.05, 4.9)], "", 0),
        ([(0.0, 5.0), (2.0, 7.0)], "stood still for 2.00 s", 1),
        ([(0.0, 5.0), (2.0, 7.0), (2.05, 7.05)], "", 1),
    ],
)
def test_clocks(moments: list[tuple[float, float]], why: str, pauses: int) -> None:
    clock = ticks(*moments)
    assert why in clock.problem and bool(why) == bool(clock.problem)
    assert clock.num_pauses == pauses


PATH = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.5]])
ORIGIN = PlanOrigin((0.0, 0.0, 0.0), NOW, 0.1, 0, 0, 0)


def facts(pose: tuple[float, float, float] = (0.0, 0.0, 0.0), **changes: Any) -> Facts:
    seen = camera.seen(CameraState(), others(1)[0], NOW, NOW, pose, CameraSettings())
    known = {"camera": seen, "odometry": heard(pose), "clock": ticks((0.0, NOW / NS))}
    return Facts(SafetySettings(), NOW, NOW, **(known | changes))


@pytest.mark.parametrize(
    ("pose", "valid"),
    [
        ((0.0, 0.0, 0.0), True),
        ((0.15, 0.1, 0.1), True),
        ((0.9, 0.0, 0.4), True),
        ((-0.3, 0.0, 0.0), False),
        ((0.0, 0.0, 0.3), False),
        ((0.5, 0.3, 0.0), False),
        ((5.0, 0.0, 0.0), False),
    ],
)
def test_a_plan_is_valid_where_it_leads_along(
    pose: tuple[float, float, float], valid: bool
) -> None:
    assert (checks.plan_not_valid(ORIGIN, PATH, facts(pose)) == "") is valid


@given(st.floats(0.0, 1.0), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_a_robot_on_the_way_starts_from_there(share: float, aside: float, turn: float) -> None:
    pose = (0.5 * share, aside, turn)
    steps, metres, radians = checks.nearest_on(PATH, pose, SafetySettings())
    assert steps == pytest.approx(share, abs=0.35)
    assert metres <= 0.2 and radians <= 0.2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_stops": 1}, "told to stop"),
        ({"clock": replace(ticks((0.0, 1.0)), num_pauses=1)}, "stood still"),
        ({"odometry": replace(heard((0.0, 0.0, 0.0)), num_jumps=1)}, "jumped"),
        ({"now_ns": NOW + 20 * NS}, "max_plan_age is 15 s"),
        ({"now_ns": NOW + 2 * NS}, "no camera frame within 1 s"),
        ({"camera": CameraState()}, "no camera frame"),
        ({"odometry": OdometryState()}, "no odometry"),
    ],
)
def test_plans_of_another_time_or_place(changes: dict[str, Any], why: str) -> None:
    assert why in checks.plan_not_valid(ORIGIN, PATH, replace(facts(), **changes))


def test_a_check_that_raises_an_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Facts) -> str:
        raise ZeroDivisionError("oh")

    assert not any(checks.results(facts()).values())
    monkeypatch.setitem(checks.CHECKS, "camera fresh", broken)
    assert checks.results(facts())["camera fresh"] == "the check failed: ZeroDivisionError: oh"


def test_the_settings_are_the_parameters() -> None:
    values = {parameter.name: parameter.default for parameter in PLANNER}
    found = checks.settings_from(values)
    expected = SafetySettings(
        camera=CameraSettings(timeout_s=0.45), odometry=OdometrySettings(timeout_s=0.45)
    )
    assert found == expected


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 0.1)), max_size=30))
def test_three_pictures_that_are_the_same_always_stop_a_robot_that_moves(
    pictures: list[tuple[int, float]],
) -> None:
    looks = [Look(number, "a", "", 100.0, 50.0) for number, _ in pictures]
    frozen = watched(looks)
    last = [look.digest for look in looks[-3:]]
    if len(last) == 3 and len(set(last)) == 1:
        assert "frozen" in frozen
    if len({look.digest for look in looks}) == len(looks):
        assert frozen == ""


def test_a_camera_that_repeats_a_few_pictures_is_frozen() -> None:
    loop = others(4)
    assert "frozen" in watched([*others(5), *loop, *loop])
    twice = [look for look in others(10) for _ in range(2)]
    assert watched(twice) == "", "a camera of half the rate"
