"""Clocks of bags: stamps that were not set, run backwards, or come from two computers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, BagMaker, picture, pose_at
from convert_toys import converted, fails
from test_bag_motion import codes, right
from test_convert import shown

from v2w_core.data.sources.bag import scan_bag

MS = 1_000_000


def cameras(maker: BagMaker, count: int, stamp_of: object, delay_ns: int = 20 * MS) -> BagMaker:
    for number in range(count):
        stamp = stamp_of(number)  # type: ignore[operator]
        receive = START_NS + number * 50 * MS + delay_ns
        maker.image(stamp, number, delay_ns=receive - stamp)
    return maker


def test_a_camera_whose_clock_is_behind(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(9.0, camera=None)
    cameras(maker, 100, lambda n: START_NS + n * 50 * MS - 2_500 * MS)
    bag = maker.close()
    (episode,) = converted(bag, tmp_path / "out")
    assert "camera_clock" in codes(episode)
    for number, options in enumerate((("--camera-offset-s", "2.5"), ("--stamps", "receive"))):
        (episode,) = converted(bag, tmp_path / f"right{number}", *options)
        assert right(episode)
        exact = [pose_at(n * 0.25) for n in range(len(episode))]
        assert np.abs(episode.poses[:, [0, 1, 3]] - exact).max() < 0.03


def test_a_camera_whose_clock_drifts(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(10.0, camera=None)
    cameras(maker, 200, lambda n: START_NS + n * 49 * MS)
    assert "clock_drift" in {notice.code for notice in scan_bag(maker.close()).notices}


def test_clocks_without_common_time_name_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    bag = cameras(maker, 60, lambda n: 10**9 + n * 50 * MS).close()
    message = fails(capsys, bag, tmp_path / "out")
    assert "--camera-offset-s" in message and "--stamps receive" in message
    (episode,) = converted(bag, tmp_path / "out", "--stamps", "receive")
    assert right(episode)


def test_a_few_stamps_that_were_not_set(tmp_path: Path) -> None:
    odd = {0: 0, 1: 0, 30: 0, 40: START_NS + 10**15}
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    bag = cameras(maker, 60, lambda n: odd.get(n, START_NS + n * 50 * MS)).close()
    options = ("--rate-hz", "20", "--start-s", "0.5", "--end-s", "1.0")
    (episode,) = converted(bag, tmp_path / "out", *options)
    assert [shown(frame) for frame in episode.frames()] == list(range(12, 22))
    assert codes(episode) == {"stamps_odd"}


def test_images_a_little_out_of_order_are_sorted(tmp_path: Path) -> None:
    order = [*range(10), 11, 10, *range(12, 30), 32, 30, 31, *range(33, 60)]
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for place, number in enumerate(order):
        late = (place - number) * 50 * MS + 20 * MS
        maker.image(START_NS + number * 50 * MS, number, delay_ns=late)
    (episode,) = converted(maker.close(), tmp_path / "out", "--rate-hz", "20")
    assert [shown(frame) for frame in episode.frames()] == list(range(60))
    assert codes(episode) == {"disorder"}


@pytest.mark.parametrize("back_s", [1.0, 60.0])
def test_a_clock_that_is_set_back_splits(tmp_path: Path, back_s: float) -> None:
    """A simulation that was reset: camera and odometry begin again, at slightly other moments."""
    maker = BagMaker(tmp_path / "drive")
    begin = START_NS + 100 * 10**9
    for half in range(2):
        for n in range(60):
            receive = begin + half * 3 * 10**9 + n * 50 * MS + 20 * MS
            stamp = begin + n * 50 * MS + (0 if half == 0 else round((3 - back_s) * 1e9))
            maker.image(stamp, n, delay_ns=receive - stamp)
        for n in range(160):
            receive = begin + half * 3 * 10**9 + n * 20 * MS + MS
            stamp = begin + n * 20 * MS + (0 if half == 0 else round((3 - back_s) * 1e9))
            if n < 150:
                maker.odometry(stamp, pose_at(n * 0.02), delay_ns=receive - stamp)
    bag = maker.close()
    episodes = converted(bag, tmp_path / "out")
    assert len(episodes) == 2
    assert all(right(episode) for episode in episodes)
    assert all("clock_set_back" in codes(episode) for episode in episodes)
    (second,) = converted(bag, tmp_path / "second", "--start-s", "3.0")
    assert len(second) == len(episodes[1])
    (first,) = converted(bag, tmp_path / "first", "--end-s", "2.8")
    assert "clock_set_back" in codes(first) and right(first)


def test_a_rate_that_the_camera_does_not_have_is_told(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(6.0, image_hz=10.0).close()
    (notice,) = scan_bag(bag).notices
    assert notice.code == "uneven_steps"
    assert "3.33, 5, 2.5" in notice.remedy
    assert scan_bag(bag, rate_hz=5.0).notices == ()
    bag = BagMaker(tmp_path / "fast").drive(6.0, image_hz=30.0).close()
    assert scan_bag(bag).notices == ()


def test_start_and_end_act_before_the_checks(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(6.0, odom=None)
    for number in range(-2, 310):
        at, turn = number / 50, (0.0, 0.0, 0.4, 0.4)
        stamp = START_NS + round(at * 1e9)
        maker.odometry(stamp, pose_at(at), quaternion=turn if at < 2 else None)
    bag = maker.close()
    (episode,) = converted(bag, tmp_path / "out", "--start-s", "3.1")
    assert right(episode)


def test_images_and_poses_one_after_the_other_in_the_file(tmp_path: Path) -> None:
    """Converters write topic by topic, all with one receive stamp."""
    maker = BagMaker(tmp_path / "drive").drive(3.0)
    rows = sorted(maker.pending, key=lambda item: item[1])
    maker.pending = [(START_NS, topic, raw) for _, topic, raw in rows]
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert right(episode) and codes(episode) == set()
    assert picture(0).shape == episode.frames(0, 1)[0].shape


def test_stamps_of_whole_seconds_are_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    bag = cameras(maker, 60, lambda n: START_NS + n // 20 * 10**9, delay_ns=MS).close()
    assert "--stamps receive" in fails(capsys, bag, tmp_path / "out")
    (episode,) = converted(bag, tmp_path / "out", "--stamps", "receive")
    assert right(episode)


def test_a_drift_of_one_percent_is_told(tmp_path: Path) -> None:
    """Long before it is as large as an offset that would be told."""
    maker = BagMaker(tmp_path / "drive").drive(8.0, camera=None)
    bag = cameras(maker, 160, lambda n: START_NS + round(n * 49.5 * MS)).close()
    notices = {notice.code: notice for notice in scan_bag(bag).notices}
    assert set(notices) == {"clock_drift"}
    assert notices["clock_drift"].numbers["drift_s"] == pytest.approx(0.06, abs=0.02)


def test_images_that_are_late_by_chance_do_not_drift(tmp_path: Path) -> None:
    """A radio link holds images back for a moment now and then."""
    maker, rng = BagMaker(tmp_path / "drive").drive(8.0, camera=None), np.random.default_rng(0)
    for number in range(160):
        late = 20 * MS + round(rng.exponential(60) * MS)
        maker.image(START_NS + number * 50 * MS, number, delay_ns=late)
    assert {notice.code for notice in scan_bag(maker.close()).notices} <= {"disorder"}


def test_a_camera_that_is_behind_by_less_than_half_a_second(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(6.0, camera=None)
    bag = cameras(maker, 100, lambda n: START_NS + n * 50 * MS - 350 * MS).close()
    (notice,) = scan_bag(bag).notices
    assert notice.code == "camera_clock" and "--camera-offset-s 0.36" in notice.remedy


def test_clocks_of_different_epochs_are_refused_with_the_number_that_mends_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The camera counts from when it was switched on."""
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    bag = cameras(maker, 60, lambda n: 77 * 10**9 + n * 50 * MS).close()
    message = fails(capsys, bag, tmp_path / "out")
    offset = re.search(r"--camera-offset-s (\d+\.\d+) mends", message)
    assert offset is not None and len(message.splitlines()) <= 10
    (episode,) = converted(bag, tmp_path / "out", "--camera-offset-s", offset[1])
    assert right(episode)


@pytest.mark.parametrize("stamps", ["auto", "receive"])
def test_an_odometry_without_stamps(tmp_path: Path, stamps: str) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, odom=None)
    for number in range(-2, 160):
        at = START_NS + number * 20 * MS
        maker.odometry(0, pose_at(number * 0.02), delay_ns=at + MS)
    (episode,) = converted(maker.close(), tmp_path / "out", "--stamps", stamps)
    assert right(episode)
    assert codes(episode) == ({"stamps_unset"} if stamps == "auto" else set())


def test_a_clock_that_is_set_forward_is_a_gap(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive")
    for number in range(100):
        stamp = START_NS + number * 50 * MS + (7 * 10**9 if number >= 50 else 0)
        maker.image(stamp, number, delay_ns=START_NS + number * 50 * MS + MS - stamp)
    for number in range(-2, 255):
        stamp = START_NS + number * 20 * MS + (7 * 10**9 if number >= 125 else 0)
        receive = START_NS + number * 20 * MS + MS
        maker.odometry(stamp, pose_at(number * 0.02), delay_ns=receive - stamp)
    episodes = converted(maker.close(), tmp_path / "out")
    assert len(episodes) == 2 and all(right(episode) for episode in episodes)
