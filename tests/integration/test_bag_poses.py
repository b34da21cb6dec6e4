"""Motion of bags from where it is: poses, transforms, velocities, commands, positions of a GPS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, VELOCITY, BagMaker
from convert_toys import converted, fails
from test_bag_motion import STEP, Pose, codes, drive, right


def add_pose_stamped(maker: BagMaker, stamp: int, pose: Pose) -> None:
    maker.odometry(stamp, pose, topic="/motion", as_pose=True)


def add_transform(maker: BagMaker, stamp: int, pose: Pose) -> None:
    fields = {"child_frame_id": "base_link", "transform": maker.place(pose, transform=True)}
    maker.message("/motion", "geometry_msgs/msg/TransformStamped", stamp, **fields)


def add_covariance(maker: BagMaker, stamp: int, pose: Pose) -> None:
    body = maker.store.types["geometry_msgs/msg/PoseWithCovariance"](
        pose=maker.place(pose), covariance=np.zeros(36)
    )
    maker.message("/motion", "geometry_msgs/msg/PoseWithCovarianceStamped", stamp, pose=body)


def add_tf(maker: BagMaker, stamp: int, pose: Pose) -> None:
    rows = [
        maker.transform(stamp, (0.1, 0.0, 0.0), "base_link", "camera"),
        maker.transform(stamp, (0.01, 0.0, 0.0), "map", "odom"),
        maker.transform(stamp, pose, "odom", "base_link"),
    ]
    maker.bare("/motion", "tf2_msgs/msg/TFMessage", stamp + 10**6, transforms=rows)


def add_twist(maker: BagMaker, stamp: int, _: Pose) -> None:
    kind = "geometry_msgs/msg/TwistStamped"
    maker.message("/motion", kind, stamp, twist=maker.velocity(*VELOCITY))


def add_command(maker: BagMaker, stamp: int, _: Pose) -> None:
    twist = maker.velocity(*VELOCITY)
    fields = {"linear": twist.linear, "angular": twist.angular}
    maker.bare("/motion", "geometry_msgs/msg/Twist", stamp, **fields)


@pytest.mark.parametrize(
    "add", [add_pose_stamped, add_transform, add_covariance, add_tf, add_twist, add_command]
)
def test_poses_from_where_they_are(
    tmp_path: Path,
    add: Callable[[BagMaker, int, Pose], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bag = drive(tmp_path, add)
    message = fails(capsys, bag, tmp_path / "out")
    assert "no odometry topic" in message and "--odom-topic /motion" in message
    assert len(message.splitlines()) <= 10
    (episode,) = converted(bag, tmp_path / "out", "--odom-topic", "/motion")
    assert right(episode)


def test_commands_are_integrated_until_they_stop(tmp_path: Path) -> None:
    """A command holds until the next, but not for ever."""

    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        if stamp < START_NS + 4 * 10**9:
            add_command(maker, stamp, pose)

    bag = drive(tmp_path, add, 8.0, hz=10)
    (episode,) = converted(bag, tmp_path / "out", "--motion-from", "commands")
    assert right(episode) and 3.5 < episode.duration_s < 4.3


def test_every_topic_that_could_serve_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(1.0, odom=None)
    for number in range(60):
        maker.odometry(START_NS, (0, 0, 0), topic=f"/robot_{number:02}/pose", as_pose=True)
        maker.bare(f"/text_{number:02}", "std_msgs/msg/String", START_NS, data="")
    message = fails(capsys, maker.close(), tmp_path / "out")
    assert all(f"--odom-topic /robot_{number:02}/pose" in message for number in range(60))


def test_frames_of_transforms_are_named_where_they_cannot_be_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        rows = [
            maker.transform(stamp, pose, "ground", "cart"),
            maker.transform(stamp, (pose[1], pose[0], 0.0), "ground", "ball"),
        ]
        maker.bare("/tf", "tf2_msgs/msg/TFMessage", stamp + 10**6, transforms=rows)

    bag, tf = drive(tmp_path, add), ("--motion-from", "tf")
    assert "--tf-frames PARENT CHILD" in fails(capsys, bag, tmp_path / "out", *tf)
    (episode,) = converted(bag, tmp_path / "out", *tf, "--tf-frames", "ground", "cart")
    assert right(episode)
    wrong = ("--tf-frames", "ground", "cat")
    assert "ground -> cart" in fails(capsys, bag, tmp_path / "no", *tf, *wrong)


@pytest.mark.parametrize("with_imu", [True, False])
def test_gps_with_the_heading_of_an_imu(tmp_path: Path, with_imu: bool) -> None:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        types, zero = maker.store.types, np.zeros(9)
        status = types["sensor_msgs/msg/NavSatStatus"](status=0, service=1)
        across = 111_320.0 * np.cos(np.radians(48.0))
        maker.message(
            "/fix", "sensor_msgs/msg/NavSatFix", stamp, status=status,
            latitude=48.0 + pose[1] / 111_320.0, longitude=11.0 + pose[0] / across,
            altitude=500.0, position_covariance=zero, position_covariance_type=0,
        )  # fmt: skip
        if with_imu:
            vector = maker.velocity(0, 0, 0).linear
            maker.message(
                "/imu/data", "sensor_msgs/msg/Imu", stamp,
                orientation=maker.place(pose).orientation, orientation_covariance=zero,
                angular_velocity=vector, angular_velocity_covariance=zero,
                linear_acceleration=vector, linear_acceleration_covariance=zero,
            )  # fmt: skip

    bag = drive(tmp_path, add, 4.0, hz=10)
    (episode,) = converted(bag, tmp_path / "out", "--odom-topic", "/fix")
    assert "gps_fusion" in codes(episode)
    assert np.abs(episode.actions[3:] - STEP).max() < (0.03 if with_imu else 0.15)
