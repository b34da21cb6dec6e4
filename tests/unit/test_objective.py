"""Noise schedule, sampling levels, guidance and the training objective."""

from __future__ import annotations

import pytest
import torch
from core_toys import small_model, small_unet

from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.objective import (
    ObjectiveConfig,
    draw_noise_levels,
)
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.diffusion.schedule import DiffusionConfig, NoiseSchedule, trailing_levels
from v2w_core.diffusion.training_loss import (
    ForcedClips,
    Trained,
    draw_depth,
    imagined_past,
    training_loss,
    with_displacements,
)
from v2w_core.errors import V2WError
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.motion_head import split_motion
from v2w_core.testing import geometric_config, tiny_config


@pytest.fixture(scope="module")
def schedule():
    return NoiseSchedule(DiffusionConfig())


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_schedule_ends_in_pure_noise_and_falls_all_the_way(schedule):
    alphas = schedule.alphas_cumprod
    assert alphas.shape == (1000,)
    assert alphas[-1] == 0
    assert (alphas.diff() < 0).all()
    plain = NoiseSchedule(DiffusionConfig(zero_terminal_snr=False)).alphas_cumprod
    assert plain[-1] > 0
    torch.testing.assert_close(alphas[0], plain[0])
    noise = random(2, 3)
    level = torch.full((2,), 999)
    assert torch.equal(schedule.add_noise(random(2, 3, seed=1), noise, level), noise)


