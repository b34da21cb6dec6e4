"""The U-Net: exact causality, and a cache that changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from core_toys import released_options, small_unet, wake

from v2w_core.errors import V2WError
from v2w_core.models.unet import UNet

NUM_FRAMES = 6


@pytest.fixture(scope="module", params=["ours", "released"])
def unet(request):
    return small_unet() if request.param == "ours" else wake(UNet(released_options()))


def inputs(batch=2, seed=0, unet=None):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, NUM_FRAMES, 4, 4, 6, generator=generator)
    levels = torch.randint(0, 1000, (batch, NUM_FRAMES), generator=generator)
    actions = torch.rand(batch, NUM_FRAMES, 3, generator=generator)
    if unet is not None and unet.config.multi_hot_actions:
        actions = (actions > 0.5).float()
    mask = torch.ones(batch, NUM_FRAMES, dtype=torch.bool)
    return x, levels, actions, mask


@torch.inference_mode()
@pytest.mark.parametrize("what", ["frame", "level", "action", "mask"])
@pytest.mark.parametrize("frame", [1, 3, NUM_FRAMES - 1])
def test_nothing_reaches_an_earlier_frame_bit_for_bit(unet, what, frame):
    x, levels, actions, mask = inputs(unet=unet)
    before, _ = unet(x, levels, actions, mask)
    if what == "frame":
        x[:, frame] += 1.0
    elif what == "level":
        levels[:, frame] = (levels[:, frame] + 400) % 1000
    elif what == "action":
        actions[:, frame] = 1 - actions[:, frame]
    else:
        mask[:, frame] = False
    after, _ = unet(x, levels, actions, mask)
    assert torch.equal(before[:, :frame], after[:, :frame])
    for later in range(frame, NUM_FRAMES):
        assert not torch.equal(before[:, later], after[:, later]), later


@torch.inference_mode()
def test_norm_over_the_clip_leaks_into_the_past_and_over_the_frame_does_not():
    for scope, leaks in (("clip", True), ("frame", False)):
        unet = small_unet(norm_scope=scope)
        x, levels, actions, mask = inputs()
        before, _ = unet(x, levels, actions, mask)
        x[:, -1] += 1.0
        after, _ = unet(x, levels, actions, mask)
        assert torch.equal(before[:, :-1], after[:, :-1]) != leaks


@torch.inference_mode()
def test_a_network_that_is_not_causal_sees_the_future():
    unet = small_unet(causal=False)
    x, levels, actions, mask = inputs()
    before, _ = unet(x, levels, actions, mask)
    x[:, -1] += 1.0
    after, _ = unet(x, levels, actions, mask)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5), (4, 5), (3,), (2, 4)])
def test_cached_is_recomputed(unet, cuts):
    x, levels, actions, mask = inputs(unet=unet)
    whole, cache_whole = unet(x, levels, actions, mask)
    cache, parts = None, []
    edges = (0, *cuts, NUM_FRAMES)
    for start, stop in itertools.pairwise(edges):
        part = (item[:, start:stop] for item in (x, levels, actions, mask))
        out, cache = unet(*part, cache=cache)
        parts.append(out)
        assert cache.num_frames == stop
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)
    assert cache.nbytes() == cache_whole.nbytes()


@torch.inference_mode()
def test_a_shared_history_is_the_same_as_one_for_each_candidate(unet):
    x, levels, actions, mask = inputs(batch=3, unet=unet)
    first = [item[:1, :4] for item in (x, levels, actions, mask)]
    rest = [item[:, 4:] for item in (x, levels, actions, mask)]
    _, history = unet(*first)
    repeated = [item.expand(3, *item.shape[1:]) for item in first]
    _, own = unet(*repeated)
    expected, _ = unet(*rest, cache=own)
    shared, cache = unet(*rest, cache=history.as_prefix())
    torch.testing.assert_close(shared, expected, atol=1e-5, rtol=1e-5)
    alone, _ = unet(*(item[1:2] for item in rest), cache=history.as_prefix())
    torch.testing.assert_close(shared[1:2], alone, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="batch 1"):
        cache.as_prefix()


@torch.inference_mode()
def test_a_pass_leaves_its_cache_as_it_was():
    unet = small_unet()
    x, levels, actions, mask = inputs(batch=1)
    _, cache = unet(x[:, :4], levels[:, :4], actions[:, :4], mask[:, :4])
    rest = [item[:, 4:5] for item in (x, levels, actions, mask)]
    first, _ = unet(*rest, cache=cache)
    second, _ = unet(*rest, cache=cache)
    assert torch.equal(first, second)
    assert cache.num_frames == 4


@torch.inference_mode()
@pytest.mark.parametrize("num_new", [1, 2])
def test_the_unconditional_branch_is_computed_in_the_same_pass(unet, num_new):
    given = inputs(unet=unet)
    _, history = unet(*(item[:1, :3] for item in given))
    _, past = unet(*(item[:, 3:4] for item in given), cache=history.as_prefix())
    plain = [item[:, 4 : 4 + num_new] for item in given]
    other = [item[:, -1:].clone() for item in plain]
    other[0] += 0.5
    other[3][:] = False
    told = [torch.cat(pair, dim=1) for pair in zip(plain, other, strict=True)]
    num_uncached = num_new - 1
    both, cache = unet(*told, cache=past, num_uncached=num_uncached, unconditional=True)
    first, expected_cache = unet(*plain, cache=past, num_uncached=num_uncached)
    instead = [torch.cat([a[:, :-1], b], dim=1) for a, b in zip(plain, other, strict=True)]
    second, _ = unet(*instead, cache=past, num_uncached=num_uncached)
    torch.testing.assert_close(both[:, :-1], first, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[:, -1:], second[:, -1:], atol=1e-5, rtol=1e-5)
    assert cache.num_frames == expected_cache.num_frames == 5
    for ours, theirs in zip(cache.conv, expected_cache.conv, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for (key, value), (other_key, other_value) in zip(
        cache.suffix, expected_cache.suffix, strict=True
    ):
        torch.testing.assert_close(key, other_key, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(value, other_value, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_an_emptied_cache_is_none_at_all(unet):
    given = inputs(unet=unet)
    _, history = unet(*(item[:1] for item in given))
    empty = history.as_prefix().emptied()
    assert empty.num_frames == 0
    expected, _ = unet(*given)
    v, cache = unet(*given, cache=empty)
    torch.testing.assert_close(v, expected, atol=1e-5, rtol=1e-5)
    assert cache.num_frames == NUM_FRAMES


def test_wrong_shapes_are_named():
    unet = small_unet()
    x, levels, actions, mask = inputs()
    for bad, field in (((x[:, :, :3], levels, actions, mask), "x"),
                       ((x[..., :3], levels, actions, mask), "x"),
                       ((x, levels, actions[..., :2], mask), "actions")):  # fmt: skip
        with pytest.raises(V2WError) as error:
            unet(*bad)
        assert error.value.field == field
