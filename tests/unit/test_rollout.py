"""Sessions: rollouts that do not depend on how they are computed."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from core_toys import candidates, history, small_model

from v2w_core.backends.eager import Eager
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import Interrupted, V2WError
from v2w_core.rollout.memory_budget import candidate_bytes
from v2w_core.rollout.session import Session
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel

HORIZON = 3


@pytest.fixture(scope="module")
def model(make_config):
    return small_model(make_config)


def given(model, window, clean, known):
    """The U-Net's input [1, T, ...] of noisy frames: beside each the clean one before, moved."""
    if model.condition is None:
        return window
    before = torch.cat([torch.zeros_like(clean[:, :1]), clean[:, : window.shape[1] - 1]], dim=1)
    return torch.cat([window, model.condition(before, known)], dim=2)


@torch.inference_mode()
def recomputed(model, frames, past, actions, seed):
    """The rollout of one candidate without any cache: the whole window at every network pass."""
    spec, sampling, schedule = model.config.action, model.config.sampling, model.schedule
    clean = list(model.encode(frames))
    known = model.tensor(spec.normalise(np.concatenate([np.zeros((1, spec.dim)), past])))
    shape = model.config.latent_shape

    def noise(count, seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(shape, generator=generator) for _ in range(count)]

    held = noise(len(clean), seed)
    drawn = noise(2 * len(actions), seed + 1_000_003)
    small = torch.tensor(sampling.history_level)
    for step, action in enumerate(model.tensor(spec.normalise(actions))):
        known = torch.cat([known, action[None]])
        mask = torch.ones(1, len(known), dtype=torch.bool)
        mask[0, 0] = False
        past_frames = [schedule.add_noise(c, n, small) for c, n in zip(clean, held, strict=True)]

        before = torch.stack(clean)[None]

        def denoise(x, level, past_frames=past_frames, known=known, mask=mask, before=before):
            window = torch.cat([torch.stack(past_frames)[None], x], dim=1)
            levels = torch.full(window.shape[:2], sampling.history_level)
            levels[:, -1:] = level
            window = given(model, window, before, known[None])
            v, _ = model.unet(window, levels, known[None], mask)
            return v[:, -1:, : x.shape[2]]

        x = ddim_sample(denoise, schedule, drawn[2 * step][None, None], sampling.num_steps)
        clean.append(x[0, 0])
        held.append(drawn[2 * step + 1])
    return torch.stack(clean[len(frames) :])


def test_cached_rollout_is_the_recomputed_whole_window(model):
    frames, past = history()
    actions = candidates(1, HORIZON)
    cached = model.start(frames, past, seed=5).imagine(actions).latents[0]
    expected = recomputed(model, frames, past, actions[0], seed=5)
    torch.testing.assert_close(cached, expected, atol=1e-4, rtol=1e-4)


def test_many_candidates_are_one_by_one_and_batches_change_nothing(model):
    session = model.start(*history())
    actions = candidates(5, HORIZON)
    together = session.imagine(actions)
    assert together.latents.shape == (5, HORIZON, *model.config.latent_shape)
    assert together.frames_imagined == 15
    one_by_one = torch.cat([session.imagine(row[None]).latents for row in actions])
    torch.testing.assert_close(together.latents, one_by_one, atol=1e-5, rtol=1e-5)
    for batch_size in (1, 2, 64):
        batched = session.imagine(actions, batch_size=batch_size).latents
        torch.testing.assert_close(batched, together.latents, atol=1e-5, rtol=1e-5)


def test_as_many_candidates_at_once_as_the_budget_allows(model, monkeypatch):
    sizes = []
    start = Eager.start

    def noted(self, history, batch_size, num_suffix):
        sizes.append(batch_size)
        return start(self, history, batch_size, num_suffix)

    monkeypatch.setattr(Eager, "start", noted)
    model = small_model()
    session = model.start(*history())
    actions = candidates(9, HORIZON)
    expected = session.imagine(actions).latents
    assert sizes == [9]
    one = candidate_bytes(model, HORIZON, guided=False)
    for fits, parts in ((1, [1] * 9), (3.9, [3, 3, 3]), (4, [3, 3, 3]), (6, [5, 4]), (99, [9])):
        sizes.clear()
        model.memory_budget = int(fits * one)
        ours = session.imagine(actions).latents
        assert sizes == parts
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    model.memory_budget = one - 1
    with pytest.raises(V2WError, match=r"memory budget: at least 1 MiB, what one candidate needs"):
        session.imagine(actions)
    with pytest.raises(V2WError, match="batch_size"):
        session.imagine(actions, batch_size=0)


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer"),
])  # fmt: skip
def test_where_memory_runs_out_half_as_many_are_tried(model, monkeypatch, caplog, error):
    session = model.start(*history())
    actions = candidates(7, HORIZON)
    expected = session.imagine(actions).latents
    step, most = Eager.step, 2

    def greedy(self, latents, *given, **options):
        if len(latents) > most:
            raise error
        return step(self, latents, *given, **options)

    monkeypatch.setattr(Eager, "step", greedy)
    with caplog.at_level(logging.WARNING):
        ours = session.imagine(actions).latents
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"out of memory: going on with {n} candidates at once" for n in (3, 1)]
    most = 0
    with pytest.raises(V2WError, match="memory for one candidate"):
        session.imagine(actions)


