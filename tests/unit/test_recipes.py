"""The experiments' settings, and the models that a training starts from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("hydra")
pytest.importorskip("transformers")

from core_toys import wake
from vid2world_toys import TINY, settings, small_base, write_episodes

from training.initial_model import initial_model, model_config
from training.train import check_stages, load_settings
from training.trainer import LoopConfig
from training.vid2world import ClipConfig
from v2w_core.cli import main
from v2w_core.config import build_dataclass
from v2w_core.diffusion.objective import ObjectiveConfig, diffusion_forcing_error
from v2w_core.errors import V2WError
from v2w_core.rollout.window_session import WindowSession
from v2w_core.testing import PLANAR_4HZ
from v2w_core.transfer.released import released_action_spec, released_config
from v2w_core.transfer.weight_transfer import causal_kernel
from v2w_core.world_model import WorldModel

DOMAINS = ("rt1", "csgo", "recon")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What v2w import leaves of DynamiCrafter-512, without its weights."""
    folder = tmp_path_factory.mktemp("base")
    config = released_config("dynamicrafter512").to_dict()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("small") / "base")


@pytest.mark.slow
@pytest.mark.parametrize("domain", DOMAINS)
def test_an_experiment_is_the_papers(domain, imported):
    chosen = load_settings([f"+experiment=vid2world_{domain}", f"init_from={imported}"])
    kind = f"vid2world-{domain}"
    config = model_config(chosen, released_action_spec(kind))
    theirs = released_config(kind)
    # the last convolution of the released models is a slip that a trained model need not repeat
    assert config.unet == dataclasses.replace(theirs.unet, height_causal_out=False)
    for part in ("autoencoder", "context", "diffusion", "observation", "action", "num_history"):
        assert getattr(config, part) == getattr(theirs, part), part
    assert config.num_frames == 16

    with torch.device("meta"):  # sizes without memory
        model = WorldModel(config)
        clip = torch.zeros(1, 16, *config.latent_shape)
        told = torch.zeros(1, 16, config.action.dim), torch.ones(1, 16)
        tokens = torch.zeros(1, 77 + 256, 1024)
        level = torch.zeros(1, 16, dtype=torch.long)
    millions = sum(p.numel() for p in model.unet.parameters()) / 1e6
    assert millions == pytest.approx(1440.91, abs=0.02)
    objective = build_dataclass(ObjectiveConfig, chosen["objective"], "objective")
    context = model.frame_context(tokens, 16)
    error, _ = diffusion_forcing_error(
        model.unet, model.schedule, clip, level, clip, *told, objective, context
    )
    assert error.shape == (1, 16)

    assert check_stages(chosen) == ["vid2world"]
    loop = build_dataclass(LoopConfig, chosen["vid2world_loop"], "loop")
    assert loop.num_steps == 100_000 and loop.batch_size * loop.accumulate == 16
    assert {loop.rate_at(step) for step in (0, 1, 50_000, 99_999)} == {1e-5}
    assert (loop.clip_norm, loop.weight_decay, loop.betas) == (0.5, 0.01, (0.9, 0.999))
    assert loop.ema_decay is None and loop.precision == "float16"
    assert objective.past_probability == objective.forced_probability == 0
    assert (objective.action_dropout, objective.weighting) == (0.2, "velocity")
    clip = build_dataclass(ClipConfig, chosen["vid2world"], "vid2world")
    assert clip.augment and clip.image_dropout == (0.05, 0.15)
    sampling = config.sampling
    assert (sampling.num_steps, sampling.history_level, sampling.eta) == (50, 20, 1.0)
    assert (sampling.guidance_scale, sampling.guidance_rescale) == (2.5, 0.7)


def test_an_average_is_optional(imported):
    chosen = load_settings(["+experiment=vid2world_rt1", "vid2world_loop.ema_decay=0.9999"])
    assert build_dataclass(LoopConfig, chosen["vid2world_loop"], "loop").ema_decay == 0.9999


