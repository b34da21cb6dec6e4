"""The transfer ablation: pre-training, what the arms begin from, resuming, and its honest page."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from core_toys import small_model, wake

import training.ablation.run as ablation_run
from training.ablation.arms import ARMS, Arm, FineTuningTask, Windows, build_arm
from training.ablation.orderings import MORE_PAIRS, PAIRS, orderings
from training.ablation.report import curves, page, summary
from training.ablation.run import Ablation, AblationConfig
from training.batch_rollout import imagine_latents
from training.latent_video import LatentVideo
from training.trainer import LoopConfig, Trainer
from training.video_pretraining import VideoDiffusionTask, video_config
from v2w_core.data.episode import write_episode
from v2w_core.errors import V2WError
from v2w_core.world_model import WorldModel, tiny_config

CONFIG = tiny_config(size=16)
WINDOW = CONFIG.num_frames


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    held_out = Windows.of(data, starts, 4, CONFIG)
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
    windows = Windows.of(data, data.window_starts(WINDOW), 4, CONFIG)
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


# -- a whole ablation of two arms -----------------------------------------------------------------

TINY = AblationConfig(
    pretrain_steps=4, finetune_steps=6, curve_every=2, batch_size=2, warmup_steps=2,
    curve_windows=4, choice_windows=4, score_windows=4, scales=(1.5, 2.0), model_channels=8,
    channel_mult=(1, 2), unlabelled=0.5, choice_episodes=0.5,
    sampling=dataclasses.replace(CONFIG.sampling, num_steps=2),
)  # fmt: skip
TWO_ARMS = (Arm("masked", False), Arm("extrapolative", True))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part).mkdir()
        for number in range(4):
            write_episode(
                folder / part / f"e{number}.h5",
                frames=rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
                actions=rng.uniform(-0.2, 0.2, (15, 3)).astype(np.float32),
                poses=np.zeros((16, 4)),
                stamps_ns=np.arange(16) * 250_000_000,
                action_spec=CONFIG.action,
                source="toy",
            )
    return folder


@pytest.fixture
def ablation(episodes, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_run, "ARMS", TWO_ARMS)

    network = small_model().save_pretrained(tmp_path / "network")

    def made(name, config=TINY):
        return Ablation(config, network, episodes / "train", episodes / "val", tmp_path / name)

    return made


def test_an_interrupted_run_resumes_to_the_same_numbers_and_a_finished_one_is_skipped(
    ablation, monkeypatch, tmp_path
):
    whole = ablation("whole").run(1)
    steps = []
    original = Trainer._one_step

    def stop_in_the_second_arm(trainer):
        steps.append(trainer.step)
        if len(steps) == TINY.pretrain_steps + TINY.finetune_steps + 4:
            raise KeyboardInterrupt
        return original(trainer)

    monkeypatch.setattr(Trainer, "_one_step", stop_in_the_second_arm)
    with pytest.raises(KeyboardInterrupt):
        ablation("halves").run(1)
    again = ablation("halves").run(1)
    assert numbers(again) == numbers(whole)
    after_pretraining = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 3, 4, 5]  # the first arm stayed as it was
    assert steps[TINY.pretrain_steps :] == after_pretraining
    assert whole["arms"]["masked"]["curves"][0]["steps"] == [0, 2, 4, 6]
    timed = json.loads((tmp_path / "halves" / "minutes.json").read_text())
    assert timed.keys() == {"encoding", "guidance scale"} and again["minutes"] > sum(timed.values())

    monkeypatch.setattr(Trainer, "_one_step", None)  # nothing is left to train
    assert numbers(ablation("halves").run(1)) == numbers(whole)


def numbers(results):
    kept = ("arms", "guidance_choice", "references")
    return json.loads(json.dumps({name: results[name] for name in kept}))


def test_another_ablation_in_the_same_folder_is_refused(ablation):
    ablation("one")
    with pytest.raises(V2WError, match="finetune_steps"):
        ablation("one", dataclasses.replace(TINY, finetune_steps=7))


def test_the_scale_is_the_best_on_its_own_windows(ablation, monkeypatch):
    made = ablation("scale")
    found = {1.0: 30.0, 1.5: 20.0, 2.0: 21.0}  # 1 is not guidance and cannot be chosen
    monkeypatch.setattr(ablation_run.Judge, "psnr", lambda self, model, scale: found[scale])
    monkeypatch.setattr(made, "_model", lambda arm, seed: None)
    scale, table = made.choose_scale()
    assert scale == 2.0
    assert table["1.0"] == {"extrapolative_guided": 30.0}
    assert not set(made.choice_starts) & set(made.test_starts)
    assert not set(made.unlabelled) & set(made.labelled)


@pytest.mark.parametrize(
    ("field", "value"), [("scales", (1.0,)), ("unlabelled", 1.0), ("finetune_steps", 0)]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(V2WError, match=field):
        dataclasses.replace(TINY, **{field: value})


# -- the page -------------------------------------------------------------------------------------


def results(psnr):
    """Results of two seeds in which every arm is as good as ``psnr`` says."""
    arms = {}
    for arm in ARMS:
        values = psnr.get(arm.name, (20.0, 20.1))
        scores = [
            {"psnr": v, "ssim": v / 40, "frechet": 50 - v, "action_gap": v - 18} for v in values
        ]
        curve = {"steps": [0, 2, 4], "error": [1.0, 0.8, 0.7], "action_gap": [0.0, 0.1, 0.2]}
        arms[arm.name] = {"scores": scores, "curves": [curve, curve]}
    return {
        "arms": arms, "num_seeds": 2, "command": "python x", "machine": "a machine",
        "date": "2026-01-01", "minutes": 1.0, "guidance_scale": 1.5, "parameters_m": 1.0,
        "guidance_choice": {"1.0": {"shift_guided": 1.0}, "1.5": {"shift_guided": 2.0}},
        "num_windows": {"pretraining": 1, "fine-tuning": 1, "table": 4},
        "pretraining": {"loss": 0.5}, "settings": dataclasses.asdict(TINY),
        "sources": {"checkpoint": "a_checkpoint"},
        "references": {"last frame repeated": {"psnr": 12.0}},
    }  # fmt: skip


AS_IN_THE_PAPER = {
    "shift": (19.0, 19.2), "masked": (20.0, 20.2), "extrapolative": (21.0, 21.3),
    "masked_guided": (22.0, 22.2), "extrapolative_guided": (23.0, 23.2),
}  # fmt: skip


def lines_of(text, pair):
    return [line for line in text.splitlines() if line.startswith(f"| {pair} |")]


def test_orderings_that_show_are_counted():
    found = orderings(results(AS_IN_THE_PAPER)["arms"], PAIRS)
    claimed = [item for item in found if item.claimed]
    assert len(claimed) == 16  # six pairs, three metrics, less a tie and a thousandth of SSIM
    text = summary(found, 2)
    assert text.startswith("16 of 16 orderings of Table 2 show in every seed")
    assert "do not all show" not in text


def test_an_ordering_that_does_not_hold_is_reported_with_its_numbers():
    reversed_pair = AS_IN_THE_PAPER | {"extrapolative": (18.0, 18.2), "masked": (20.0, 20.3)}
    text = page(results(reversed_pair), ["images/curve.png"])
    lines = lines_of(text, "extrapolative > masked")
    assert "| PSNR (dB) | +0.50 | -2.05 +- 0.07 | **does not show**: 0 of 2 seeds |" in lines[0]
    assert "Frechet distance | +0.80 | -2.05" in lines[2]
    assert "**They do not all show.** Missing or unclear: " in text
    assert "extrapolative > masked in PSNR (dB), SSIM, Frechet distance" in text
    assert "masked > shift in" not in text


def test_one_seed_of_two_is_unclear_and_ties_of_the_paper_are_no_orderings():
    mixed = AS_IN_THE_PAPER | {"masked": (19.5, 19.1)}
    text = page(results(mixed), ["images/curve.png"])
    assert "**unclear**: on average only, 1 of 2 seeds" in lines_of(text, "masked > shift")[0]
    guided = lines_of(text, "extrapolative, guided > masked, guided")
    assert guided[0].endswith("| no such ordering in the paper |")
    beyond = orderings(results(mixed)["arms"], MORE_PAIRS)
    assert all(item.paper is None for item in beyond)


def test_curves_are_a_picture():
    for guided in (True, False):
        assert curves(results({}), guided=guided).startswith(b"\x89PNG")


def test_a_page_says_when_its_orderings_mean_little():
    weak = results(AS_IN_THE_PAPER)
    weak["references"]["last frame repeated"] = {"psnr": 23.0, "ssim": 0.9}
    for arm in weak["arms"].values():
        for scores in arm["scores"]:
            scores["action_gap"] = 0.01
    weak["guidance_scale"] = 2.0
    text = page(weak, [])
    assert "All arms lie within 3.90 dB of repeating the last frame (23.00 dB) and below" in text
    assert "cannot be interpreted" in text and "2 is the edge of what was tried" in text
    strong = results(AS_IN_THE_PAPER)
    strong["settings"]["scales"] = (1.25, 1.5, 2.0)
    text = page(strong, [])
    for words in ("within", "cannot be interpreted", "edge"):
        assert words not in text.split("## The paper's orderings")[1]