def test_only_what_is_asked_for_is_decoded(model, monkeypatch):
    decoded = []
    decode = model.autoencoder.decode

    def counted(latents):
        decoded.append(len(latents))
        return decode(latents)

    monkeypatch.setattr(model.autoencoder, "decode", counted)
    rollouts = model.start(*history()).imagine(candidates(4, HORIZON))
    assert decoded == []
    rollouts.frames([2])
    assert decoded == [HORIZON]


def test_an_action_changes_its_own_frame_and_later_ones_only(model):
    session = model.start(*history())
    actions = candidates(1, HORIZON)
    changed = actions.copy()
    changed[0, 1] = -changed[0, 1] * 0.5
    before, after = session.imagine(actions).latents, session.imagine(changed).latents
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.equal(before[:, 1], after[:, 1])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_a_shorter_horizon_gives_the_beginning(model):
    session = model.start(*history())
    actions = candidates(2, HORIZON)
    long = session.imagine(actions).latents
    short = session.imagine(actions[:, :2]).latents
    torch.testing.assert_close(short, long[:, :2], atol=1e-5, rtol=1e-5)
    other = session.imagine(actions[:, :2], seed=9).latents
    assert not torch.equal(short, other)


def test_sampling_noise_is_shared_so_batches_still_change_nothing(make_config):
    session = small_model(make_config, eta=1.0).start(*history())
    actions = candidates(3, HORIZON)
    together = session.imagine(actions).latents
    batched = session.imagine(actions, batch_size=1).latents
    torch.testing.assert_close(batched, together, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_denoised_history_is_the_whole_window_with_the_future_as_pure_noise(make_config):
    model = small_model(make_config, imagined_history="reuse")
    frames, past = history()
    actions = candidates(2, HORIZON)
    session = model.start(frames, past, seed=5)
    cached = session.imagine(actions, num_sampling_steps=1).latents
    spec, length = model.config.action, len(frames) + HORIZON
    first = np.zeros((2, 1, spec.dim))
    known = np.concatenate([first, np.broadcast_to(past, (2, *past.shape)), actions], axis=1)
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[:, 0] = False

    def noise(count, seed):
        generator = torch.Generator().manual_seed(seed)
        shape = model.config.latent_shape
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(count)])

    levels = torch.full((2, length), 999)
    levels[:, : len(frames)] = model.config.sampling.history_level
    small = levels[0, : len(frames)]
    past_latents = model.schedule.add_noise(model.encode(frames), noise(len(frames), 5), small)
    future = noise(2 * HORIZON, 5 + 1_000_003)[0::2]
    window = torch.cat([past_latents, future]).expand(2, -1, -1, -1, -1)
    clean = torch.cat([model.encode(frames).expand(2, -1, -1, -1, -1), cached], dim=1)
    told = model.tensor(spec.normalise(known))
    v, _ = model.unet(given(model, window, clean, told), levels, told, mask)
    expected, _ = model.schedule.from_velocity(window, v[:, :, : window.shape[2]], levels)
    torch.testing.assert_close(cached, expected[:, len(frames) :], atol=1e-4, rtol=1e-4)


def test_streaming_is_starting_from_the_longer_history(model):
    frames, past = history(length=6)
    streamed = model.start(frames[:4], past[:3], seed=2)
    for frame, action in zip(frames[4:], past[3:], strict=True):
        streamed.append(frame, action)
    assert streamed.num_history == 6
    longer = dataclasses.replace(model.config, num_history=6)
    scratch = type(model)(longer).eval()
    scratch.load_state_dict(model.state_dict())
    fresh = scratch.start(frames, past, seed=2)
    assert fresh.num_history == 6
    actions = candidates(2, HORIZON)
    torch.testing.assert_close(
        streamed.imagine(actions).latents, fresh.imagine(actions).latents, atol=1e-4, rtol=1e-4
    )


