"""An original .ckpt becomes a checkpoint folder: layouts, refusals, and what it then does."""

from __future__ import annotations

import argparse
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from v2w_core.errors import CheckpointError
from v2w_core.rollout.window_session import WindowSession
from v2w_core.world_model import WorldModel

pytest.importorskip("transformers")

from released_toys import TEXT, released_weights, tiny_released_config

from v2w_core.cli import main
from v2w_core.commands.import_checkpoint import find
from v2w_core.transfer.importer import import_checkpoint, read_released


@pytest.fixture(scope="module")
def weights():
    return released_weights()


def write(path, weights, layout="lightning"):
    if layout == "lightning":
        torch.save({"state_dict": weights, "epoch": 3}, path)
    else:
        torch.save({"module": {f"_forward_module.{k}": v for k, v in weights.items()}}, path)
    return path


@pytest.fixture(scope="module")
def imported(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("import")
    source = write(folder / "model.ckpt", weights)
    return import_checkpoint(
        source, folder / "model", tiny_released_config(), "# card\n", text=TEXT
    )


def test_the_weights_arrive(imported, weights):
    model = WorldModel.from_pretrained(imported)
    ours = model.unet.input_blocks[1][0].temporal_conv.conv2[3].weight
    theirs = weights["model.diffusion_model.input_blocks.1.0.temopral_conv.conv2.3.conv3d.weight"]
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)  # stored in half precision
    assert model.image_context.text_tokens.abs().max() > 0
    image = torch.rand(2, 3, 32, 64) * 2 - 1
    with torch.inference_mode():
        tokens = model.image_context(image)
    assert tokens.shape == (2, 77 + 4 * 16, 32)
    assert not torch.equal(tokens[0, 77:], tokens[1, 77:])
    assert torch.equal(tokens[0, :77], tokens[1, :77])


def test_both_layouts_give_the_same(weights, tmp_path):
    lightning = read_released(write(tmp_path / "a.ckpt", weights))
    deepspeed = read_released(write(tmp_path / "b.ckpt", weights, "deepspeed"))
    assert lightning.keys() == deepspeed.keys() == weights.keys()
    assert all(torch.equal(lightning[name], deepspeed[name]) for name in weights)


@pytest.mark.slow
def test_an_imported_model_imagines_and_follows_its_actions(imported):
    model = WorldModel.from_pretrained(imported)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 32, 64, 3), dtype=np.uint8)
    session = model.start(frames, np.zeros((2, 3)))
    assert isinstance(session, WindowSession)
    candidates = rng.uniform(-0.5, 0.5, (2, 3, 3))
    both = session.imagine(candidates)
    assert both.frames().shape == (2, 3, 32, 64, 3)
    alone = session.imagine(candidates[1:])
    torch.testing.assert_close(both.latents[1:], alone.latents, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both.latents[0], both.latents[1], atol=1e-3)
    again = session.imagine(candidates, batch_size=2)
    torch.testing.assert_close(both.latents, again.latents, atol=1e-4, rtol=1e-4)
    session.append(frames[0], np.zeros(3))
    assert session.num_history == 3 and session.max_horizon == 3


def refused(source, dest, match):
    with pytest.raises(CheckpointError, match=match):
        import_checkpoint(source, dest, tiny_released_config(), "", text=TEXT)
    assert not dest.exists()
    assert not list(dest.parent.glob(f".{dest.name}*"))


def test_names_that_do_not_fit_are_listed_and_refused(weights, tmp_path):
    extra = {**weights, "model.diffusion_model.surprise.weight": torch.zeros(1)}
    refused(write(tmp_path / "a.ckpt", extra), tmp_path / "out", "unknown  unet.surprise.weight")
    name = next(k for k in weights if k.endswith("time_embed.0.bias"))
    fewer = {k: v for k, v in weights.items() if k != name}
    refused(write(tmp_path / "b.ckpt", fewer), tmp_path / "out", "missing  unet.time_embed.mlp.0")
    name = next(k for k in weights if k.endswith("action_emb_proj.0.weight"))
    other = {**weights, name: torch.zeros(32, 13)}
    refused(write(tmp_path / "c.ckpt", other), tmp_path / "out", r"\(32, 13\) instead of \(32, 3\)")
    no_text = {k: v for k, v in weights.items() if not k.startswith("cond_stage_model")}
    refused(write(tmp_path / "d.ckpt", no_text), tmp_path / "out", "missing  text_tower.")


