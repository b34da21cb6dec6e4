"""Transforms of bags: two frames with as many between them as there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, BagMaker, pose_at
from convert_toys import converted, fails
from test_bag_motion import Pose, codes, drive, right

KIND = "tf2_msgs/msg/TFMessage"
TF = ("--motion-from", "tf")
OFFSET: Pose = (0.3, -0.2, 0.4)


def joined(first: Pose, second: Pose) -> Pose:
    """The pose of the second in the frame of the first."""
    sin, cos = np.sin(first[2]), np.cos(first[2])
    x, y, yaw = second
    return first[0] + cos * x - sin * y, first[1] + sin * x + cos * y, first[2] + yaw


def inverse(pose: Pose) -> Pose:
    sin, cos = np.sin(pose[2]), np.cos(pose[2])
    return -cos * pose[0] - sin * pose[1], sin * pose[0] - cos * pose[1], -pose[2]


def transforms(
    edges: Callable[[int, Pose], list[tuple[str, str, Pose]]],
    static: list[tuple[str, str, Pose]] | None = None,
) -> Callable[[BagMaker, int, Pose], None]:
    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        if static and "/tf_static" not in maker.connections:
            rows = [maker.transform(0, place, *names) for *names, place in static]
            maker.bare("/tf_static", KIND, START_NS - 10**9, transforms=rows)
        rows = [maker.transform(stamp, place, *names) for *names, place in edges(stamp, pose)]
        maker.bare("/tf", KIND, stamp + 10**6, transforms=rows)

    return add


def every_second(stamp: int) -> bool:
    return (stamp - START_NS) % 10**9 == 0


def test_five_frames_between_two(tmp_path: Path) -> None:
    """Slow, static and inverted edges on the way; the motion is that of the body."""

    def edges(stamp: int, pose: Pose) -> list[tuple[str, str, Pose]]:
        found = [("odom", "base_footprint", pose)]
        if every_second(stamp):
            found.append(("odom", "map", inverse((5.0, 1.0, 0.5))))
        return found

    static = [("earth", "map", (100.0, 0.0, 1.0)), ("base_footprint", "base_link", (0.0, 0.0, 0.0))]
    bag = drive(tmp_path, transforms(edges, static))
    (episode,) = converted(bag, tmp_path / "out", *TF, "--tf-frames", "earth", "base_link")
    exact = joined(joined((100.0, 0.0, 1.0), (5.0, 1.0, 0.5)), pose_at(0.5))
    assert right(episode) and codes(episode) == set()
    assert episode.poses[2][[0, 1, 3]] == pytest.approx(exact, abs=5e-3)


def test_a_frame_that_is_mounted_turned_and_tilted(tmp_path: Path) -> None:
    """The camera's frame moves as the body does, seen from where the camera is."""

    def add(maker: BagMaker, stamp: int, pose: Pose) -> None:
        types = maker.store.types
        optical = maker.transform(stamp, OFFSET, "base_link", "camera")
        optical.transform.rotation = types["geometry_msgs/msg/Quaternion"](
            x=-0.5, y=0.5, z=-0.5, w=0.5
        )
        rows = [maker.transform(stamp, pose, "odom", "base_link"), optical]
        maker.bare("/tf", KIND, stamp + 10**6, transforms=rows)

    bag = drive(tmp_path, add)
    options = (*TF, "--tf-frames", "odom", "camera", "--yaw-offset", "90")
    (episode,) = converted(bag, tmp_path / "out", *options)
    exact = [joined(pose_at(n * 0.25), (OFFSET[0], OFFSET[1], 0.0)) for n in range(len(episode))]
    assert np.abs(episode.poses[:, [0, 1, 3]] - exact).max() < 5e-3
    assert "tilted" in codes(episode)


@pytest.mark.parametrize("named", [("--tf-frames", "odom", "base_link"), ()])
def test_a_tree_that_hangs_from_the_body(tmp_path: Path, named: tuple[str, ...]) -> None:
    bag = drive(tmp_path, transforms(lambda _, pose: [("base_link", "odom", inverse(pose))]))
    (episode,) = converted(bag, tmp_path / "out", *TF, *named)
    assert right(episode) and codes(episode) == set()


def test_an_edge_that_ends_is_not_held(tmp_path: Path) -> None:
    def edges(stamp: int, pose: Pose) -> list[tuple[str, str, Pose]]:
        found = [("odom", "base_link", pose)]
        if stamp < START_NS + 2 * 10**9 and (stamp - START_NS) % 10**8 == 0:
            at = (stamp - START_NS) * 1e-9
            found.append(("map", "odom", (0.01 * at, 0.0, 0.0)))
        return found

    bag = drive(tmp_path, transforms(edges), 6.0)
    (episode,) = converted(bag, tmp_path / "out", *TF, "--tf-frames", "map", "base_link")
    assert 2.5 < episode.duration_s < 3.3
    assert "bad_poses" in codes(episode)


def test_of_two_robots_the_one_that_moves(tmp_path: Path) -> None:
    def edges(_: int, pose: Pose) -> list[tuple[str, str, Pose]]:
        still = ("robot2/odom", "robot2/base_link", (1.0, 0.0, 0.0))
        return [still, ("robot1/odom", "robot1/base_link", pose)]

    bag = drive(tmp_path, transforms(edges))
    (episode,) = converted(bag, tmp_path / "out", *TF)
    assert right(episode) and codes(episode) == {"tf_frames"}


def test_frames_that_are_unknown_or_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edges(_: int, pose: Pose) -> list[tuple[str, str, Pose]]:
        return [("odom", "base_link", pose), ("shelf", "box", (0.0, 0.0, 0.0))]

    bag = drive(tmp_path, transforms(edges))
    message = fails(capsys, bag, tmp_path / "a", *TF, "--tf-frames", "odom", "wheel")
    assert "odom -> base_link" in message and "(got wheel)" in message
    message = fails(capsys, bag, tmp_path / "b", *TF, "--tf-frames", "odom", "box")
    assert "connect" in message