def test_guidance_of_scale_1_is_none_and_of_2_is_some(model):
    session = model.start(*history())
    actions = candidates(2, HORIZON)
    plain = session.imagine(actions).latents
    assert torch.equal(session.imagine(actions, guidance_scale=1.0).latents, plain)
    near = session.imagine(actions, guidance_scale=1.0 + 1e-6).latents
    torch.testing.assert_close(near, plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(session.imagine(actions, guidance_scale=2.0).latents, plain)


class TwoPasses(Eager):
    """Guidance as the paper describes it: the newest frame once more, its action masked."""

    def step(self, latents, level, actions, mask, past, *, keep=True, guided=False):
        v, after = super().step(latents, level, actions, mask, past, keep=keep)
        if not guided:
            return v, after
        newest = (latents[:, -1:], level[:, -1:], actions[:, -1:], ~mask[:, -1:])
        before = after if latents.shape[1] == 2 else past
        plain, _ = super().step(*newest, before, keep=False)
        return torch.cat([v, plain], dim=1), after


@pytest.mark.parametrize("mode", ["reencode", "reuse"])
@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_guidance_in_one_pass_is_guidance_in_two(make_config, mode, num_steps, scale):
    model = small_model(make_config, imagined_history=mode, guidance_rescale=0.7).double()
    sampling = {"num_sampling_steps": num_steps, "guidance_scale": scale}
    results = []
    for backend in (Eager(model.unet), TwoPasses(model.unet)):
        session = model.start(*history())
        session.backend = backend
        results.append(session.imagine(candidates(3, 5), **sampling).latents)
    torch.testing.assert_close(results[0], results[1], atol=1e-9, rtol=1e-9)


def test_frames_are_images_of_the_models_size(model):
    rollouts = model.start(*history(size=48)).imagine(candidates(3, 2))
    assert rollouts.frames().shape == (3, 2, 16, 16, 3)
    assert rollouts.frames([1]).shape == (1, 2, 16, 16, 3)
    assert rollouts.frames().dtype == np.uint8


def test_unusable_input_is_named(model):
    frames, past = history()
    with pytest.raises(V2WError) as error:
        model.start(frames[:3], past[:2])
    assert error.value.code == "HISTORY_UNAVAILABLE"
    session = model.start(frames, past)
    good = candidates(2, 2)
    nan, wide, out = good.copy(), np.zeros((2, 2, 4)), good.copy()
    nan[1, 0, 2] = np.nan
    out[0, 1, 0] = 99.0
    for bad in (nan, wide, out, good[0], good[:0], candidates(1, Session.horizon_limit + 1)):
        with pytest.raises(V2WError, match="candidates"):
            session.imagine(bad)
    session.imagine(out, bounds=False)
    with pytest.raises(V2WError, match="num_sampling_steps"):
        session.imagine(good, num_sampling_steps=0)
    for change in ((past[:, :2]), past[:2], np.full_like(past, np.inf)):
        with pytest.raises(V2WError, match="history actions"):
            model.start(frames, change)
    with pytest.raises(V2WError, match="frames"):
        model.start(frames.astype(np.float32), past)


@pytest.mark.parametrize("changes", [{"causal": False, "action_dim": None}, {"causal": False}])
def test_video_diffusion_without_actions_imagines_nothing(changes):
    config = tiny_config(size=16)
    config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, **changes))
    with pytest.raises(V2WError, match="make one of it"):
        WorldModel.build(config).start(*history())


def test_a_causal_model_must_know_the_actions_it_is_configured_for():
    config = tiny_config(size=16)
    for wrong in (None, 2):
        with pytest.raises(V2WError, match=r"unet\.action_dim"):
            dataclasses.replace(config, unet=dataclasses.replace(config.unet, action_dim=wrong))


def test_a_rollout_that_is_no_longer_wanted_stops_between_frames(model):
    frames, past = history()
    session = model.start(frames, past)
    expected = session.imagine(candidates())
    asked = []

    def interrupt():
        asked.append(None)
        return len(asked) == 2

    with pytest.raises(Interrupted):
        session.imagine(candidates(), interrupt=interrupt)
    assert len(asked) == 2
    assert torch.equal(session.imagine(candidates()).latents, expected.latents)
