"""A checkpoint folder of somebody else: what is too large or no number is refused, and soon."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import time

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_core import yaml_files
from v2w_core.checkpoint import load_config
from v2w_core.config import WorldModelConfig
from v2w_core.config_fields import RANGES
from v2w_core.errors import CheckpointError
from v2w_core.models.goal_distance import GoalDistanceConfig
from v2w_core.testing import geometric_config, tiny_config
from v2w_core.transfer.released import released_config
from v2w_core.world_model import WorldModel
from v2w_core.yaml_files import YAMLError, parse_yaml, read_yaml


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model):
    return model.save_pretrained(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(tmp_path, saved):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "model")


def refused(folder, match, within_s=2.0):
    began = time.process_time()
    with pytest.raises(CheckpointError, match=match) as caught:
        WorldModel.from_pretrained(folder)
    assert time.process_time() - began < within_s
    assert len(str(caught.value)) < 2000


def changed(field, value, make_config=tiny_config):
    """A tiny model's configuration with one field such as "unet.model_channels" changed."""
    data = make_config().to_dict()
    data["goal_distance"] = {"channels": 8, "metres": 0.4, "radians": 0.35}
    *path, name = field.split(".")
    target = data
    for part in path:
        target = target[part]
    target[name] = value
    return data


SIZES = {
    "unet.model_channels": 4096,
    "unet.head_dim": 1 << 15,
    "unet.num_res_blocks": 16,
    "unet.ff_mult": 64,
    "unet.temporal_kernel": 63,
    "unet.context_dim": 65536,
    "autoencoder.latent_channels": 65536,
    "autoencoder.block_channels": [65536, 65536],
    "autoencoder.layers_per_block": 16,
    "autoencoder.patch_size": 64,
}


@pytest.mark.parametrize("field", SIZES)
def test_sizes_that_the_weights_do_not_have_are_refused_soon(folder, field):
    data = changed(field, SIZES[field])
    if field == "unet.model_channels":
        data["unet"]["model_channels"] = 32768
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    refused(folder, "config.yaml")


PARTS = {"WorldModelConfig": "", "ActionSpec": "action.", "ObservationSpec": "observation.",
         "AutoencoderConfig": "autoencoder.", "UNetConfig": "unet.", "DiffusionConfig":
         "diffusion.", "SamplingConfig": "sampling.",
         "GoalDistanceConfig": "goal_distance.", "ConditionConfig": "condition."}  # fmt: skip
FIELDS = [part + name for owner, part in PARTS.items() for name in RANGES[owner]]
ABSURD = [-1, 10**9, 10**400, float("nan"), float("inf"), -float("inf"), 1e300, "many", True,
          [[1]], {"a": 1}]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_numbers_out_of_range_are_refused_by_name(field):
    signed = field in ("action.low", "action.offset")
    for value in ABSURD[signed:]:
        for given_value in (value, [value] * 3):
            data = changed(field, given_value, geometric_config)
            with pytest.raises(CheckpointError, match=field.rpartition(".")[2]):
                WorldModelConfig.from_dict(data)


