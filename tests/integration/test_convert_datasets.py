"""v2w convert on RLDS, RECON and CS:GO data: what comes out, what a model does with it, bad files.

RLDS is read with a stand-in for tensorflow-datasets, and with the real one where it is installed.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import h5py
import numpy as np
import pytest
from datasetmaker import (
    RecordedSteps,
    csgo_actions,
    flat_steps,
    recon_poses,
    rt1_action,
    rt1_steps,
    shown,
    write_csgo,
    write_recon_folder,
    write_recon_hdf5,
)
from released_toys import tiny_released_config

from v2w_core.cli import main
from v2w_core.data.convert import convert
from v2w_core.data.csgo_actions import decode
from v2w_core.data.episode import Episode, list_episodes, read_episode
from v2w_core.data.sources.csgo import open_csgo
from v2w_core.data.sources.recon import open_recon
from v2w_core.data.sources.rlds import open_episodes
from v2w_core.domains import CSGO_ACTION, RECON_ACTION, RT1_ACTION, RT1_FIELDS
from v2w_core.errors import DataError
from v2w_core.geometry import integrate_actions, planar
from v2w_core.world_model import WorldModel

SHARED = Path(os.environ.get("V2W_SHARED_DIR", Path(__file__).parents[2].parent / "shared"))
KITTI = SHARED / "data" / "kitti_visualnav"
BRIDGE = SHARED / "data" / "bridge_rlds_octo"


def converted(source: Path, out: Path, *options: str) -> list[Episode]:
    assert main(["convert", str(source), str(out), *options]) == 0
    assert not [item for item in out.iterdir() if item.name.startswith(".")]
    return [read_episode(path) for path in list_episodes(out)]


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs v2w convert, which must exit with 2 and leave nothing; returns the message."""
    capsys.readouterr()
    assert main(["convert", *map(str, arguments)]) == 2
    out = Path(str(arguments[1]))
    assert not out.exists() or not any(out.iterdir())
    return capsys.readouterr().err


# RECON


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


# CS:GO


