"""The transfer ablation's parts: pre-training, what the arms begin from, and their rollouts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ablation_toys import CONFIG
from core_toys import small_model, wake

from training.ablation.arms import ARMS, Arm, FineTuningTask, Windows, build_arm
from training.batch_rollout import imagine_latents
from training.latent_video import LatentVideo
from training.trainer import LoopConfig, Trainer
from training.video_pretraining import VideoDiffusionTask, video_config
from v2w_core.errors import V2WError
from v2w_core.world_model import WorldModel

WINDOW = CONFIG.num_frames


def video(num_episodes=4, length=20, seed=0):
    """Latents that move evenly, so that there is something to learn in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    shape = CONFIG.latent_shape
    actions = torch.randn(num_episodes, length, 3, generator=generator)
    start = torch.randn(num_episodes, 1, *shape, generator=generator)
    drift = 0.1 * torch.randn(num_episodes, 1, *shape, generator=generator)
    latents = start + drift * torch.arange(length)[None, :, None, None, None]
    starts = np.arange(num_episodes + 1) * length
    return LatentVideo(latents.flatten(0, 1), actions.flatten(0, 1), starts)


@pytest.fixture(scope="module")
def base():
    return wake(WorldModel.build(video_config(CONFIG), seed=5))


@pytest.mark.slow
def test_the_base_learns_whole_clips_and_sees_the_future(tmp_path):
    model, data = WorldModel.build(video_config(CONFIG)), video()
    starts = data.window_starts(WINDOW)
    task = VideoDiffusionTask(model, data, starts, data, starts, batch_size=8)
    before = task.validate()["loss"]
    loop = LoopConfig(num_steps=40, learning_rate=5e-3, warmup_steps=5, ema_decay=0.5)
    assert Trainer(task, loop, tmp_path, seed=0).run()["loss"] < 0.8 * before
    clip = data.latents[None, :WINDOW].clone()
    level = torch.full((1, WINDOW), 500)
    with torch.no_grad():
        first, _ = model.unet(clip, level)
        clip[:, -1] += 1
        second, _ = model.unet(clip, level)
    assert not torch.equal(first[:, -2], second[:, -2])


def test_a_clip_has_one_noise_level_and_no_actions():
    model, data = WorldModel.build(video_config(CONFIG)), video()
    starts = data.window_starts(WINDOW)
    task = VideoDiffusionTask(model, data, starts, data, starts, batch_size=8)
    seen = given_to(model.unet)
    task.loss(torch.Generator().manual_seed(0), 0.0)
    (x, level), rest = seen[0][:2], seen[0][2:]
    assert x.shape[:2] == level.shape == (8, WINDOW)
    assert (level == level[:, :1]).all() and len(level[:, 0].unique()) > 1
    assert all(given is None for given in rest)
    with pytest.raises(V2WError, match="neither causal"):
        VideoDiffusionTask(WorldModel.build(CONFIG), data, starts, data, starts, 8)


def given_to(unet):
    """What the network is called with from now on."""
    calls = []
    unet.register_forward_pre_hook(lambda _module, args: calls.append(args))
    return calls


def temporal_convs(model):
    return [
        module
        for name, module in model.unet.named_modules()
        if ".temporal_conv.conv" in name and hasattr(module, "kernel")
    ]


@torch.no_grad()
def test_before_fine_tuning_only_extrapolative_keeps_what_moves_evenly(base):
    times = torch.arange(8.0)[None, :, None, None, None]
    worst = {}
    for mode in ("shift", "masked", "extrapolative"):
        model = build_arm(Arm(mode, True), base, CONFIG, seed=0)
        errors = []
        for before, after in zip(temporal_convs(base), temporal_convs(model), strict=True):
            x = 1 + 0.5 * times * torch.ones(1, 8, 1, 1, before.in_channels)
            errors.append((before(x) - after(x))[:, 2:-1].abs().max())
        worst[mode] = float(max(errors))
    assert worst["extrapolative"] < 1e-5 < 1e-2 < min(worst["shift"], worst["masked"])


@pytest.mark.slow
def test_all_arms_of_a_seed_share_their_action_layers_and_autoencoder(base):
    models = [build_arm(arm, base, CONFIG, seed=7) for arm in ARMS]
    other = build_arm(ARMS[0], base, CONFIG, seed=8)
    key = "action_embed.action_emb_proj.0.weight"
    first = models[0].unet.state_dict()[key]
    assert not torch.equal(other.unet.state_dict()[key], first)
    for model in models:
        assert torch.equal(model.unet.state_dict()[key], first)
        for name, value in base.autoencoder.state_dict().items():
            assert torch.equal(model.autoencoder.state_dict()[name], value)


def test_arms_share_clips_levels_and_noise_and_differ_in_dropped_actions(base):
    data = video()
    starts = data.window_starts(WINDOW)
    held_out = Windows.evenly_spaced(data, starts, 4, CONFIG)
    seen = []
    for arm in (Arm("shift", False), Arm("extrapolative", True), Arm(None, True)):
        model = build_arm(arm, base, CONFIG, seed=0)
        task = FineTuningTask(model, arm, data, starts, 4, held_out)
        calls = given_to(model.unet)
        task.loss(torch.Generator().manual_seed(3), 0.0)
        seen.append(calls[0])
    for x, level, actions, _ in seen[1:]:
        assert torch.equal(x, seen[0][0])
        assert torch.equal(level, seen[0][1])
        assert torch.equal(actions, seen[0][2])
    assert (seen[0][1][0].unique()).numel() > 1  # a level for every frame
    masks = [call[3] for call in seen]
    assert masks[0][:, 1:].all() and not masks[0][:, 0].any()
    assert not masks[1][:, 1:].all() and torch.equal(masks[1], masks[2])


def test_other_actions_are_another_episodes_from_the_last_given_frame_on():
    data = video()
    windows = Windows.evenly_spaced(data, data.window_starts(WINDOW), 4, CONFIG)
    given = CONFIG.num_history - 1
    assert torch.equal(windows.actions[:, :given], windows.other_actions[:, :given])
    assert (windows.actions[:, given:] != windows.other_actions[:, given:]).all()
    episodes = windows.frames[:, 0] // 20
    assert len(episodes.unique()) == 4


def test_batch_rollouts_add_noise_as_configured_and_refuse_what_cannot_be_cached():
    data = video()
    history, actions = data.latents[None, :4], data.actions[None, :7]

    def imagined(model):
        return imagine_latents(model, history, actions, torch.Generator().manual_seed(0))

    assert not torch.allclose(imagined(small_model(eta=1.0)), imagined(small_model()))
    model = small_model()
    unet = dataclasses.replace(model.config.unet, norm_scope="clip")
    model.config = dataclasses.replace(model.config, unet=unet)
    with pytest.raises(V2WError, match="cached"):
        imagined(model)


def test_guidance_acts_through_the_action_only():
    model, data = small_model(), video()
    history, actions = data.latents[None, :4], data.actions[None, :7]

    def imagined(scale):
        return imagine_latents(model, history, actions, torch.Generator().manual_seed(0), scale)

    assert imagined(1.0).shape == (1, 3, *CONFIG.latent_shape)
    assert not torch.allclose(imagined(1.0), imagined(2.0))
    with torch.no_grad():
        for parameter in model.unet.action_embed.parameters():
            parameter.zero_()
    torch.testing.assert_close(imagined(1.0), imagined(2.0), atol=1e-4, rtol=1e-4)
