"""Checkpoint folders: what is saved comes back, and what is damaged is refused."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from core_toys import candidates, history
from safetensors.torch import load_file, save_file

from v2w_core import checkpoint
from v2w_core.checkpoint import load_config
from v2w_core.errors import CheckpointError, V2WError
from v2w_core.world_model import WorldModel


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model):
    return model.save_pretrained(tmp_path_factory.mktemp("good") / "model", card="# A card\n")


@pytest.fixture
def folder(tmp_path, saved):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "model")


def test_a_checkpoint_comes_back_whole(model, saved):
    loaded = WorldModel.from_pretrained(saved)
    assert loaded.config == model.config
    assert load_config(saved) == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    actions = candidates(2, 2)
    expected = model.start(*history()).imagine(actions).frames()
    np.testing.assert_array_equal(loaded.start(*history()).imagine(actions).frames(), expected)
    assert sorted(item.name for item in saved.iterdir()) == [
        "README.md", "config.yaml", "model.safetensors",
    ]  # fmt: skip
    assert (saved / "README.md").read_text() == "# A card\n"


def test_half_precision_is_half_the_size_and_loads_as_float32(model, saved, tmp_path):
    folder = model.save_pretrained(tmp_path / "half", half=True)
    size = (folder / "model.safetensors").stat().st_size
    assert size < 0.7 * (saved / "model.safetensors").stat().st_size
    loaded = WorldModel.from_pretrained(folder)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_half_precision_keeps_statistics_exactly(model, tmp_path):
    before = model.autoencoder.latent_std.clone()
    try:
        model.autoencoder.latent_std.fill_(1 / 0.18215)  # no number of float16
        loaded = WorldModel.from_pretrained(model.save_pretrained(tmp_path / "half", half=True))
        assert torch.equal(loaded.autoencoder.latent_std, model.autoencoder.latent_std)
    finally:
        model.autoencoder.latent_std.copy_(before)


def test_config_holds_a_version_and_plain_data_only(saved):
    text = (saved / "config.yaml").read_text()
    assert "!!" not in text
    assert yaml.safe_load(text)["format_version"] == 1


def edit_config(folder, **changes):
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def edit_weights(folder, edit):
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")


def poison(state):
    name = next(name for name in state if name.endswith("weight"))
    state[name].flatten()[0] = float("nan")


DAMAGE = {
    "truncated weights": (truncate, "truncated"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "truncated"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "no config": (lambda f: (f / "config.yaml").unlink(), "config.yaml"),
    "newer": (lambda f: edit_config(f, format_version=99), "newer"),
    "no version": (lambda f: edit_config(f, format_version=None), "format_version"),
    "unknown key": (lambda f: edit_config(f, colour="red"), "colour"),
    "config is a list": (lambda f: (f / "config.yaml").write_text("[1, 2]"), "mapping"),
    "config is no YAML": (lambda f: (f / "config.yaml").write_text("a: [1"), "YAML"),
    "not a number": (lambda f: edit_weights(f, poison), "NaN"),
    "a weight too few": (lambda f: edit_weights(f, lambda s: s.pop(next(iter(s)))), "missing"),
    "a weight too many": (
        lambda f: edit_weights(f, lambda s: s.update(extra=torch.zeros(1))), "unknown",
    ),
    "another size": (lambda f: edit_config(f, num_history=40), "num_history"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_refused_with_a_reason(folder, name):
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        WorldModel.from_pretrained(folder)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_executed(folder, tmp_path):
    mark = tmp_path / "executed"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CheckpointError):
        WorldModel.from_pretrained(folder)
    torch.save({"x": Bomb(mark)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        WorldModel.from_pretrained(folder)
    assert not mark.exists()


def test_yaml_that_asks_for_python_is_refused_and_not_executed(folder, tmp_path):
    mark = tmp_path / "executed"
    (folder / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(CheckpointError):
        WorldModel.from_pretrained(folder)
    assert not mark.exists()


def test_an_interrupted_save_leaves_the_old_checkpoint(model, folder, monkeypatch):
    def dies(*_, **__):
        raise KeyboardInterrupt

    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [item.name for item in folder.parent.iterdir()] == ["model"]
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(folder.parent / "new")
    assert not (folder.parent / "new").exists()


def test_saving_again_replaces(model, folder):
    model.save_pretrained(folder, card="# Second\n")
    assert (folder / "README.md").read_text() == "# Second\n"
    assert [item.name for item in folder.parent.iterdir()] == ["model"]
    WorldModel.from_pretrained(folder)


def test_a_device_that_is_not_there_is_named(folder):
    with pytest.raises(V2WError, match="device"):
        WorldModel.from_pretrained(folder, device="cuda:77")
    with pytest.raises(V2WError, match="device"):
        WorldModel.from_pretrained(folder, device="abacus")


def test_a_save_killed_between_its_renames_loses_nothing(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "model")
    folder.rename(tmp_path / ".model.old")  # what a kill right before the second rename leaves
    assert WorldModel.from_pretrained(folder).config == model.config
    model.save_pretrained(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_loading_while_a_save_changes_names_waits_for_it(model, tmp_path, monkeypatch):
    """Today's reader finds no folder, an earlier one aside, and a save that goes on."""
    folder = model.save_pretrained(tmp_path / "model", card="# First\n")
    rename, loaded = Path.rename, []

    def slow(path, target):
        result = rename(path, target)
        if path == folder:  # between the two renames
            reader = threading.Thread(target=lambda: loaded.append(load_config(folder)))
            reader.start()
            reader.join(0.3)
            assert reader.is_alive()
            readers.append(reader)
        return result

    readers = []
    monkeypatch.setattr(Path, "rename", slow)
    model.save_pretrained(folder, card="# Second\n")
    for reader in readers:
        reader.join()
    assert readers and loaded == [model.config]
    assert (folder / "README.md").read_text() == "# Second\n"
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("old", "new"), [("held", "reencode"), ("denoised", "reuse")])
def test_words_of_older_checkpoints_are_still_read(folder, old, new):
    file = folder / "config.yaml"
    file.write_text(re.sub("imagined_history: .*", f"imagined_history: {old}", file.read_text()))
    assert load_config(folder).sampling.imagined_history == new