def test_csgo(tmp_path: Path) -> None:
    source = tmp_path / "full_res"
    write_csgo(source / "dm_1_to_200" / "hdf5_dm_july2021_2.hdf5", 9)
    write_csgo(source / "dm_1_to_200" / "hdf5_dm_july2021_1.hdf5")
    first, second = converted(source, tmp_path / "out")
    assert "hdf5_dm_july2021_1" in first.source
    assert len(second) == 9
    assert first.action_spec == CSGO_ACTION
    assert first.image_size == (150, 280)
    assert [shown(frame) for frame in first.frames()] == list(range(12))
    assert tuple(first.frames()[0, 70, 40] // 8) == (25, 0, 0)  # blue-first on disk, red here
    assert decode(first.actions) == csgo_actions(12)[:-1]
    assert first.stamps_ns[8] == 500_000_000
    assert first.attributes == {"poses": "unknown"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frame_3_y", None, "frame_3_y: a dataset of this name"),
        ("frame_5_x", None, "frame_5_x: a dataset of this name"),
        ("frame_2_y", np.zeros(50), "frame_2_y: shape [51] (got [50])"),
        ("frame_2_y", np.zeros(51), "frame_y[2]: exactly one of the 23 mouse_x bins (got 0)"),
        ("frame_4_x", np.zeros((150, 280, 3)), "uint8 [H, W, 3], blue first"),
        ("frame_4_x", np.zeros((150, 280), np.uint8), "uint8 [H, W, 3], blue first"),
        ("frame_4_x", np.zeros((75, 140, 3), np.uint8), "frames[4]: the size of the first frame"),
    ],
)
def test_csgo_that_is_wrong(tmp_path: Path, capsys, key, value, message: str) -> None:
    source = write_csgo(tmp_path / "dm.hdf5")
    with h5py.File(source, "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value
    assert message in fails(capsys, source, tmp_path / "out")


@pytest.mark.parametrize("write", [write_csgo, write_recon_hdf5])
def test_truncated_hdf5(tmp_path: Path, write, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "data.hdf5")
    os.truncate(source, source.stat().st_size // 2)
    message = fails(capsys, source, tmp_path / "out")
    assert "data.hdf5: a complete HDF5 file" in message


# RLDS


@pytest.fixture
def tfds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A stand-in for tensorflow-datasets; fill ``splits`` with lists of episodes (step lists)."""
    folder = tmp_path / "fractal20220817_data" / "0.1.0"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        (folder / name).write_text("{}")
    fake = ModuleType("tensorflow_datasets")
    fake.folder, fake.splits, fake.read = folder, {}, []

    class Builder:
        info = SimpleNamespace(splits=None)

        def as_dataset(self, *, split, shuffle_files, read_config):
            assert not shuffle_files
            for episode in fake.splits[split]:
                fake.read.append(len(episode))
                if not episode:
                    raise OSError("corrupted record at 0")
                yield {"steps": RecordedSteps(episode)}

    def builder_from_directory(path: str) -> Builder:
        assert Path(path) == folder
        counts = {k: SimpleNamespace(num_examples=len(v)) for k, v in fake.splits.items()}
        Builder.info = SimpleNamespace(splits=counts)
        return Builder()

    fake.builder_from_directory = builder_from_directory
    fake.ReadConfig = lambda **options: options
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    return fake


def test_rt1(tfds, tmp_path: Path) -> None:
    tfds.splits["train"] = [rt1_steps(6), rt1_steps(4), rt1_steps(3)]
    first, second = converted(tmp_path, tmp_path / "out", "--max-episodes", "2")
    assert tfds.read == [6, 4]  # one after another, and no more than were asked for
    assert first.path.name == "fractal20220817_data_000.h5"
    assert first.action_spec == RT1_ACTION
    assert (len(first), len(second)) == (6, 4)
    assert first.image_size == (256, 320)
    assert [shown(frame) for frame in first.frames()] == list(range(6))
    # The joined vector is in the reference's order, whatever the data set's.
    wanted = (100 * np.arange(5)[:, None] + np.arange(13)) / 1000
    wanted[:, 7:10] = (0, 1, 0)
    np.testing.assert_allclose(first.actions, wanted, atol=1e-6)
    assert [first.action_spec.names[i] for i in (0, 2, 3, 4, 7, 10)] == [
        "base_dx", "base_dyaw", "gripper_closedness", "rotation_x", "terminate_0", "world_x",
    ]  # fmt: skip
    assert sum(len(names) for names, _, _ in RT1_FIELDS.values()) == 13
    assert first.stamps_ns[3] == 1_000_000_000
    assert first.attributes == {"poses": "unknown"}


def test_flat_actions_need_a_rate_and_a_camera(tfds, tmp_path: Path, capsys) -> None:
    tfds.splits["train"] = [flat_steps(dark=True), flat_steps(scale=-2.0), flat_steps(4)]
    source, out = tfds.folder, tmp_path / "out"
    assert "--rate-hz: given for flat actions" in fails(capsys, source, out)
    assert "--image-key: image_0, image_1" in fails(capsys, source, out, "--rate-hz", 5)
    message = fails(capsys, source, out, "--rate-hz", 5, "--image-key", "state")
    assert "--image-key: a camera of the steps: image_0, image_1 (got state)" in message
    options = ["--rate-hz", "5", "--image-key", "image_1", "--json", str(tmp_path / "s.json")]
    episodes = converted(source, out, *options)
    assert [len(episode) for episode in episodes] == [5, 4]  # the dark one is left out
    assert json.loads((tmp_path / "s.json").read_text())["no_picture"] == 1
    spec = episodes[0].action_spec
    assert spec.names == tuple(f"action_{i}" for i in range(7))
    assert spec.rate_hz == 5.0
    assert not spec.is_planar
    # Bounds are those of all the data, and the same in every episode.
    assert spec == episodes[1].action_spec
    everything = np.concatenate([episode.actions for episode in episodes])
    assert (everything > spec.low).all()
    assert (everything < spec.high).all()
    assert (spec.low[6], spec.high[6]) == (-8.18, 3.58)  # -7.2 to 2.6, and a tenth more
    np.testing.assert_allclose(spec.scale, np.maximum(np.abs(spec.low), np.abs(spec.high)))
    tfds.splits["train"] = [flat_steps(dark=True)]
    out = tmp_path / "dark"
    message = fails(capsys, source, out, "--rate-hz", 5, "--image-key", "image_1")
    assert "a camera that is not black in all episodes (got image_1)" in message


def test_splits_and_damaged_records(tfds, tmp_path: Path, capsys) -> None:
    tfds.splits.update(train=[rt1_steps(4)], val=[rt1_steps(3)], bad=[rt1_steps(3), []])
    (episode,) = converted(tfds.folder, tmp_path / "out", "--split", "val")
    assert len(episode) == 3
    assert episode.source == "rlds fractal20220817_data val episode 0"
    message = fails(capsys, tfds.folder, tmp_path / "no", "--split", "test")
    assert "--split: one of bad, train, val, or a part" in message
    message = fails(capsys, tfds.folder, tmp_path / "no", "--split", "bad")
    assert "a complete RLDS data set" in message
    assert "corrupted record" in message
    message = fails(capsys, tfds.folder, tmp_path / "no", "--rate-hz", 3)
    assert "--rate-hz: not given for RT-1's actions" in message
    shutil.copytree(tfds.folder, tmp_path / "fractal20220817_data" / "0.2.0")
    message = fails(capsys, tmp_path / "fractal20220817_data", tmp_path / "no")
    assert "one folder with dataset_info.json and features.json" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("world_vector"), r"step 2: action: RT-1's fields"),
        (lambda a: a.update(extra=np.zeros(2)), r"step 2: action: RT-1's fields"),
        (lambda a: a.update(rotation_delta=np.zeros(2)), r"action.rotation_delta: 3 numbers"),
        (lambda a: a.update(world_vector=np.full(3, np.nan)), r"action.world_vector: finite"),
        (lambda a: a.update(world_vector=b"no"), r"action.world_vector: 3 numbers"),
    ],
)
def test_rt1_steps_that_are_wrong(change, message: str) -> None:
    steps = rt1_steps(4, (16, 20))
    action = rt1_action(2)
    change(action)
    steps[2]["action"] = action
    source = open_episodes([steps], 1, name="rt1", split="train")
    with pytest.raises(DataError, match=message):
        list(source.recordings)


def test_steps_without_what_is_needed() -> None:
    for key in ("action", "observation"):
        steps = rt1_steps(3, (16, 20))
        del steps[0][key]
        with pytest.raises(DataError, match=f"{key}: an entry of this name"):
            open_episodes([steps], 1, name="rt1", split="train")
    steps = rt1_steps(3, (16, 20))
    steps[1]["observation"]["image"] = np.zeros((16, 20, 3), np.float32)
    source = open_episodes([steps], 1, name="rt1", split="train")
    with pytest.raises(DataError, match="step 1: image: uint8 RGB"):
        list(source.recordings)
    with pytest.raises(DataError, match="at least one episode"):
        open_episodes([], 0, name="rt1", split="train")


def test_tensorflow_is_named_when_it_is_missing(
    tfds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    message = fails(capsys, tfds.folder, tmp_path / "out")
    assert "pip install 'v2w[rlds]'" in message


@pytest.mark.skipif(not BRIDGE.is_dir(), reason=f"no {BRIDGE} (set V2W_SHARED_DIR)")
def test_real_records_through_tensorflow_datasets(tmp_path: Path) -> None:
    for package in ("tensorflow", "tensorflow_datasets"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'v2w[rlds]'")
    options = ["--rate-hz", "5", "--image-key", "image_0"]
    episodes = converted(BRIDGE, tmp_path / "out", *options)
    assert [len(episode) for episode in episodes] == [10] * 16
    assert episodes[0].action_spec.dim == 7
    assert episodes[0].image_size == (64, 64)
    assert all(episode.frames().std() > 20 for episode in episodes)


# Any kind


def test_unknown_and_ambiguous_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing")
    message = fails(capsys, notes, tmp_path / "out")
    for name in ("metadata.yaml", "dataset_info.json", "traj_data.pkl", "frame_0_x", "notes.txt"):
        assert name in message
    mixed = tmp_path / "mixed"
    write_csgo(mixed / "a.hdf5", 3)
    write_recon_folder(mixed / "jackal", 3)
    message = fails(capsys, mixed, tmp_path / "out")
    assert "choose with --kind recon or --kind csgo" in message
    assert len(converted(mixed, tmp_path / "chosen", "--kind", "csgo")) == 1
    assert "one of auto, bag, rlds" in fails(capsys, mixed, tmp_path / "out", "--kind", "zip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-topic", "/x"], "--image-topic: only for bag; this source is csgo"),
        (["--split", "val"], "--split: only for rlds"),
        (["--rate-hz", "5"], "--rate-hz: only for bag or rlds or recon"),
        (["--start-s", "0"], "--start-s: only for bag"),
        (["--action-low", "0", "0", "0"], "--action-low: only for bag"),
        (["--max-episodes", "0"], "--max-episodes: at least 1"),
    ],
)
def test_options_of_another_kind(tmp_path: Path, capsys, options, message: str) -> None:
    source = write_csgo(tmp_path / "dm.hdf5", 3)
    assert message in fails(capsys, source, tmp_path / "out", *options)


def test_a_damaged_recording_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "recon"
    write_recon_hdf5(source / "a.hdf5")
    write_recon_hdf5(source / "b.hdf5")
    os.truncate(source / "b.hdf5", 3000)
    assert "b.hdf5: a complete HDF5 file" in fails(capsys, source, tmp_path / "out")


@pytest.mark.parametrize("domain", ["rt1", "csgo", "recon"])
def test_an_imported_model_takes_the_episodes(domain: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    if domain == "rt1":
        recordings = open_episodes([rt1_steps(6)], 1, name="rt1", split="train")
    elif domain == "csgo":
        recordings = open_csgo(write_csgo(tmp_path / "dm.hdf5", 6))
    else:
        recordings = open_recon(write_recon_hdf5(tmp_path / "jackal.hdf5", 6))
    (path,) = convert(recordings, tmp_path / "episodes", domain).paths
    config = tiny_released_config(f"vid2world-{domain}")
    checkpoint = WorldModel.build(config).save_pretrained(tmp_path / "checkpoint")
    options = ["--steps", "2", "--num-sampling-steps", "2", "--out", str(tmp_path / "imagined")]
    assert main(["imagine", str(path), "--checkpoint", str(checkpoint), *options]) == 0
