"""The benchmark's reference algorithm imagines what our sessions imagine; floors count right."""

from __future__ import annotations

import pytest
import torch
from core_toys import candidates, history, small_model

from floors import CountedUNet, Rates, Work, floor_s
from reference_rollout import WindowRecomputed
from v2w_core.backends.eager import Eager

HORIZON = 4


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "scale"), [(1, 1.0), (3, 2.5)])
def test_recomputed_windows_are_the_cached_rollout(make_config, num_steps, scale):
    model = small_model(make_config, guidance_rescale=0.7, eta=1.0)
    frames, past = history()
    actions = candidates(2, HORIZON)
    asked = {"num_sampling_steps": num_steps, "guidance_scale": scale}
    ours = model.start(frames, past, seed=5).imagine(actions, **asked).latents
    reference = WindowRecomputed(model, frames, past, seed=5)
    torch.testing.assert_close(reference.imagine(actions, **asked), ours, atol=1e-4, rtol=0)
    passes_a_step = 1 if scale == 1.0 else 2
    assert len(reference.seconds) == HORIZON * num_steps * passes_a_step


def flops(model, imagine):
    """The passes of a rollout on a counted network."""
    unet = CountedUNet(model.config.unet)
    imagine(unet)
    return sum(work.flops for work in unet.passes), len(unet.passes)


@pytest.mark.slow
def test_work_is_that_of_the_frames_in_each_pass():
    model = small_model()
    frames, past = history()
    actions = candidates(3, HORIZON)
    asked = {"num_sampling_steps": 2, "guidance_scale": 1.0}

    def windows(unet):
        WindowRecomputed(model, frames, past, unet=unet).imagine(actions, **asked)

    def cached(unet):
        session = model.start(frames, past)
        session.backend = Eager(unet)
        session.imagine(actions, **asked)

    reference_flops, reference_passes = flops(model, windows)
    our_flops, our_passes = flops(model, cached)
    assert reference_passes == our_passes == 2 * HORIZON
    reference_frames = 2 * sum(len(frames) + step + 1 for step in range(HORIZON))
    our_frames = 3 * HORIZON - 1  # the first frame has none before it that must join
    arithmetic = reference_frames / our_frames
    # a frame of a window computes every tap of a temporal convolution, a cached one its own only
    assert arithmetic < reference_flops / our_flops < 1.25 * arithmetic


@pytest.mark.slow
def test_bytes_are_the_weights_and_what_is_read_of_the_cache():
    model = small_model()
    unet = CountedUNet(model.config.unet)
    weights = sum(p.numel() * 4 for p in model.unet.parameters())
    x = torch.zeros(2, 1, *model.config.latent_shape)
    level, action = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, 3)
    v, cache = unet(x, level, action, None)
    assert v.shape == x.shape
    _, longer = unet(x, level, action, None, cache=cache)
    unet(x, level, action, None, cache=longer)
    first, second, third = unet.passes
    assert first.bytes == weights + 2 * x.numel() * 4
    assert second.bytes == first.bytes + cache.nbytes()
    assert third.bytes == first.bytes + longer.nbytes()
    assert third.flops > second.flops


@pytest.mark.slow
def test_products_with_padding_are_counted_only_when_asked_for():
    config = small_model().config
    x = torch.zeros(1, 1, *config.latent_shape)
    given = (x, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, 3), None)
    counts = {}
    for padding in (False, True):
        unet = CountedUNet(config.unet, padding=padding)
        unet(*given)
        counts[padding] = unet.passes[0].flops
    image = torch.ones(1, 1, *config.latent_shape[1:])
    taps = torch.nn.functional.conv2d(image, torch.ones(1, 1, 3, 3), padding=1)
    first = 2 * config.unet.in_channels * config.unet.model_channels
    assert counts[True] - counts[False] > first * (9 * taps.numel() - taps.sum().item()) > 0


def test_a_floor_is_the_slower_of_arithmetic_and_memory():
    rates = Rates(flops_per_s=10.0, bytes_per_s=2.0)
    assert floor_s([Work(100.0, 2.0), Work(10.0, 8.0)], rates) == 10.0 + 4.0
