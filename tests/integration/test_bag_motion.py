"""Motion of bags: what cannot be a robot's way is told, repaired by options, or read elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, VELOCITY, BagMaker, pose_at
from convert_toys import converted, fails

from v2w_core.cli import main
from v2w_core.data.episode import Episode
from v2w_core.data.notices import notices_from
from v2w_core.geometry import relative_motion

STEP = relative_motion(pose_at(0.0), pose_at(0.25))
Pose = tuple[float, float, float]


def drive(
    tmp_path: Path, add: Callable[[BagMaker, int, Pose], None], seconds: float = 3.0, hz: int = 50
) -> Path:
    """A camera, and for each time of the odometry what ``add`` adds to the bag."""
    maker = BagMaker(tmp_path / "drive").drive(seconds, odom=None)
    for number in range(-2, round((seconds + 0.2) * hz)):
        at = number / hz
        add(maker, START_NS + round(at * 1e9), pose_at(at))
    return maker.close()


def codes(episode: Episode) -> set[str]:
    return {notice.code for notice in notices_from(episode.attributes)}


def right(episode: Episode) -> bool:
    return bool(np.abs(episode.actions - STEP).max() < 5e-3)


def test_a_good_drive_has_no_warnings(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(6.0).close()
    (episode,) = converted(bag, tmp_path / "out")
    assert codes(episode) == set()
    assert episode.attributes["step_s"] == [0.25, 0.25]


@pytest.mark.parametrize("degrees", [90.0, -60.0, 180.0])
def test_a_heading_that_is_off_is_told_with_the_option_that_turns_it(
    tmp_path: Path, degrees: float, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = drive(
        tmp_path,
        lambda m, t, p: m.odometry(t, (p[0], p[1], p[2] - np.radians(degrees))),
    )
    (episode,) = converted(bag, tmp_path / "out")
    told = "backwards" if degrees == 180 else "sideways"
    assert told in codes(episode)
    assert told in capsys.readouterr().err
    assert main(["data", "info", str(tmp_path / "out")]) == 0
    assert "--yaw-offset" in capsys.readouterr().out
    (episode,) = converted(bag, tmp_path / "right", "--yaw-offset", str(degrees))
    assert right(episode)
    assert codes(episode) == set()


def test_poses_in_camera_axes(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        x, y, yaw = pose
        turn = (0.0, -float(np.sin(yaw / 2)), 0.0, float(np.cos(yaw / 2)))
        maker.odometry(stamp, (-y, 0.0, 0.0), z=float(x), quaternion=turn)

    bag = drive(tmp_path, add)
    (episode,) = converted(bag, tmp_path / "out")
    assert "vertical" in codes(episode)
    (episode,) = converted(bag, tmp_path / "right", "--axes", "camera")
    assert right(episode)


def test_turns_that_are_mirrored(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (p[0], p[1], -p[2])))
    (episode,) = converted(bag, tmp_path / "out")
    assert "mirrored" in codes(episode)


def test_poses_in_a_ned_frame(tmp_path: Path) -> None:
    bag = drive(
        tmp_path, lambda m, t, p: m.odometry(t, (p[0], -p[1], -p[2]), frame="odom_ned", z=-0.25)
    )
    (episode,) = converted(bag, tmp_path / "out")
    assert "ned_frame" in codes(episode)
    (episode,) = converted(bag, tmp_path / "right", "--axes", "ned")
    assert right(episode)


def test_a_heading_that_was_never_set(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (p[0], p[1], 0.0)), 4.0)
    (episode,) = converted(bag, tmp_path / "out")
    assert "heading_constant" in codes(episode)


def test_a_pose_that_was_never_set(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (0, 0, 0), speed=tuple(VELOCITY)))
    (episode,) = converted(bag, tmp_path / "out")
    assert "pose_constant" in codes(episode)
    (episode,) = converted(bag, tmp_path / "right", "--motion-from", "twist")
    assert right(episode)


def test_a_robot_that_stands_still_is_told(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (1.0, 2.0, 0.3)))
    (episode,) = converted(bag, tmp_path / "out")
    assert codes(episode) == {"stands_still"}


def test_poses_in_millimetres(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        x, y, yaw = pose
        maker.odometry(stamp, (1000 * x, 1000 * y, yaw), speed=tuple(VELOCITY))

    (episode,) = converted(drive(tmp_path, add), tmp_path / "out")
    assert "scale" in codes(episode)


def test_a_localisation_that_corrects_itself_splits_the_episode(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        late = stamp > START_NS + 2.6e9
        maker.odometry(stamp, (pose[0] + (0.3 if late else 0.0), pose[1], pose[2]))

    episodes = converted(drive(tmp_path, add, 5.0), tmp_path / "out")
    assert len(episodes) == 2 and all(right(episode) for episode in episodes)
    assert all(codes(episode) == {"jump"} for episode in episodes)


@pytest.mark.parametrize("restarts_at", [1.6, 2.02])
def test_an_odometry_that_restarts_splits_the_episode(tmp_path: Path, restarts_at: float) -> None:
    def add(maker: BagMaker, stamp: int, _: Pose) -> None:
        at = (stamp - START_NS) * 1e-9
        maker.odometry(stamp, pose_at(at if at < restarts_at else at - restarts_at))

    episodes = converted(drive(tmp_path, add, 5.0), tmp_path / "out")
    assert len(episodes) == 2
    assert all(right(episode) for episode in episodes)
    assert all(codes(episode) == {"restart"} for episode in episodes)
    assert episodes[0].action_spec.high[0] < 0.3  # the jump is in no bound either
    bridged = converted(tmp_path / "drive", tmp_path / "bridged", "--max-gap-s", "9")
    assert len(bridged) == 2


def test_bad_first_poses_are_left_out(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        if stamp < START_NS:
            maker.odometry(stamp, (np.nan, 0.0, 0.0))
        elif stamp == START_NS:
            maker.odometry(stamp, pose, quaternion=(0.0, 0.0, 0.0, 0.0))
        else:
            maker.odometry(stamp, pose)

    (episode,) = converted(drive(tmp_path, add), tmp_path / "out")
    assert right(episode)
    assert codes(episode) == {"bad_poses"}
    assert len(episode) >= 11


def test_quaternions_that_are_no_rotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, p, quaternion=(0.0, 0.0, 0.4, 0.4)))
    assert "unit quaternions" in fails(capsys, bag, tmp_path / "out")


def test_slow_poses_are_blamed_on_the_poses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive").drive(12.0, odom_hz=0.5).close()
    message = fails(capsys, bag, tmp_path / "out")
    assert "/odom: poses" in message and "0.50 Hz" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--axes", "sideways"), "--axes: one of enu, ned, camera"),
        (("--motion-from", "hope"), "--motion-from: one of"),
        (("--yaw-offset", "1000"), "--yaw-offset: degrees"),
        (("--stamps", "none"), "--stamps: one of"),
        (("--tf-frames", "odom", "base_link"), "only with --motion-from tf"),
        (("--motion-from", "commands"), "no odometry topic"),
    ],
)
def test_options_that_are_wrong(
    tmp_path: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive").drive().close()
    assert said in fails(capsys, bag, tmp_path / "out", *options)


def test_warnings_are_in_the_summary(tmp_path: Path) -> None:
    bag = drive(tmp_path, lambda m, t, p: m.odometry(t, (0, 0, 0)))
    summary = tmp_path / "s.json"
    converted(bag, tmp_path / "out", "--json", str(summary))
    (warning,) = json.loads(summary.read_text())["warnings"]
    assert warning["code"] == "stands_still" and warning["remedy"]


def test_the_preview_shows_the_path(tmp_path: Path) -> None:
    import cv2

    sizes = []
    for name, add in {
        "drives": lambda m, t, p: m.odometry(t, p),
        "stands": lambda m, t, p: m.odometry(t, (0, 0, 0)),
    }.items():
        converted(drive(tmp_path / name, add), tmp_path / name / "out")
        out = ("--out", str(tmp_path / name / "p"))
        assert main(["data", "preview", str(tmp_path / name / "out"), *out]) == 0
        (sheet,) = (tmp_path / name / "p").glob("*.png")
        sizes.append(cv2.imread(str(sheet)).shape[0])
    assert sizes[0] - sizes[1] == 320  # the picture of the path is below the frames


def test_named_frames_are_found_by_way_of_a_third(tmp_path: Path) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        rows = [maker.transform(stamp, pose, "odom", "base_link")]
        if (stamp - START_NS) % 10**9 == 0:
            rows.append(maker.transform(stamp, (5.0, 1.0, 0.5), "map", "odom"))
        maker.bare("/tf", "tf2_msgs/msg/TFMessage", stamp + 10**6, transforms=rows)

    bag = drive(tmp_path, add)
    options = ("--motion-from", "tf", "--tf-frames", "map", "base_link")
    (episode,) = converted(bag, tmp_path / "out", *options)
    assert right(episode)
    assert episode.poses[0][[0, 1, 3]] == pytest.approx([5.0, 1.0, 0.5], abs=0.01)
