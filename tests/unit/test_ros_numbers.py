"""Stamps and poses of messages: any numbers are accepted or refused, never an overflow."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w.messages import conversions
from v2w_core.data import ros_numbers
from v2w_core.data.episode import read_episode, write_episode
from v2w_core.data.sources.recon import open_recon
from v2w_core.errors import DataError, V2WError
from v2w_core.geometry import MAX_COORDINATE_M, first_unusable
from v2w_core.spec import ActionSpec

HUGE = [1e155, 1e200, sys.float_info.max, -1e200, math.inf, -math.inf, math.nan]
TINY = [0.0, 5e-324, 1e-200, sys.float_info.min]
NUMBERS = st.floats() | st.sampled_from([*HUGE, *TINY, 1.0, 0.5, -0.5, 1e6, 1.0000001e6])


def pose(place=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0, 1.0)):
    return SimpleNamespace(
        position=SimpleNamespace(**dict(zip("xyz", place, strict=True))),
        orientation=SimpleNamespace(**dict(zip("xyzw", turn, strict=True))),
    )


@pytest.mark.parametrize("read", [conversions.planar_pose, ros_numbers.planar_pose])
@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("index", range(7))
def test_numbers_that_are_no_pose_are_refused(read, value, index):
    numbers = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    numbers[index] = value
    with pytest.raises(V2WError, match="pose"):
        read(pose(numbers[:3], numbers[3:]))


@pytest.mark.parametrize("value", TINY)
def test_a_quaternion_of_nearly_nothing_is_refused(value):
    with pytest.raises(V2WError, match="quaternion"):
        conversions.planar_pose(pose(turn=(value,) * 4))


@given(st.lists(NUMBERS, min_size=7, max_size=7))
@settings(max_examples=500, deadline=None)
def test_any_pose_is_usable_or_refused(numbers):
    try:
        found = conversions.planar_pose(pose(numbers[:3], numbers[3:]))
    except V2WError:
        return
    assert first_unusable(found) is None and abs(found[3]) <= math.pi


def test_coordinates_up_to_the_limit_are_read():
    place = (MAX_COORDINATE_M, -MAX_COORDINATE_M, 0.0)
    assert conversions.planar_pose(pose(place)) == (*place, 0.0)
    with pytest.raises(V2WError, match="1e\\+06 m"):
        conversions.planar_pose(pose((MAX_COORDINATE_M + 1, 0.0, 0.0)))


BAD_STAMPS = [
    (-1, 0),
    (-(2**31), 0),
    (0, 10**9),
    (0, 2**32 - 1),
    (2**31 - 1, 0),
    (0, -1),
    (2**63, 0),
]


@pytest.mark.parametrize(("seconds", "nanoseconds"), BAD_STAMPS)
def test_stamps_that_are_none_are_refused(seconds, nanoseconds):
    with pytest.raises(V2WError, match="stamp"):
        conversions.stamp_ns(SimpleNamespace(sec=seconds, nanosec=nanoseconds))


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
def test_any_stamp_is_refused_or_a_time_that_ros_can_hold(seconds, nanoseconds):
    try:
        found = conversions.stamp_ns(SimpleNamespace(sec=seconds, nanosec=nanoseconds))
    except V2WError:
        assert seconds < 0 or nanoseconds >= 10**9 or seconds > ros_numbers.MAX_STAMP_S
    else:
        assert divmod(found, 10**9) == (seconds, nanoseconds)


SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1,) * 3, (1,) * 3, 4.0)


def content(**changes):
    plain = {
        "frames": np.zeros((4, 16, 16, 3), np.uint8), "actions": np.zeros((3, 3)),
        "poses": np.zeros((4, 4)), "stamps_ns": np.arange(4), "action_spec": SPEC, "source": "",
    }  # fmt: skip
    return plain | changes


@pytest.mark.parametrize("value", [*HUGE, MAX_COORDINATE_M * 1.1])
def test_poses_of_an_episode_are_bounded(tmp_path, value):
    poses = np.zeros((4, 4))
    poses[2, 1] = value
    with pytest.raises(DataError, match="poses"):
        write_episode(tmp_path / "a.h5", **content(poses=poses))
    path = write_episode(tmp_path / "a.h5", **content())
    with h5py.File(path, "r+") as file:
        file["poses"][...] = poses
    with pytest.raises(DataError, match=r"poses.*\(2, 1\)"):
        read_episode(path)


@pytest.mark.parametrize("stamps", [
    np.arange(-1, 3), np.arange(4, dtype=np.uint64) + np.uint64(2**63), [0, 1, 2, 2**64 - 1],
])  # fmt: skip
def test_stamps_of_an_episode_are_times(tmp_path, stamps):
    path = write_episode(tmp_path / "a.h5", **content())
    with h5py.File(path, "r+") as file:
        del file["stamps_ns"]
        file["stamps_ns"] = np.asarray(stamps)
    with pytest.raises(DataError, match="stamps_ns"):
        read_episode(path)


@pytest.mark.parametrize("value", [1e7, 1e200, -1e308])
@pytest.mark.parametrize("name", ["position", "yaw"])
def test_poses_of_a_recon_file_are_bounded(tmp_path, name, value):
    numbers = {"position": np.zeros((4, 3)), "yaw": np.zeros(4)}
    numbers[name].reshape(-1)[5 if name == "position" else 2] = value
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["images/rgb_left"] = np.array([b"x"] * 4)
        for key, array in numbers.items():
            file[f"jackal/{key}"] = array
    with pytest.raises(DataError, match="frame"):
        next(open_recon(tmp_path / "a.hdf5").recordings)