def test_velocity_is_undone_at_every_level(schedule):
    levels = torch.tensor([[0, 1, 250, 500, 998, 999]])
    x0, noise = random(1, 6, 4, 2, 2), random(1, 6, 4, 2, 2, seed=1)
    noisy = schedule.add_noise(x0, noise, levels)
    velocity = schedule.velocity(x0, noise, levels)
    found_x0, found_noise = schedule.from_velocity(noisy, velocity, levels)
    torch.testing.assert_close(found_x0, x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_noise, noise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(velocity[:, -1], -x0[:, -1])  # of pure noise: the frame itself


def test_trailing_levels():
    assert trailing_levels(1) == [999]
    assert trailing_levels(2) == [999, 499]
    assert trailing_levels(4) == [999, 749, 499, 249]
    assert trailing_levels(1000) == list(range(999, -1, -1))
    assert trailing_levels(3) == [999, 666, 332]
    for bad in (0, -1, 1001):
        with pytest.raises(V2WError, match="num_sampling_steps"):
            trailing_levels(bad)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_a_perfect_denoiser_gives_the_clean_frame(schedule, num_steps):
    x0 = random(2, 1, 4, 2, 2, seed=4)
    seen = []

    def denoise(x, level):
        seen.append(int(level[0, 0]))
        signal, sigma = schedule.signal_and_noise(level, x.ndim)
        return (signal * x - x0) / sigma

    found = ddim_sample(denoise, schedule, random(2, 1, 4, 2, 2), num_steps)
    torch.testing.assert_close(found, x0, atol=1e-4, rtol=1e-4)
    assert seen == trailing_levels(num_steps)


def test_guidance_algebra():
    with_action, without = random(2, 3, 4), random(2, 3, 4, seed=1)
    torch.testing.assert_close(guide(with_action, without, 1.0), with_action)
    torch.testing.assert_close(guide(with_action, without, 0.0), without)
    full = guide(with_action, without, 3.0, rescale=1.0)
    torch.testing.assert_close(full.std(dim=(1, 2)), with_action.std(dim=(1, 2)))


def test_noise_levels_differ_between_frames_and_some_pasts_are_nearly_clean():
    config = ObjectiveConfig()
    levels = draw_noise_levels(4000, 12, 1000, config, torch.Generator().manual_seed(0))
    assert levels.shape == (4000, 12)
    assert levels.dtype == torch.int64
    assert levels.min() >= 0
    assert levels.max() == 999
    past = (levels[:, : config.min_past] <= config.past_max_level).all(dim=1)
    assert abs(past.float().mean() - config.past_probability) < 0.05
    blind = (levels[:, -1] == 999).float().mean()
    assert abs(blind - config.blind_probability) < 0.05
    independent = ObjectiveConfig(past_probability=0.0, blind_probability=0.0)
    levels = draw_noise_levels(4000, 3, 1000, independent, torch.Generator().manual_seed(0))
    assert abs(torch.corrcoef(levels.T.float())[0, 1]) < 0.05
    assert abs(levels.float().mean() - 499.5) < 10


@pytest.mark.parametrize("weighting", ["velocity", "x0"])
@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_the_loss_repeats_and_reaches_every_weight(weighting, forced, schedule):
    unet = small_unet()
    latents, actions = random(2, 6, 4, 4, 4), random(2, 6, 3, seed=1)
    config = ObjectiveConfig(weighting=weighting, forced_probability=forced)

    def loss(last=0.0):
        given = actions.clone()
        given[:, -1] += last
        generator = torch.Generator().manual_seed(7)
        return training_loss(Trained(unet, schedule), latents, given, config, generator)

    first = loss()
    first.backward()
    assert torch.equal(first, loss())
    assert torch.equal(first, loss(last=5.0))  # no frame follows the last action
    missing = [n for n, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    assert torch.isfinite(first)


def test_dropping_all_actions_makes_them_irrelevant(schedule):
    unet = small_unet()
    latents = random(1, 4, 4, 4, 4)
    config = ObjectiveConfig(action_dropout=1.0)
    losses = [
        training_loss(Trained(unet, schedule), latents, random(1, 4, 3, seed=seed), config,
                               torch.Generator().manual_seed(0))
        for seed in (1, 2)
    ]  # fmt: skip
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    "changes",
    [{"action_dropout": 1.5}, {"past_probability": -0.1}, {"forced_probability": 2},
     {"weighting": "best"}, {"past_probability": 0.1, "blind_probability": 0.2}],
)  # fmt: skip
def test_bad_settings_are_refused(changes):
    with pytest.raises(V2WError, match="ObjectiveConfig"):
        ObjectiveConfig(**changes)


def test_the_imagined_past_is_the_models_own_and_the_loss_is_of_the_recorded_frames(schedule):
    unet = small_unet()
    seen = []
    forward = unet.forward_teacher_forced

    def spy(past, past_level, targets, target_level, *told):
        seen.append((past, targets, target_level, torch.is_grad_enabled()))
        return forward(past, past_level, targets, target_level, *told)

    unet.forward_teacher_forced = spy
    latents, actions = random(4, 6, unet.config.in_channels, 8, 8), random(4, 6, 3)
    config = ObjectiveConfig(
        forced_probability=1, imagined_past_probability=1, forced_past_max_level=0
    )
    trained, generator = Trained(unet, schedule), torch.Generator().manual_seed(1)
    loss = training_loss(trained, latents, actions, config, generator)
    (recorded, noise, level, with_gradients), (past, *_) = seen
    assert len(seen) == 2 and not with_gradients
    assert torch.equal(recorded, latents[:2]) and (level == 999).all()
    kept = (
        torch.isclose(past, latents[:2], atol=0.2).flatten(2).all(2)
    )  # level 0 is not quite clean
    assert kept[:, : config.min_past].all() and not kept.all()
    assert (kept[:, :-1] >= kept[:, 1:]).all()  # from one frame on
    known = torch.ones(2, 6, dtype=torch.bool)
    known[:, 0] = False
    with torch.no_grad():
        told = torch.cat([torch.zeros(2, 1, 3), actions[:2, :-1]], dim=1), known
        _, velocity = forward(recorded, torch.zeros_like(level), noise, level, *told)
    imagined = -velocity  # of pure noise
    gap = (past - imagined)[~kept].abs().max()
    assert gap < 0.2
    loss.backward()
    assert all(p.grad is not None for p in unet.parameters())


@pytest.fixture(scope="module")
def geometric():
    """A model with a condition and a motion head, and what its loss is computed with."""
    model = small_model(geometric_config)
    return Trained(model.unet, model.schedule, model.condition, model.motion_head)


def clips_of(latents, actions, **others):
    known = torch.ones(actions.shape[:2], dtype=torch.bool)
    known[:, 0] = False
    return ForcedClips(latents, shift_actions(actions), known, **others)


@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_the_loss_of_a_model_that_uses_geometry_reaches_every_weight(geometric, forced):
    latents, actions = random(6, 6, 4, 4, 4), random(6, 6, 3, seed=1)
    config = ObjectiveConfig(
        forced_probability=forced, displacement_probability=0.5, imagined_past_probability=1,
        self_rollout_depth=3, self_rollout_gradient_passes=2,
    )  # fmt: skip

    def loss(motion=0.0, last=0.0):
        given, moved = actions.clone(), actions + motion
        given[:, -1] += last
        generator = torch.Generator().manual_seed(7)
        return training_loss(geometric, latents, given, config, generator, motion=moved)

    first = loss()
    first.backward()
    assert torch.equal(first, loss()) and torch.equal(first, loss(last=5.0))
    assert not torch.equal(first, loss(motion=0.3))
    missing = [
        n for n, p in geometric.unet.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert missing == []
    geometric.unet.zero_grad()


@torch.no_grad()
def test_teacher_forcing_gives_each_frame_what_a_rollout_gives_it(geometric):
    """The targets of one pass are the frames of rollouts of length one, from the cache."""
    latents, actions = random(2, 5, 4, 4, 4), random(2, 5, 3, seed=1)
    clips = clips_of(latents, actions)
    noise, clean = random(2, 5, 4, 4, 4, seed=2), torch.zeros(2, 5, dtype=torch.long)
    velocity, means = geometric.teacher_forced(
        latents, clean, noise, clean + 999, latents, clips, clips.action_mask
    )
    cache = None
    for t in range(5):
        now = slice(t, t + 1)
        told = clips.actions[:, now], clips.action_mask[:, now]
        before = latents[:, t - 1 : t] if t else torch.zeros_like(latents[:, :1])
        moved = geometric.condition(before, told[0])
        output, _ = geometric.unet(
            torch.cat([noise[:, now], moved], dim=2), clean[:, now] + 999, *told, cache=cache
        )
        v, m = split_motion(output, 4)
        torch.testing.assert_close(velocity[:, now], v, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(means[:, now], m, atol=1e-5, rtol=1e-4)
        given = torch.cat([latents[:, now], moved], dim=2)
        _, cache = geometric.unet(given, clean[:, now], *told, cache=cache)


@pytest.mark.parametrize("make", [tiny_config, geometric_config])
@torch.no_grad()
def test_passes_as_many_as_frames_are_a_rollout(make):
    """Self-rollouts: each pass makes every frame one step deeper."""
    model = small_model(make)
    trained = Trained(model.unet, model.schedule, model.condition, model.motion_head)
    latents, actions = random(3, 6, 4, 4, 4), random(3, 6, 3, seed=1)
    config, clips = ObjectiveConfig(min_past=2), clips_of(latents, actions)
    found = {
        depth: imagined_past(trained, clips, config, depth, torch.Generator().manual_seed(3))[0]
        for depth in (1, 2, 5)
    }
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(latents.shape, generator=generator)
    cut = torch.randint(2, 7, (3, 1), generator=generator)
    assert len(set(cut.flatten().tolist())) > 1
    clean, rolled = torch.zeros(3, 6, dtype=torch.long), latents.clone()
    for t in range(2, 6):
        velocity, _ = trained.teacher_forced(
            rolled, clean, noise, clean + 999, rolled, clips, clips.action_mask
        )
        rolled[:, t] = torch.where((cut <= t)[..., None, None], -velocity[:, t], latents[:, t])
    torch.testing.assert_close(found[5], rolled, atol=1e-4, rtol=1e-4)
    first = (torch.arange(6) == cut)[..., None, None, None]
    second = (torch.arange(6) <= cut + 1)[..., None, None, None]
    for depth, right in ((1, first), (2, second)):
        torch.testing.assert_close(found[depth] * right, rolled * right, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found[depth], rolled, atol=1e-2)


def test_gradients_flow_through_the_last_passes_only(geometric):
    latents, actions = random(2, 6, 4, 4, 4), random(2, 6, 3, seed=1)
    clips = clips_of(latents, actions)
    for passes, flows in ((0, False), (1, True), (2, True)):
        config = ObjectiveConfig(self_rollout_depth=3, self_rollout_gradient_passes=passes)
        frames, _ = imagined_past(geometric, clips, config, 3, torch.Generator().manual_seed(0))
        assert frames.requires_grad == flows
    with torch.no_grad():
        frames, _ = imagined_past(geometric, clips, config, 3, torch.Generator().manual_seed(0))
        assert not frames.requires_grad


def test_imagined_pasts_get_deeper_as_the_training_goes_on():
    config = ObjectiveConfig(self_rollout_depth=5, imagined_past_after=0.5)

    def drawn(progress):
        generator = torch.Generator().manual_seed(0)
        return {draw_depth(config, progress, generator) for _ in range(200)}

    assert drawn(0.5) == {1}
    assert drawn(0.75) == {1, 2, 3}
    assert drawn(1.0) == {1, 2, 3, 4, 5}
    assert draw_depth(ObjectiveConfig(), 1.0, torch.Generator()) == 1


def test_displacements_stand_for_commands_in_recorded_past_frames_only(geometric):
    latents, actions = random(8, 6, 4, 4, 4), random(8, 6, 3, seed=1)
    clips = clips_of(latents, actions, motion=shift_actions(actions + 1))
    config, generator = ObjectiveConfig(displacement_probability=0.5), torch.Generator()
    told = with_displacements(clips, config, generator.manual_seed(0))
    assert torch.equal(told.actions, clips.actions)
    measured = (told.past_actions == clips.motion).all(dim=(1, 2))
    assert 0 < measured.sum() < 8
    assert torch.equal(told.past_actions[~measured], clips.actions[~measured])
    frames, told = imagined_past(geometric, told, config, 1, generator)
    imagined = (frames != latents).any(dim=4).any(dim=3).any(dim=2)
    assert imagined.any() and not imagined[:, :2].any()
    commands = (told.past_actions == clips.actions).all(dim=2)
    assert commands[imagined].all()
    assert not commands[measured][:, 1].any()  # no action leads to the first frame


@pytest.mark.parametrize("changes", [
    {"self_rollout_depth": 0}, {"self_rollout_gradient_passes": 2}, {"motion_weight": -1.0},
    {"motion_weight": float("nan")}, {"displacement_probability": 1.1},
])  # fmt: skip
def test_bad_settings_of_self_rollouts_are_named(changes):
    with pytest.raises(V2WError, match=f"ObjectiveConfig.{next(iter(changes))}"):
        ObjectiveConfig(**changes)
