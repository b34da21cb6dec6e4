"""Temporal kernels of a non-causal network as kernels of a causal one (Vid2World section 4.1).

A kernel w over frames t-r .. t+r (width k = 2 r + 1) becomes one over t-k+1 .. t; both are stored
oldest tap first, and biases stay.

* shift keeps the values: the output is late by r frames.
* masked drops the taps on the future.
* extrapolative replaces every future frame by a linear extrapolation of the past: an ordinary
  least squares line through the last ``window`` frames. With k = 3 and window = 2 this is
  x_{t+1} = 2 x_t - x_{t-1}, the paper's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from v2w_core.errors import V2WError

TransferMode = Literal["shift", "masked", "extrapolative"]


def extrapolation_weights(window: int, ahead: int) -> Tensor:
    """Weights [window] of the frames t-window+1 .. t in the prediction of frame t + ahead.

    The line through the window by ordinary least squares, read at t + ahead: exact on signals
    that are linear in time (float64). ``window=1`` repeats frame t.
    """
    if ahead < 1:
        raise V2WError("ahead", "at least 1 frame", ahead)
    value, slope = _line(window)
    return value + ahead * slope


def extrapolation_error_bound(window: int, ahead: int, curvature: float) -> float:
    """Largest error of :func:`extrapolation_weights` where |x''| <= ``curvature`` (Proposition 1).

    Three parts, as in appendix A.3: the Taylor remainder at t + ahead, what the fitted line misses
    at t, and its wrong slope carried ``ahead`` frames on. A convolution's error is at most the sum
    of |w_j| times this over its future taps j. Needs window >= 2 (one frame has no slope).
    """
    if window < 2:
        raise V2WError("window", "at least 2 frames; with 1 the error has no such bound", window)
    value, slope = _line(window)
    remainder = torch.arange(1 - window, 1, dtype=torch.float64).square() / 2
    at_t = (value.abs() * remainder).sum()
    of_slope = (slope.abs() * remainder).sum()
    return float(curvature * (ahead**2 / 2 + at_t + ahead * of_slope))


def _line(window: int) -> tuple[Tensor, Tensor]:
    """Weights [window] of the least squares line's value at t and of its slope."""
    if window < 1:
        raise V2WError("window", "at least 1 frame", window)
    times = torch.arange(1 - window, 1, dtype=torch.float64)
    mean = times.mean()
    spread = (times - mean).square().sum()
    slope = (times - mean) / spread if window > 1 else torch.zeros_like(times)
    return 1 / window - mean * slope, slope


def causal_kernel(kernel: Tensor, mode: TransferMode, dim: int = 2, window: int = 2) -> Tensor:
    """The causal kernel of the same shape.

    Args:
        kernel: any weight whose axis ``dim`` is the centred kernel, of odd width k. For
            ``nn.Conv3d`` over time [out, in, k, 1, 1] that is axis 2.
        mode: how, see above.
        dim: the axis.
        window: frames that extrapolation looks at, at most k (extrapolative only).

    Raises:
        V2WError: an even width, an unknown mode, a window that the kernel cannot hold.
    """
    if mode not in get_args(TransferMode):
        raise V2WError("mode", f"one of {list(get_args(TransferMode))}", mode)
    width = kernel.shape[dim]
    if width % 2 == 0:
        raise V2WError("kernel", "an odd width", width)
    if mode == "shift":
        return kernel.clone()
    reach = width // 2
    taps = list(kernel.double().unbind(dim))
    causal = [torch.zeros_like(taps[0])] * reach + taps[: reach + 1]  # t-k+1 .. t
    if mode == "extrapolative":
        if not 1 <= window <= width:
            raise V2WError("window", f"1 to the kernel's width {width}", window)
        for ahead in range(1, reach + 1):
            share = extrapolation_weights(window, ahead)
            for i in range(window):
                index = width - window + i
                causal[index] = causal[index] + share[i] * taps[reach + ahead]
    return torch.stack(causal, dim).to(kernel.dtype)


def transfer_weights(
    weights: Mapping[str, Tensor],
    mode: TransferMode,
    *,
    window: int = 2,
    height_too: bool = False,
) -> dict[str, Tensor]:
    """A non-causal U-Net's weights for the causal U-Net of the same sizes.

    Args:
        weights: by our names; temporal convolutions are ``*.temporal_conv.conv*`` [o, i, k, 1, 1].
        height_too: transfer the last convolution ``out.2`` over the image's height as well, as the
            released models do (``height_causal_out``).
    """
    causal = {}
    for name, weight in weights.items():
        temporal = ".temporal_conv.conv" in name and weight.ndim == 5
        if temporal or (height_too and name == "out.2.weight"):
            weight = causal_kernel(weight, mode, window=window)
        causal[name] = weight
    return causal
