"""What a recording mixes up: two that publish on one topic, copies of files, velocities in the
wrong axes, silences that are bridged. Told, or left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from bagmaker import START_NS, VELOCITY, BagMaker, picture
from convert_toys import converted, fails
from test_bag_axes import told
from test_bag_files import made, whole
from test_bag_motion import Pose, codes, drive, right

from v2w_core.data.bags.files import find_bags


@pytest.mark.parametrize(("apart", "every"), [(3.0, 1), (0.2, 1), (3.0, 5)])
def test_two_that_publish_odometry_on_one_topic(tmp_path: Path, apart: float, every: int) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        maker.odometry(stamp, pose)
        if stamp // 20_000_000 % every == 0:
            maker.odometry(stamp + 7_000_000, (pose[0] + apart, pose[1] - apart, pose[2]))

    assert "own" in told(drive(tmp_path, add))["two_sources"].remedy


@pytest.mark.parametrize("noise_m", [0.01, 0.05])
def test_a_localisation_with_noise_is_one(tmp_path: Path, noise_m: float) -> None:
    rng = np.random.default_rng(0)

    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        x, y = np.array(pose[:2]) + rng.normal(0, noise_m, 2)
        maker.odometry(stamp, (x, y, pose[2]))

    assert "two_sources" not in told(drive(tmp_path, add, 6.0))


def test_two_cameras_on_one_topic(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    header = maker._header
    for number in range(60):
        for name in ("left", "right"):
            maker._header = lambda stamp, _, name=name: header(stamp, name)  # type: ignore[method-assign]
            late = 10_000_000 * (name == "right")
            maker.image(START_NS + number * 50_000_000 + late, number)
    assert "60 of 120 messages" in told(maker.close())["two_sources"].text


def test_one_pose_far_from_its_neighbours_is_no_motion(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        far = 5.0 if stamp == START_NS + 1_500_000_000 else 0.0
        maker.odometry(stamp, (pose[0] + far, pose[1], pose[2]))

    episodes = converted(drive(tmp_path, add), tmp_path / "out")
    assert sum(map(len, episodes)) >= 11 and all(right(episode) for episode in episodes)
    assert all(codes(episode) == {"jump"} for episode in episodes)


def test_velocities_in_the_axes_of_the_map(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        sin, cos = np.sin(pose[2]), np.cos(pose[2])
        forward, left, turning = VELOCITY
        maker.odometry(
            stamp, pose, speed=(cos * forward - sin * left, sin * forward + cos * left, turning)
        )

    bag = drive(tmp_path, add, 6.0)
    assert told(bag) == {}
    assert "--motion-from pose" in told(bag, motion_from="twist")["twist_frame"].remedy
    good = drive(tmp_path / "good", lambda m, t, p: m.odometry(t, p, speed=tuple(VELOCITY)), 6.0)
    assert told(good, motion_from="twist") == {}


def test_a_silence_that_is_bridged_is_told(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(5.0, odom_gap=(2.0, 2.8)).close()
    assert told(bag)["pose_gaps"].numbers == {"times": 1, "longest_s": 0.82}


def test_stamps_that_are_no_time_are_unset(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        stamp = 2_147_483_000 * 10**9
        receive = START_NS + number * 50_000_000
        maker.image(stamp, number, delay_ns=receive - stamp)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert right(episode) and codes(episode) == {"stamps_unset"}


def test_copies_beside_their_originals_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ros1 = made(tmp_path / "a", "ros1")
    shutil.copy(ros1, ros1.with_name("drive.orig.bag"))  # as rosbag reindex leaves it
    assert len(find_bags(tmp_path / "a")) == 1
    mcap = made(tmp_path / "b", "mcap", "drive")
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(mcap, flat / "drive.mcap")
    (flat / "drive.mcap.zstd").write_bytes(zstd.compress(mcap.read_bytes()))
    assert whole(flat, tmp_path / "out")


def test_files_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made(tmp_path, "mcap")
    file.unlink()
    message = fails(capsys, file.parent, tmp_path / "out")
    assert f"1 of 1 files of drive are missing: {file.name}" in message
    pointer = tmp_path / "other.mcap"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    assert "git lfs pull" in fails(capsys, pointer, tmp_path / "out")


def test_bags_with_pictures_of_two_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drives = tmp_path / "drives"
    made(drives, "mcap", "small")
    maker = BagMaker(drives / "large").drive(2.0, camera=None)
    for number in range(40):
        large = np.repeat(np.repeat(picture(number), 2, 0), 2, 1)
        maker.image(START_NS + number * 50_000_000, data=large)
    maker.close()
    converted(drives, tmp_path / "out")
    assert "2 sizes: 32x48, 64x96: --image-size" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0x0", "100000x100000", "4x"])
def test_sizes_that_are_none(tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    bag = BagMaker(tmp_path / "drive").drive(1.0).close()
    assert "image-size" in fails(capsys, bag, tmp_path / "out", "--image-size", size)