def by_hand(weights):
    """The empty text's tokens, layer by layer: pre-norm blocks, causal attention, exact GELU."""
    stem = "cond_stage_model.model."
    w = {k.removeprefix(stem): v for k, v in weights.items() if k.startswith(stem)}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    ids = [TEXT.vocabulary - 2, TEXT.vocabulary - 1] + [0] * (TEXT.length - 2)
    x = w["token_embedding.weight"][ids] + w["positional_embedding"]
    future = torch.ones(TEXT.length, TEXT.length).triu(1).bool()
    for block in (f"transformer.resblocks.{i}" for i in range(TEXT.depth - 1)):  # the last but one
        joined = norm(x, f"{block}.ln_1") @ w[f"{block}.attn.in_proj_weight"].T
        joined = joined + w[f"{block}.attn.in_proj_bias"]
        q, k, v = (part.unflatten(1, (TEXT.num_heads, -1)) for part in joined.chunk(3, dim=1))
        scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
        seen = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        mixed = torch.einsum("hij,jhd->ihd", seen, v).flatten(1)
        x = x + linear(mixed, f"{block}.attn.out_proj")
        hidden = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + linear(0.5 * hidden * (1 + torch.erf(hidden / 2**0.5)), f"{block}.mlp.c_proj")
    return norm(x, "ln_final")


def test_the_empty_texts_tokens_are_those_of_the_text_tower(imported, weights):
    tokens = WorldModel.from_pretrained(imported).image_context.text_tokens
    expected = by_hand(weights)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_text_tower_that_does_not_fit_is_refused(weights, tmp_path):
    stem = "cond_stage_model.model.transformer.resblocks.1"
    fewer = {k: v for k, v in weights.items() if k != f"{stem}.attn.in_proj_weight"}
    refused(write(tmp_path / "a.ckpt", fewer), tmp_path / "out", "missing  text_tower.*1.*q_proj")
    no_block = {k: v for k, v in weights.items() if not k.startswith(stem)}
    refused(write(tmp_path / "b.ckpt", no_block), tmp_path / "out", "missing  text_tower.*layers.1")
    wide = {**weights, f"{stem}.attn.in_proj_weight": torch.zeros(2, 32)}
    refused(write(tmp_path / "c.ckpt", wide), tmp_path / "out", "shape    text_tower.*q_proj")
    longer = {**weights, "cond_stage_model.model.positional_embedding": torch.zeros(78, 32)}
    refused(
        write(tmp_path / "d.ckpt", longer), tmp_path / "out", r"\(78, 32\) instead of \(77, 32\)"
    )
    name = f"{stem}.mlp.c_fc.weight"
    broken = {**weights, name: torch.full_like(weights[name], float("nan"))}
    refused(write(tmp_path / "e.ckpt", broken), tmp_path / "out", "text_tower.*fc1.weight: finite")


def test_files_that_are_no_checkpoint_are_refused(weights, tmp_path):
    whole = write(tmp_path / "whole.ckpt", weights).read_bytes()
    truncated = tmp_path / "truncated.ckpt"
    truncated.write_bytes(whole[: len(whole) // 2])
    refused(truncated, tmp_path / "out", "damaged")
    page = tmp_path / "page.ckpt"
    page.write_text("<html>not found</html>")
    refused(page, tmp_path / "out", "22 bytes that begin with b'<html>")
    other = tmp_path / "other.ckpt"
    torch.save([1, 2, 3], other)
    refused(other, tmp_path / "out", "state_dict")
    refused(tmp_path / "none.ckpt", tmp_path / "out", "ckpt file")
    name = next(k for k in weights if k.endswith("out.2.conv2d.weight"))
    broken = {**weights, name: torch.full_like(weights[name], float("nan")).half()}
    refused(write(tmp_path / "nan.ckpt", broken), tmp_path / "out", "unet.out.2.weight: finite")
    large = {**weights, name: torch.full_like(weights[name], 7e4)}
    rule = r"unet.out.2.weight: numbers up to 65504.*--dtype float32 \(got 70000\)"
    refused(write(tmp_path / "large.ckpt", large), tmp_path / "out", rule)
    mixed = tmp_path / "mixed.ckpt"
    torch.save({1: torch.zeros(1), "a": torch.zeros(1)}, mixed)
    refused(mixed, tmp_path / "out", "'state_dict'.*'1', 'a'")


def test_the_old_format_and_python_objects_are_named(weights, tmp_path):
    old = tmp_path / "old.ckpt"
    torch.save({"state_dict": weights}, old, _use_new_zipfile_serialization=False)
    refused(old, tmp_path / "out", "torch's zip format; this is its old one")
    objects = tmp_path / "objects.ckpt"
    torch.save({"state_dict": weights, "hyper_parameters": argparse.Namespace(lr=1)}, objects)
    refused(objects, tmp_path / "out", "holds Python objects")


def test_the_weights_of_another_network_are_refused(tmp_path):
    layers = [torch.nn.Conv2d(3, 8, 7), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 1000)]
    names = ("conv1", "bn1", "fc")
    foreign = torch.nn.ModuleDict(dict(zip(names, layers, strict=True))).state_dict()
    refused(write(tmp_path / "resnet.ckpt", foreign), tmp_path / "out", "unknown  conv1.weight")
    torch.save(foreign, tmp_path / "plain.ckpt")  # as torchvision saves it
    refused(tmp_path / "plain.ckpt", tmp_path / "out", "'state_dict'.*conv1.weight")


def test_float32_is_stored_exactly(weights, tmp_path):
    source = write(tmp_path / "model.ckpt", weights)
    config = tiny_released_config()
    folder = import_checkpoint(
        source, tmp_path / "exact", config, "", text=TEXT, dtype=torch.float32
    )
    model = WorldModel.from_pretrained(folder)
    ours = model.unet.input_blocks[1][0].temporal_conv.conv2[3].weight
    theirs = weights["model.diffusion_model.input_blocks.1.0.temopral_conv.conv2.3.conv3d.weight"]
    assert torch.equal(ours, theirs)


def test_only_hub_sources_go_to_the_hub(monkeypatch, tmp_path, capsys):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        if "missing" in name:
            raise FileNotFoundError(f"no {name} in {repository}")
        return str(tmp_path / "fetched.ckpt")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert find("hf:owner/models/a/b.ckpt") == tmp_path / "fetched.ckpt"
    assert asked == [("owner/models", "a/b.ckpt")]
    common = [str(tmp_path / "out"), "--kind", "vid2world-recon"]
    assert main(["import", "hf:owner/models/missing.ckpt", *common]) == 2
    assert "no missing.ckpt in owner/models" in capsys.readouterr().err
    assert main(["import", "hf:owner", *common]) == 2
    assert "OWNER/REPOSITORY/FILE" in capsys.readouterr().err
    asked.clear()
    assert main(["import", "rnus/models/recon.ckpt", *common]) == 2  # a mistyped path
    assert asked == [] and "rnus/models/recon.ckpt" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["import", "hf:owner/models/a.ckpt", *common]) == 2
    assert "pip install" in capsys.readouterr().err


