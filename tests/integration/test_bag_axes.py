"""Poses of bags in axes, units and places that are not a robot's: told with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from bagmaker import START_NS, VELOCITY, BagMaker, pose_at
from convert_toys import converted
from test_bag_motion import Pose, codes, drive, right

from v2w_core.data.bags.rotations import interpolate, multiply, rotate
from v2w_core.data.notices import Notice
from v2w_core.data.sources.bag import scan_bag

HALF_ABOUT_X = (1.0, 0.0, 0.0, 0.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)


def turn(yaw: float) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2))


def after(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[float, ...]:
    (row,) = multiply(np.array([first]), np.array([second])).tolist()
    return tuple(row)


def told(bag: Path, **options: object) -> dict[str, Notice]:
    return {notice.code: notice for notice in scan_bag(bag, **options).notices}


@pytest.mark.parametrize(
    ("name", "placed", "turned", "options"),
    [
        # A world of north, east, down with a body of forward, left, up, and the other way round.
        ("upside_down", lambda p: (p[0], -p[1]), lambda y: after(HALF_ABOUT_X, turn(y)),
         ("--axes", "ned")),
        ("upside_down", lambda p: p[:2], lambda y: after(turn(y), HALF_ABOUT_X), ()),
        # The frame of a camera as the body's, and quaternions that begin with w.
        ("sideways", lambda p: p[:2], lambda y: after(turn(y), OPTICAL), ("--yaw-offset", "90")),
        ("heading_constant", lambda p: p[:2], lambda y: (turn(y)[3], *turn(y)[:3]), None),
    ],
)  # fmt: skip
def test_a_body_that_does_not_stand_upright(
    tmp_path: Path,
    name: str,
    placed: Callable[[Pose], tuple[float, float]],
    turned: Callable[[float], tuple[float, float, float, float]],
    options: tuple[str, ...] | None,
) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        maker.odometry(stamp, (*placed(pose), 0.0), quaternion=turned(pose[2]))

    bag = drive(tmp_path, add)
    found = told(bag)
    assert name in found and ("tilted" in found or "upside_down" in found)
    if options is not None:
        (episode,) = converted(bag, tmp_path / "out", *options)
        assert right(episode)


def test_frames_that_are_called_frd(tmp_path: Path) -> None:
    bag = drive(
        tmp_path, lambda m, t, p: m.odometry(t, (p[0], -p[1], -p[2]), child="base_link_frd")
    )
    assert "--axes ned" in told(bag)["ned_frame"].remedy
    (episode,) = converted(bag, tmp_path / "out", "--axes", "ned")
    assert right(episode)


def scenery(yaw: float) -> np.ndarray:
    """What a camera sees that looks around in a landscape, RGB [48, 96, 3]."""
    rng = np.random.default_rng(3)
    strip = cv2.resize(rng.integers(0, 255, (12, 200, 3), np.uint8), (1600, 96))
    at = int((-yaw % (2 * np.pi)) * 1600 / (2 * np.pi))
    return cv2.resize(np.concatenate([strip, strip], 1)[:, at : at + 400], (96, 48))


@pytest.mark.parametrize("encoding", ["rgb8", "jpeg"])
def test_mirrored_poses_that_agree_with_themselves(tmp_path: Path, encoding: str) -> None:
    """North-east-down without a name that says so: only the pictures know."""
    for mirrored in (1, -1):
        maker, x, y = BagMaker(tmp_path / f"drive{mirrored}"), 0.0, 0.0
        for number in range(-2, 410):
            yaw = 0.6 * np.sin(0.02 * number)
            x, y = x + 0.01 * np.cos(yaw), y + 0.01 * np.sin(yaw)
            stamp = START_NS + number * 20_000_000
            maker.odometry(stamp, (x, mirrored * y, mirrored * yaw))
        for number in range(160):
            seen = scenery(0.6 * np.sin(0.05 * number))
            maker.image(START_NS + number * 50_000_000, encoding=encoding, data=seen)
        bag = maker.close()
        found = told(bag)
        assert set(found) == (set() if mirrored == 1 else {"mirrored"})
        assert set(told(bag, axes="ned")) == (set() if mirrored == -1 else {"mirrored"})
    assert "pictures turn against" in found["mirrored"].text


def test_coordinates_of_a_map(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (p[0] + 5e5, p[1] + 5.4e6, p[2])))
    (episode,) = converted(bag, tmp_path / "out")
    assert right(episode) and codes(episode) == {"map_origin"}
    exact = [pose_at(n * 0.25) for n in range(len(episode))]
    assert np.abs(episode.poses[:, [0, 1, 3]] - exact).max() < 1.0


def test_a_speed_that_no_robot_has(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (1000 * p[0], 1000 * p[1], p[2])))
    assert "millimetres" in told(bag)["speed"].remedy


def test_turns_in_degrees(tmp_path: Path) -> None:
    speed = (VELOCITY[0], VELOCITY[1], float(np.degrees(VELOCITY[2])))
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, p, speed=speed))
    assert "degrees for radians" in told(bag)["scale"].text


def test_a_velocity_that_was_never_set_says_nothing(tmp_path: Path) -> None:
    assert told(drive(tmp_path, lambda m, t, p: m.odometry(t, p))) == {}


def test_poses_slower_than_the_images(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(6.0, odom_hz=2.0).close()
    assert "--rate-hz 2" in told(bag)["slow_odometry"].remedy
    assert "slow_odometry" not in told(bag, rate_hz=2.0)


def test_rotations() -> None:
    """By hand: a quarter turn to the left, then half a turn about the new x axis."""
    quarter, half = np.array([turn(np.pi / 2)]), np.array([HALF_ABOUT_X])
    both = multiply(quarter, half)
    east, up = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 1.0]])
    assert rotate(both, east)[0] == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)
    assert rotate(both, up)[0] == pytest.approx([0.0, 0.0, -1.0], abs=1e-12)
    times = np.array([0, 10], np.int64)
    ends = np.concatenate([quarter, -np.array([turn(np.pi / 2 + 0.1)])])  # the other sign
    middle = interpolate(times, ends, np.array([5, 20], np.int64))
    assert np.abs(middle[0]) == pytest.approx(np.abs(turn(np.pi / 2 + 0.05)), abs=1e-6)
    assert np.abs(middle[1]) == pytest.approx(np.abs(ends[1]), abs=1e-9)