@given(
    field=st.sampled_from(FIELDS),
    value=st.one_of(
        st.integers(), st.floats(), st.text(max_size=5), st.none(), st.booleans(),
        st.lists(st.one_of(st.integers(), st.floats(), st.none()), max_size=12),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_value_is_accepted_or_refused(field, value):
    try:
        config = WorldModelConfig.from_dict(changed(field, value, geometric_config))
    except CheckpointError:
        return
    assert WorldModelConfig.from_dict(config.to_dict()) == config


def test_every_range_is_of_a_field_there_is():
    config = dataclasses.replace(
        released_config("vid2world-recon"), goal_distance=GoalDistanceConfig()
    )
    found = {}
    parts = [config, geometric_config()]
    while parts:
        part = parts.pop()
        values = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
        found[type(part).__name__] = set(values)
        parts += [value for value in values.values() if dataclasses.is_dataclass(value)]
    assert all(set(ranges) <= found[owner] for owner, ranges in RANGES.items())


BOMBS = {
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "an anchor without an alias": "format_version: &v 1\n",
    "too large": "a: '" + "x" * (2 << 20) + "'\n",
    "too many": "a:\n" + "- 1\n" * 200_000,
    "too many in one line": "a: [" + "1," * 500_000 + "]\n",
    "too deep": "a: " + "[" * 500_000,
    "deep blocks": "- " * 500_000,
    "base 60": "a: " + ":".join(["1"] * 400_000),
    "a long number": "a: " + "9" * 900_000,
    "a long text": "a: '" + "x" * 500_000 + "'",
    "no date": "a: 2001-99-99",
    "a tag without a value": "a: !!timestamp x\nb: !!bool x\n",
    "a key twice": "unet: 1\nunet: 2\n",
    "a list as key": "? [1]\n: 2\n",
    "a zero": "a: \0",
    "two documents": "a: 1\n---\nb: 2\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_is_no_small_plain_data_is_refused_soon(folder, name):
    (folder / "config.yaml").write_text(BOMBS[name])
    refused(folder, "config.yaml")


def test_a_file_of_300_megabytes_is_not_read(folder):
    with (folder / "config.yaml").open("r+b") as file:
        file.truncate(300 << 20)
    refused(folder, f"{yaml_files.MAX_BYTES} bytes")


@given(st.text(alphabet=" \n\t-?:,[]{}&*!|>'\"%@`#a1.~<=", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_plain_data_or_an_error(text):
    try:
        value = parse_yaml(text)
    except YAMLError:
        return
    assert "object at" not in repr(value)


def test_plain_yaml_is_what_pyyaml_reads(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: [1, 2.5, {b: null}]\nc: 'text'\n'/**':\n  d: true\n", encoding="utf-8")
    assert read_yaml(file) == yaml.safe_load(file.read_text())
    file.write_bytes(b"a: \xff")
    with pytest.raises(YAMLError):
        read_yaml(file)


def header(folder, entries=None, length=None, body=b"", text=None):
    encoded = json.dumps(entries or {}).encode() if text is None else text
    start = struct.pack("<Q", len(encoded) if length is None else length)
    (folder / "model.safetensors").write_bytes(start + encoded + body)


def entry(shape, begin=0, end=4, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "a length of 2^63": {"length": 1 << 63},
    "longer than the file": {"length": 1000},
    "100 MB of spaces": {"text": b" " * 100_000_000},
    "no JSON": {"text": b"{'a': 1}"},
    "deep JSON": {"text": b"[" * 1_000_000},
    "a list": {"text": b"[1, 2]"},
    "a huge shape": {"entries": {"a": entry([1 << 40, 1 << 40])}, "body": b"1234"},
    "a negative shape": {"entries": {"a": entry([-1, -1])}, "body": b"1234"},
    "many ones": {"entries": {"a": entry([1] * 100_000)}, "body": b"1234"},
    "a text for a shape": {"entries": {"a": entry("1")}, "body": b"1234"},
    "another type": {"entries": {"a": entry([1], dtype="C64")}, "body": b"1234"},
    "outside the file": {"entries": {"a": entry([1], 96, 100)}, "body": b"1234"},
    "overlapping": {"entries": {"a": entry([1]), "b": entry([1])}, "body": b"1234"},
    "a gap": {"entries": {"a": entry([1], 4, 8)}, "body": b"12345678"},
    "more in the file": {"entries": {"a": entry([1])}, "body": b"1234" * 1000},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_fit_the_file_is_refused_soon(folder, name):
    header(folder, **HEADERS[name])
    refused(folder, "damaged")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
def test_what_is_no_file_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, name)


def test_models_of_other_threads_and_later_ones_are_not_counted(folder, saved):
    header(folder, {"a": entry([1])}, body=b"1234")
    data = changed("unet.model_channels", 4096)
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    refused(folder, "no larger")
    assert torch.nn.Linear(2000, 2000).weight.numel() == 4_000_000
    assert load_config(saved) == WorldModel.from_pretrained(saved).config
