"""Causal kernels from centred ones (Vid2World section 4.1 and appendix A)."""

from __future__ import annotations

import pytest
import torch
from core_toys import small_unet
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_core.errors import V2WError
from v2w_core.transfer.weight_transfer import (
    causal_kernel,
    extrapolation_error_bound,
    extrapolation_weights,
    transfer_weights,
)

WIDTHS = [3, 5, 7]


def kernel(width, seed=0):
    """[out 2, in 3, width, 1, 1] in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, width, 1, 1, generator=generator, dtype=torch.float64)


def centred(weight, signal):
    """Output [out, T] of the non-causal convolution over signal [in, T], interior frames only."""
    return torch.nn.functional.conv1d(signal[None], weight[..., 0, 0])[0]


def at_same_frames(width, mode, signal, window=2, seed=0):
    weight = kernel(width, seed)
    reach = width // 2
    before = centred(weight, signal)  # frames reach .. T - reach - 1
    after = torch.nn.functional.conv1d(
        signal[None], causal_kernel(weight, mode, window=window)[..., 0, 0]
    )[0]  # frames 2 reach .. T - 1
    return before[:, reach:], after[:, : after.shape[1] - reach], weight


def test_the_papers_kernels():
    w = kernel(3)
    w0, w1, w2 = w.unbind(2)
    expected = {
        "shift": [w0, w1, w2],
        "masked": [0 * w0, w0, w1],
        "extrapolative": [0 * w0, w0 - w2, w1 + 2 * w2],
    }
    for mode, taps in expected.items():
        torch.testing.assert_close(causal_kernel(w, mode), torch.stack(taps, 2))


@pytest.mark.parametrize("width", WIDTHS)
def test_extrapolative_is_exact_on_lines_for_every_window(width):
    times = torch.arange(20, dtype=torch.float64)
    signal = torch.stack([3.0 * times - 1, -0.5 * times, 0 * times + 2])
    for window in range(2, width + 1):
        before, after, _ = at_same_frames(width, "extrapolative", signal, window)
        torch.testing.assert_close(after, before, atol=1e-9, rtol=1e-9)
    before, after, _ = at_same_frames(width, "masked", signal)
    assert (after - before).abs().max() > 1


@given(
    width=st.sampled_from(WIDTHS),
    window=st.integers(2, 7),
    frequency=st.floats(0.01, 0.5),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_the_error_stays_under_the_bound_on_smooth_signals(width, window, frequency, seed):
    window = min(window, width)
    times = torch.arange(40, dtype=torch.float64)
    signal = torch.stack([torch.sin(frequency * times + phase) for phase in range(3)])
    before, after, weight = at_same_frames(width, "extrapolative", signal, window, seed)
    reach = width // 2
    bound = sum(
        weight[:, :, reach + ahead, 0, 0].abs().sum(1)
        * extrapolation_error_bound(window, ahead, frequency**2)
        for ahead in range(1, reach + 1)
    )
    assert ((after - before).abs() <= bound[:, None] + 1e-12).all()


def test_the_bound_is_attained_on_a_parabola_with_the_papers_window():
    times = torch.arange(-1.0, 2.0, dtype=torch.float64)
    parabola = times**2 / 2  # curvature 1
    predicted = (extrapolation_weights(2, 1) * parabola[:2]).sum()
    assert float(parabola[2] - predicted) == pytest.approx(extrapolation_error_bound(2, 1, 1.0))


def test_shift_is_arbitrarily_wrong_on_steep_lines():
    """The counter-example of appendix A.1: smooth for any slope, the error grows with it."""
    times = torch.arange(20, dtype=torch.float64)
    errors = []
    for slope in (1.0, 10.0, 100.0):
        signal = slope * times.expand(3, -1)
        before, after, _ = at_same_frames(3, "shift", signal)
        errors.append(float((after - before).abs().max()))
        exact, extrapolated, _ = at_same_frames(3, "extrapolative", signal)
        torch.testing.assert_close(extrapolated, exact, atol=1e-9, rtol=1e-9)
    assert errors[1] == pytest.approx(10 * errors[0]) and errors[2] > 50 * errors[0] > 0


def test_only_temporal_kernels_are_changed():
    unet = small_unet(causal=False)
    before = unet.state_dict()
    after = transfer_weights(before, "masked")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    kernels = {k for k, v in before.items() if ".temporal_conv.conv" in k and v.ndim == 5}
    assert changed == kernels and kernels
    with_height = transfer_weights(before, "masked", height_too=True)
    assert not torch.equal(with_height["out.2.weight"], before["out.2.weight"])
    small_unet(causal=True).load_state_dict(after)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((torch.zeros(1, 1, 4, 1, 1), "shift"), "kernel"),
        ((torch.zeros(1, 1, 3, 1, 1), "mirror"), "mode"),
        ((torch.zeros(1, 1, 3, 1, 1), "extrapolative", 2, 4), "window"),
    ],
)
def test_what_cannot_be_transferred_is_refused(arguments, field):
    with pytest.raises(V2WError, match=field):
        causal_kernel(*arguments)