def test_experiments_can_be_shown_and_are_in_the_help(capsys):
    for name in ("rt1", "csgo", "recon", "small"):
        assert main(["train", "--show", f"+experiment=vid2world_{name}"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert "vid2world" in shown["stages"]
        assert shown["vid2world_loop"]["num_steps"] > 1
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for name in ("vid2world_rt1", "vid2world_csgo", "vid2world_recon", "vid2world_small"):
        assert name in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shift", "masked", "extrapolative"])
def test_a_transfer_gives_causal_kernels_and_fresh_actions(base, mode):
    before = WorldModel.from_pretrained(base)
    chosen = settings(f"init_from={base}", f"transfer={mode}")
    model = initial_model(chosen, PLANAR_4HZ, seed=1)
    assert model.config.action_guided and model.config.unet.frame_stride == 3
    after = model.state_dict()
    kernels = 0
    for name, weight in before.state_dict().items():
        if ".temporal_conv.conv" in name and weight.ndim == 5:
            weight = causal_kernel(weight, mode)
            kernels += 1
        assert torch.equal(after.pop(name), weight), name
    assert kernels > 10
    assert after and all(name.startswith("unet.action_embed.") for name in after)
    assert any(value.any() for value in after.values())
    same = initial_model(chosen, PLANAR_4HZ, seed=1).state_dict()
    other = initial_model(chosen, PLANAR_4HZ, seed=2).state_dict()
    name = "unet.action_embed.action_emb_proj.0.weight"
    assert torch.equal(same[name], after[name]) and not torch.equal(other[name], after[name])


@pytest.mark.slow
def test_a_window_of_another_size_extrapolates_from_more_frames(tmp_path):
    wide = ["+model.unet.temporal_kernel=5", "transfer=extrapolative", "transfer_window=3"]
    unet = dataclasses.replace(
        model_config(settings(*wide[:1]), PLANAR_4HZ).unet, causal=False, action_dim=None
    )
    config = dataclasses.replace(model_config(settings(*wide[:1]), PLANAR_4HZ), unet=unet)
    before = wake(WorldModel.build(config))
    folder = before.save_pretrained(tmp_path / "wide")
    model = initial_model(settings(*wide, f"init_from={folder}"), PLANAR_4HZ, seed=1)
    name = "unet.input_blocks.1.0.temporal_conv.conv1.2"
    convs = [made.get_submodule(name) for made in (before, model)]
    times = torch.arange(9.0)[None, :, None, None, None]
    with torch.inference_mode():  # what is linear in time stays as it was, future included
        x = (1 + 0.5 * times).expand(1, 9, 1, 1, convs[0].in_channels)
        centred, causal_out = (conv(x) for conv in convs)
    torch.testing.assert_close(causal_out[:, 4:7], centred[:, 4:7], atol=1e-5, rtol=1e-5)
    two = initial_model(settings(*wide[:2], f"init_from={folder}"), PLANAR_4HZ, seed=1)
    assert not torch.equal(two.get_submodule(name).weight, convs[1].weight)
    with pytest.raises(V2WError, match="window"):
        initial_model(settings(*wide, "transfer_window=6", f"init_from={folder}"), PLANAR_4HZ, 1)


def test_no_frame_of_a_strict_transfer_sees_the_future(base):
    chosen = settings(f"init_from={base}", "transfer=extrapolative", "model.unet.norm_scope=frame")
    unet = wake(initial_model(chosen, PLANAR_4HZ, seed=1).unet)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 24, 4, 4, generator=generator)
    other = torch.cat([x[:, :3], torch.randn(1, 2, 24, 4, 4, generator=generator)], dim=1)
    model = WorldModel.from_pretrained(base)
    tokens = torch.randn(1, 2 + 5 * 4, 64, generator=generator)
    context = model.frame_context(tokens, 5)
    level, actions = torch.full((1, 5), 500), torch.zeros(1, 5, 3)
    with torch.inference_mode():
        first, second = (unet(c, level, actions, context=context)[0] for c in (x, other))
    assert torch.equal(first[:, :3], second[:, :3]) and not torch.equal(first, second)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "model"
    return WorldModel.build(model_config(settings(), PLANAR_4HZ)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["init_from={causal}", "transfer=extrapolative"], "transfer: a base that is not causal"),
        (
            ["init_from={causal}", "transfer=shift", "+model.unet.action_dim=13"],
            "transfer: a base that is not causal",
        ),
        (["init_from={base}"], "transfer: extrapolative, masked or shift"),
        (["transfer=masked"], "init_from: "),
        (["init_from={base}", "transfer=sideways"], "transfer: one of"),
        (["init_from={base}", "transfer=shift", "+model.unet.action_dim=13"], "unet.action_dim"),
        (["init_from={base}", "transfer=shift", "model.unet.ff_mult=2"], "model.unet.ff_mult"),
        (["init_from={base}", "transfer=shift", "model.unet.causal=false"], "model.unet.causal"),
        (["init_from={base}", "transfer=shift", "model.unet.frame_stride=null"], "frame_stride"),
        (["init_from={base}", "transfer=shift", "model.diffusion.base_scale=1"], "diffusion"),
        (["init_from={base}", "transfer=shift", "model.context.num_text=7"], "model.context"),
    ],
)
def test_starts_that_do_not_fit_are_refused(overrides, match, base, causal):
    named = [item.format(base=base, causal=causal) for item in overrides]
    with pytest.raises(V2WError, match=match):
        initial_model(settings(*named), PLANAR_4HZ, seed=0)


