"""Sessions that leave the trained window: encoded anew, or a ring with sinks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from core_toys import candidates, history, small_model

from v2w_core.errors import V2WError
from v2w_core.models.temporal_cache import Attended, CachePass
from v2w_core.models.warped_previous import frames_before
from v2w_core.rollout import autoregressive
from v2w_core.rollout.autoregressive import IMAGINED_SEED
from v2w_core.rollout.history import condition_of, draw_noise, with_condition
from v2w_core.rollout.session import Session


@pytest.mark.slow
def test_streaming_past_the_window_starts_from_the_newest_frames():
    model = small_model(past_window="recompute")
    length = model.config.num_frames
    frames, past = history(length=length)
    streamed = model.start(frames[:4], past[:3], seed=2)
    for frame, action in zip(frames[4:], past[3:], strict=True):
        streamed.append(frame, action)
        assert streamed.max_horizon >= 1
    assert streamed.num_history == 4
    fresh = model.start(frames, past, seed=2)
    actions = candidates(2, 3)
    torch.testing.assert_close(
        streamed.imagine(actions).latents, fresh.imagine(actions).latents, atol=1e-5, rtol=1e-5
    )


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_past_the_window_the_newest_frames_are_encoded_anew(make_config, mode, monkeypatch):
    model = small_model(make_config, imagined_history=mode, past_window="recompute")
    frames, past = history()
    inside = model.config.num_frames - len(frames)
    horizon = 2 * inside + 2
    actions = candidates(2, horizon)
    session = model.start(frames, past, seed=3)
    long = session.imagine(actions, num_sampling_steps=1).latents
    short = session.imagine(actions[:, :inside], num_sampling_steps=1).latents
    torch.testing.assert_close(long[:, :inside], short, atol=1e-5, rtol=1e-5)
    newest = model.config.num_history
    for row, latents in zip(actions, long, strict=True):
        told = model.tensor(model.config.action.normalise(row))
        began = inside
        while began < horizon:
            fresh = Session(
                model, latents[began - newest : began], told[began - newest + 1 : began], seed=3
            )
            # the noise of a frame depends on its place in the horizon only
            noise = draw_noise(model, 2 * horizon, 3 + IMAGINED_SEED)[2 * began :]
            monkeypatch.setattr(autoregressive, "draw_noise", lambda *_, noise=noise: noise)
            some = row[None, began : began + inside]
            expected = fresh.imagine(some, num_sampling_steps=1, bounds=False).latents[0]
            ours = latents[began : began + inside]
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
            began += inside


@torch.inference_mode()
@pytest.mark.parametrize("num_sinks", [0, 2])
@pytest.mark.parametrize("length", [4, 9])
def test_the_ring_sees_its_sinks_and_the_newest_frames(make_config, num_sinks, length):
    """Against one pass over everything with a mask of what each frame may see."""
    model = small_model(
        make_config, past_window="ring", num_sinks=num_sinks, imagined_history="reuse"
    )
    config, horizon = model.config, 14
    frames, past = history(length=length)
    actions = candidates(1, horizon)
    session = model.start(frames[:4], past[:3], seed=5)
    for frame, action in zip(frames[4:], past[3:], strict=True):
        session.append(frame, action)
    ours = session.imagine(actions, num_sampling_steps=1).latents[0]

    total = length + horizon
    known = np.concatenate([np.zeros((1, config.action.dim)), past, actions[0]])
    mask = torch.ones(1, total, dtype=torch.bool)
    mask[0, 0] = False
    levels = torch.full((1, total), 999)
    levels[0, :length] = config.sampling.history_level
    noise = session.history.noise[:length]
    seen = model.schedule.add_noise(model.encode(frames), noise, levels[0, :length])
    future = draw_noise(model, 2 * horizon, 5 + IMAGINED_SEED)[0::2]
    window = torch.cat([seen, future])[None]
    visible = torch.ones(total, total, dtype=torch.bool).tril()
    for frame in range(total):
        visible[frame, num_sinks : max(num_sinks, frame + 1 - config.num_frames + num_sinks)] = (
            False
        )

    class Masked(CachePass):
        def attention(self, key, value):
            self._suffix.append((key, value))
            return Attended(None, (key, value), visible)

    told = model.tensor(config.action.normalise(known))[None]
    clean = torch.cat([model.encode(frames), ours])[None]
    given = with_condition(window, condition_of(model, frames_before(clean), told))
    v = model.unet._run(given, levels, told, mask, Masked(), None, None)
    expected, _ = model.schedule.from_velocity(window, v[:, :, : window.shape[2]], levels)
    torch.testing.assert_close(ours, expected[0, length:], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("past_window", ["recompute", "ring"])
def test_streaming_costs_one_frame_and_never_grows(past_window):
    model = small_model(past_window=past_window)
    window, newest = model.config.num_frames, model.config.num_history
    frames, past = history(length=3 * window)
    session = model.start(frames[:4], past[:3])
    passes, sizes = [], []
    hook = model.unet.register_forward_pre_hook(lambda _, given: passes.append(given[0].shape[:2]))
    for frame, action in zip(frames[4:], past[3:], strict=True):
        session.append(frame, action)
        sizes.append(session.history.cache.nbytes())
        assert 1 <= session.num_history < window
    hook.remove()
    assert len(passes) == len(frames) - 4
    anew = [index for index, size in enumerate(passes) if size != (1, 1)]
    if past_window == "ring":
        assert anew == [] and session.num_history == window - 1
        assert len(set(sizes[window:])) == 1
    else:
        assert all(passes[index] == (1, newest) for index in anew)
        assert np.diff(anew).tolist() == [window - newest] * (len(anew) - 1)
    assert len(session.history.latents) == len(session.history.actions) == newest
    ahead = session.imagine(candidates(2, window + 1)).latents
    assert ahead.isfinite().all()


def test_sinks_that_do_not_fit_are_named():
    for changes, field in (
        ({"past_window": "tape"}, r"sampling\.past_window"),
        ({"past_window": "ring", "num_sinks": 5}, r"sampling\.num_sinks"),
        ({"past_window": "ring", "num_sinks": -1}, r"sampling\.num_sinks"),
    ):
        with pytest.raises(V2WError, match=field):
            small_model(**changes)
