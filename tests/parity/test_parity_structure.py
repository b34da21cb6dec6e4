"""Every key and shape of the released files has its place in our classes."""

from __future__ import annotations

import pytest
import torch

from v2w_core.transfer.importer import convert_weights, expected_tensors
from v2w_core.transfer.released import released_config, unet_config
from v2w_core.transfer.released_names import KINDS
from v2w_core.transfer.text_tower import VIT_H
from v2w_core.transfer.unet_keys import UNET_PREFIX, released_name
from v2w_core.world_model import WorldModel


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_key_and_shape(recorded, kind):
    pytest.importorskip("transformers")
    shapes, reference = recorded.released_shapes(kind)
    config = released_config(kind)
    assert config.unet == unet_config(reference)
    with torch.device("meta"):
        theirs = convert_weights({name: torch.empty(shape) for name, shape in shapes.items()})
    ours = {name: value.shape for name, value in expected_tensors(config, VIT_H).items()}
    assert {name: value.shape for name, value in theirs.items()} == ours
    unet = [name for name in ours if name.startswith("unet.")]
    causal = kind != "dynamicrafter512"
    back = {UNET_PREFIX + released_name(name[5:], causal=causal) for name in unet}
    assert back == {name for name in shapes if name.startswith(UNET_PREFIX)}


def test_the_number_of_parameters(recorded):
    counts = recorded.json("dynamicrafter512_unet_keys")["counts"]
    with torch.device("meta"):
        model = WorldModel(released_config("dynamicrafter512"))
    assert sum(p.numel() for p in model.unet.parameters()) == counts["unet_params"]