def test_a_pickle_with_code_is_never_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    torch.save({"state_dict": {"a": Trap()}}, tmp_path / "trap.ckpt")
    refused(tmp_path / "trap.ckpt", tmp_path / "out", "tensors")
    assert not (tmp_path / "trapped").exists()


def test_the_command_names_the_file_and_exits_with_2(tmp_path, capsys):
    arguments = ["import", str(tmp_path / "no.ckpt"), str(tmp_path / "out")]
    assert main([*arguments, "--kind", "vid2world-recon"]) == 2
    assert "no.ckpt" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--kind", "another"])


def test_a_folder_that_cannot_be_made_is_refused(weights, tmp_path):
    source = write(tmp_path / "model.ckpt", weights)
    refused(source, source / "out", "dest: a folder that can be made")


def outputs(model, x):
    """Velocities of clips [1, T, C, H, W] as the model itself would be asked for them."""
    num_frames = x.shape[1]
    generator = torch.Generator().manual_seed(1)
    per_frame, frames = 16, model.config.context.resampler.num_frames
    tokens = torch.randn(1, 77 + frames * per_frame, 32, generator=generator)
    actions = torch.randn(1, 6, 3, generator=generator)[:, :num_frames]
    context = model.frame_context(tokens, num_frames)
    with torch.inference_mode():
        return model.unet(x, torch.full((1, num_frames), 500), actions, context=context)[0]


def leakage(model):
    """How far frames 0..2 move when frame 3 is added, and when it is another; 4 frames are as many
    as there are image tokens for."""
    x = torch.randn(1, 4, model.config.unet.in_channels, 8, 8)
    other = torch.cat([x[:, :3], 3 * torch.randn_like(x[:, 3:])], dim=1)
    whole = outputs(model, x)
    found = outputs(model, x[:, :3]), outputs(model, other)[:, :3]
    return [float((part - whole[:, :3]).abs().max() / whole.std()) for part in found]


@pytest.mark.slow
def test_frame_statistics_end_the_leakage_of_an_imported_model(imported, tmp_path, capsys):
    dest = tmp_path / "causal"
    assert main(["convert-norm", str(imported), str(dest)]) == 0
    before, after = WorldModel.from_pretrained(imported), WorldModel.from_pretrained(dest)
    torch.manual_seed(0)
    assert min(leakage(before)) > 0.01
    longer, other = leakage(after)
    assert longer < 1e-5 and other == 0
    assert before.state_dict().keys() == after.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    assert "# card" in (dest / "README.md").read_text()  # says where the licence is
    assert not after.config.cacheable  # it is still shown an image and its first frame
    assert main(["convert-norm", str(dest), str(tmp_path / "again")]) == 2
    assert "strictly causal already" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_damaged_folder_is_not_converted(imported, tmp_path, capsys):
    source = shutil.copytree(imported, tmp_path / "damaged")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main(["convert-norm", str(source), str(tmp_path / "out")]) == 2
    assert "complete safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
