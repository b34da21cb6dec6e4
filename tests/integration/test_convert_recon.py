"""v2w convert on RECON's HDF5 files and folders."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from convert_toys import SHARED, converted, fails
from datasetmaker import recon_poses, shown, write_recon_folder, write_recon_hdf5

from v2w_core.data.domains import RECON_ACTION
from v2w_core.geometry import integrate_actions, planar

KITTI = SHARED / "data" / "kitti_visualnav"


@pytest.mark.parametrize("layout", ["hdf5", "void", "folder"])
def test_recon(tmp_path: Path, layout: str) -> None:
    if layout == "folder":
        source = write_recon_folder(tmp_path / "jackal_1")
    else:
        source = write_recon_hdf5(tmp_path / "jackal_1.hdf5", void=layout == "void")
    (episode,) = converted(source, tmp_path / "out", "--json", str(tmp_path / "s.json"))
    RECON_ACTION.require_same(episode.action_spec)
    assert episode.action_spec == RECON_ACTION
    assert episode.path.name == "jackal_1_000.h5"
    assert [shown(frame) for frame in episode.frames()] == list(range(8))
    assert tuple(episode.frames()[0, 20, 10] // 8) == (25, 0, 0)  # red, not blue
    position, _ = recon_poses(8)
    np.testing.assert_allclose(episode.poses[:, :2], position)
    assert episode.poses[0, 2] == (0.25 if layout != "folder" else 0.0)
    assert (np.diff(episode.stamps_ns) == 250_000_000).all()
    # A circle of radius 2 m: the same step each time, and a turn that never jumps by 2 pi.
    chord, half = 2 * 2.0 * np.sin(0.1), 0.1
    step = (chord * np.cos(half), chord * np.sin(half), 0.2)
    np.testing.assert_allclose(episode.actions, np.tile(step, (7, 1)), atol=1e-6)
    path = integrate_actions(episode.actions, planar(episode.poses)[0])
    np.testing.assert_allclose(path[:, :2], position, atol=1e-5)
    assert json.loads((tmp_path / "s.json").read_text())["kind"] == "recon"


def test_half_a_turn_is_minus_pi(tmp_path: Path) -> None:
    source = write_recon_folder(tmp_path / "turn", 3)
    data = {"position": np.zeros((3, 2)), "yaw": np.array([[0.0], [np.pi], [np.pi + 3.0]])}
    (source / "traj_data.pkl").write_bytes(pickle.dumps(data))  # yaw [T, 1] is in use too
    (episode,) = converted(source, tmp_path / "out")
    np.testing.assert_allclose(episode.actions[:, 2], [-np.pi, 3.0], rtol=1e-6)


def test_recon_many_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_recon_hdf5(tmp_path / "recon_release" / f"jackal_{number}.hdf5", 4 + number)
        write_recon_folder(tmp_path / "processed" / f"jackal_{number}", 4 + number)
    for name in ("recon_release", "processed"):
        episodes = converted(tmp_path / name, tmp_path / f"out_{name}")
        assert [len(episode) for episode in episodes] == [4, 5, 6]
        assert [episode.path.name for episode in episodes][2] == f"{name}_002.h5"
        assert "jackal_1" in episodes[1].source
    options = ["--min-frames", "5", "--max-episodes", "1", "--rate-hz", "3"]
    capsys.readouterr()
    (one,) = converted(tmp_path / "processed", tmp_path / "some", *options)
    assert len(one) == 5
    assert one.action_spec.rate_hz == 3.0
    assert "1 recordings with too few frames" in capsys.readouterr().out
    message = fails(capsys, tmp_path / "processed", tmp_path / "no", "--min-frames", "7")
    assert "at most 6 in a row" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("jackal/yaw"), r"jackal/yaw: a dataset of this name"),
        (lambda f: f.__delitem__("jackal"), r"jackal/position: a dataset of this name"),
        (
            lambda f: (f.__delitem__("jackal/yaw"), f.__setitem__("jackal/yaw", np.zeros(7))),
            r"jackal/yaw: shape [8] or [8, 1] (got [7])",
        ),
        (
            lambda f: (
                f.__delitem__("jackal/position"),
                f.__setitem__("jackal/position", np.zeros((8, 4))),
            ),
            r"jackal/position: shape [8, 3] or [8, 2] (got [8, 4])",
        ),
        (lambda f: f["jackal/yaw"].__setitem__(3, np.nan), "jackal/yaw[3]: a finite number"),
        (
            lambda f: f["images/rgb_left"].__setitem__(5, np.zeros(9, np.uint8)),
            "images/rgb_left[5]",
        ),
    ],
)
def test_recon_hdf5_that_is_wrong(tmp_path: Path, capsys, change, message: str) -> None:
    source = write_recon_hdf5(tmp_path / "jackal.hdf5")
    with h5py.File(source, "r+") as file:
        change(file)
    assert message in fails(capsys, source, tmp_path / "out")


def test_recon_folder_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_recon_folder(tmp_path / "good")

    def wrong(name: str, change) -> str:
        folder = tmp_path / name
        shutil.copytree(good, folder)
        change(folder)
        return fails(capsys, folder, tmp_path / "out")

    assert "3.jpg" in wrong("gap", lambda f: (f / "3.jpg").rename(f / "8.jpg"))
    assert "[7, 2]" in wrong("fewer", lambda f: (f / "7.jpg").unlink())
    assert "cut off" in wrong("cut", lambda f: os.truncate(f / "2.jpg", 200))
    data = {"position": np.zeros((8, 2))}
    message = wrong("no_yaw", lambda f: (f / "traj_data.pkl").write_bytes(pickle.dumps(data)))
    assert "no_yaw/traj_data.pkl: yaw: an array of this name" in message
    owned = tmp_path / "owned"
    bomb = b"cposix\nsystem\n(S'touch %s'\ntR." % str(owned).encode()
    message = wrong("bomb", lambda f: (f / "traj_data.pkl").write_bytes(bomb))
    assert "posix.system" in message
    assert not owned.exists()
    both = tmp_path / "both"
    shutil.copytree(good, both / "good")
    write_recon_hdf5(both / "jackal.hdf5")
    assert "not both (got 1 folders, 1 files)" in fails(capsys, both, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not KITTI.is_dir(), reason=f"no {KITTI} (set V2W_SHARED_DIR)")
def test_real_files_in_both_of_recons_layouts(tmp_path: Path) -> None:
    sources = (KITTI / "traj_kitti_1", KITTI / "traj_kitti_1_recon_keys.hdf5")
    options = ["--rate-hz", "10", "--image-format", "png"]
    (folder,), (file,) = (
        converted(source, tmp_path / str(number), *options) for number, source in enumerate(sources)
    )
    assert len(folder) == len(file) == 51
    np.testing.assert_allclose(folder.actions, file.actions, atol=1e-6)
    np.testing.assert_array_equal(folder.frames(), file.frames())
    assert float(np.linalg.norm(file.actions[:, :2], axis=1).sum()) == pytest.approx(59.8, abs=0.3)
