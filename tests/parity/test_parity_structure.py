"""Every key and shape of the released files has its place in our classes."""

from __future__ import annotations

import pytest
import torch

from v2w_core.transfer.importer import convert_weights
from v2w_core.transfer.kinds import KINDS
from v2w_core.transfer.reference_names import UNET_PREFIX, released_name
from v2w_core.transfer.released import released_config, unet_config
from v2w_core.world_model import WorldModel

MADE = {"autoencoder.latent_mean", "autoencoder.latent_std", "image_context.text_tokens"}


def released_keys(recorded, kind):
    """Names and shapes of a whole released file."""
    base = recorded.json("dynamicrafter512_unet_keys")
    keys = {**base["first_stage_and_image_proj"], **base["cond_stage_and_embedder"]}
    keys.update(base["schedule_buffers"])
    if kind == "dynamicrafter512":
        return {**keys, **base[UNET_PREFIX.removesuffix(".")]}, base["config"]["unet"]
    own = recorded.json("vid2world_unet_keys")
    domain = own[kind.removeprefix("vid2world-")]
    unet = domain.get("keys") or own["rt1"]["keys"]
    if "keys" not in domain:  # only rt1's are listed in full
        unet = {k: v for k, v in unet.items() if ".action_emb_" not in k}
        unet.update(action_keys(domain["config"]["action_dim"]))
    return {**keys, **unet}, domain["config"]


def action_keys(dim):
    """The action layers as reference/vid2world.md section c gives them."""
    stem = f"{UNET_PREFIX}action_emb_"
    first = {f"{stem}proj.0.weight": [320, dim], f"{stem}proj.0.bias": [320]}
    hidden = [1280, 320]
    if dim == 51:
        return {
            f"{stem}preprocess.weight": [51, 320],
            f"{stem}proj.0.weight": hidden, f"{stem}proj.0.bias": [1280],
            f"{stem}proj.2.weight": [1280, 1280], f"{stem}proj.2.bias": [1280],
        }  # fmt: skip
    return {
        **first,
        f"{stem}proj.2.weight": hidden, f"{stem}proj.2.bias": [1280],
        f"{stem}proj.4.weight": [1280, 1280], f"{stem}proj.4.bias": [1280],
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_and_shape(recorded, kind):
    pytest.importorskip("transformers")
    keys, reference = released_keys(recorded, kind)
    config = released_config(kind)
    assert config.unet == unet_config(reference)
    with torch.device("meta"):
        ours = {k: tuple(v.shape) for k, v in WorldModel(config).state_dict().items()}
        theirs = convert_weights({name: torch.empty(shape) for name, shape in keys.items()})
    assert {k: tuple(v.shape) for k, v in theirs.items()} == {
        k: v for k, v in ours.items() if k not in MADE
    }
    unet = [name for name in ours if name.startswith("unet.")]
    causal = kind != "dynamicrafter512"
    back = {UNET_PREFIX + released_name(name[5:], causal=causal) for name in unet}
    assert back == {name for name in keys if name.startswith(UNET_PREFIX)}
    print(f"{kind}: {len(keys)} released tensors, {len(ours)} of ours")


def test_the_number_of_parameters(recorded):
    counts = recorded.json("dynamicrafter512_unet_keys")["counts"]
    with torch.device("meta"):
        model = WorldModel(released_config("dynamicrafter512"))
    assert sum(p.numel() for p in model.unet.parameters()) == counts["unet_params"]
