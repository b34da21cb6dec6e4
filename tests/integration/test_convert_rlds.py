"""v2w convert on RLDS, with a stand-in for tensorflow-datasets, and with the real one where it is
installed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from convert_toys import SHARED, converted, fails
from datasetmaker import RecordedSteps, flat_steps, rt1_action, rt1_steps, shown

from v2w_core.data.domains import RT1_ACTION, RT1_FIELDS
from v2w_core.data.sources.rlds import open_episodes
from v2w_core.errors import DataError

BRIDGE = SHARED / "data" / "bridge_rlds_octo"


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