def test_actions_of_another_width_are_refused(imported):
    chosen = load_settings(["+experiment=vid2world_csgo", f"init_from={imported}"])
    with pytest.raises(V2WError, match=r"unet.action_dim.* 3 .*got 51"):
        model_config(chosen, PLANAR_4HZ)


def test_a_checkpoints_actions_keep_their_scale(causal):
    data = dataclasses.replace(PLANAR_4HZ, high=(2.0, 0.25, 0.5), scale=(2.0, 0.5, 1.0))
    kept = model_config(settings(f"init_from={causal}"), data).action
    assert (kept.scale, kept.high) == (PLANAR_4HZ.scale, data.high)
    assert model_config(settings(f"init_from={causal}", "action_scale=data"), data).action == data
    slower = dataclasses.replace(data, rate_hz=2.0)
    with pytest.raises(V2WError, match="rate_hz"):
        model_config(settings(f"init_from={causal}"), slower)
    taken = model_config(settings(f"init_from={causal}", "action_scale=data"), slower)
    assert taken.action.rate_hz == 2.0
    with pytest.raises(V2WError, match="action_scale"):
        model_config(settings(f"init_from={causal}", "action_scale=mine"), data)


def test_an_imported_model_is_tuned_on_the_clips_of_its_recipe(tmp_path):
    """RECON's checkpoint rolls out to 20 frames and was trained on 16."""
    config = released_config("vid2world-recon")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    chosen = load_settings(
        ["+experiment=vid2world_recon", "transfer=null", f"init_from={tmp_path}"]
    )
    assert model_config(chosen, config.action).num_frames == 20
    clip = build_dataclass(ClipConfig, chosen["vid2world"], "vid2world")
    assert clip.window(20) == 16
    with pytest.raises(V2WError, match=r"vid2world.num_frames.*window of 12"):
        clip.window(12)


def test_a_stage_without_settings_is_refused():
    with pytest.raises(V2WError, match=r"vid2world_loop.*\+experiment=vid2world_small"):
        check_stages(load_settings(["stages=[vid2world]"]))


@pytest.mark.slow
def test_the_small_recipe_from_episodes_to_imagination(tmp_path, base):
    write_episodes(tmp_path / "episodes", lengths=(12, 9, 8))
    common = [*TINY, f"data.train={tmp_path / 'episodes'}"]
    assert main(["train", *common, f"out={tmp_path / 'scratch'}"]) == 0
    scratch = tmp_path / "scratch" / "checkpoint"
    card = (scratch / "README.md").read_text()
    assert "vid2world | loss_other_actions" in card and "autoencoder | psnr" in card
    start = [f"init_from={base}", "transfer=extrapolative", "stages=[vid2world]"]
    assert main(["train", *common, *start, f"out={tmp_path / 'made'}"]) == 0
    tune = [f"init_from={scratch}", "stages=[vid2world]", "vid2world_loop.ema_decay=0.5"]
    assert main(["train", *common, *tune, f"out={tmp_path / 'tuned'}"]) == 0
    frames = np.random.default_rng(0).integers(0, 255, (2, 24, 32, 3), dtype=np.uint8)
    for name in ("scratch", "made", "tuned"):
        model = WorldModel.from_pretrained(tmp_path / name / "checkpoint")
        session = model.start(frames, np.zeros((1, 3)))
        assert isinstance(session, WindowSession)
        actions = np.random.default_rng(1).uniform(-0.2, 0.2, (2, 3, 3))
        imagined = session.imagine(actions)
        assert imagined.frames().shape == (2, 3, 32, 32, 3)
        assert torch.isfinite(imagined.latents).all()


def test_a_model_that_is_shown_its_first_frame_has_no_cache():
    chosen = settings(
        "model.unet.norm_scope=frame", "model.context=null", "model.unet.context_dim=null"
    )
    model = WorldModel.build(model_config(chosen, PLANAR_4HZ))
    assert not model.config.cacheable
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    assert isinstance(model.start(frames, np.zeros((1, 3))), WindowSession)
