"""Weights laid out ahead: the same numbers, and never those of a weight that has changed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from core_toys import small_unet

from v2w_core.models import prepacked
from v2w_core.models.layers import Conv
from v2w_core.rollout.memory_budget import LiveBytes

pytestmark = pytest.mark.skipif(not prepacked.AVAILABLE, reason="this torch has no oneDNN")


@pytest.fixture(params=["linear", "conv", "stride"])
def layer(request):
    """A layer of half a MiB, and an input."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if request.param == "linear":
            return prepacked.Linear(256, 512), torch.randn(2, 3, 5, 256)
        stride = 2 if request.param == "stride" else 1
        return Conv(128, 128, stride=stride), torch.randn(2, 1, 4, 6, 128)


def usual(layer, x):
    """What it gives when nothing is packed: outside of inference mode."""
    with torch.no_grad():
        return layer(x)


def is_packed(layer):
    return layer._packed._weight is not None


def test_the_same_numbers(layer):
    layer, x = layer
    expected = usual(layer, x)
    assert not is_packed(layer)
    with torch.inference_mode():
        found = layer(x)
        fewer = layer(x[:1])
    assert is_packed(layer)
    assert found.shape == expected.shape and found.stride() == expected.stride()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fewer, expected[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", ["in place", "a step", "loaded", "data", "cast and back"])
def test_a_weight_that_has_changed_is_laid_out_again(layer, change):
    layer, x = layer
    with torch.inference_mode():
        before = layer(x)
    if change == "in place":
        with torch.no_grad():
            layer.weight.mul_(2)
    elif change == "a step":
        layer(x).square().mean().backward()
        torch.optim.SGD(layer.parameters(), 10.0).step()
    elif change == "loaded":
        layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    elif change == "data":
        layer.weight.data = 2 * layer.weight.data
    else:
        layer.half().float()
    with torch.inference_mode():
        after = layer(x)
    torch.testing.assert_close(after, usual(layer, x), atol=1e-5, rtol=1e-5)
    assert change == "cast and back" or not torch.allclose(after, before, atol=1e-3)


def test_copies_begin_with_nothing(layer):
    layer, x = layer
    with torch.inference_mode():
        expected = layer(x)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not is_packed(again)
        with torch.inference_mode():
            torch.testing.assert_close(again(x), expected, atol=1e-5, rtol=1e-5)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_only_float32_inference_on_a_cpu_packs(layer, monkeypatch):
    layer, x = layer
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    half = copy.deepcopy(layer).bfloat16()
    with torch.inference_mode():
        half(x.bfloat16())
        meta = copy.deepcopy(layer).to("meta")
        assert meta(x.to("meta")).device.type == "meta"
        monkeypatch.setattr(prepacked, "MAX_BYTES", 2**18)
        layer(x)
    assert not any(map(is_packed, (layer, half, meta)))


def test_a_network_is_counted_and_compiled_as_without(monkeypatch):
    monkeypatch.setattr(prepacked, "MIN_BYTES", 1)
    unet = small_unet()
    given = (
        torch.randn(1, 2, *(unet.config.in_channels, 4, 4)),
        torch.zeros(1, 2, dtype=torch.long),
        torch.zeros(1, 2, unet.config.action_dim),
        torch.ones(1, 2, dtype=torch.bool),
    )
    with torch.no_grad():
        expected = unet(*given)[0]
    with torch.inference_mode(), LiveBytes() as live:
        found = unet(*given)[0]
    assert live.peak > 0
    assert any(is_packed(m) for m in unet.modules() if isinstance(m, prepacked.Conv2d))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
