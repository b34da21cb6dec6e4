"""Transfer of temporal kernels from a non-causal to a causal network (Vid2World section 4.1).

A kernel w over frames t-r .. t+r (width k = 2 r + 1) becomes one over t-k+1 .. t. Both are stored
oldest tap first; biases are kept.

* shift keeps the values, which delays the output by r frames.
* masked drops the taps of future frames.
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

    They evaluate the ordinary least squares line through the window at t + ahead, which is exact
    for signals that are linear in time (float64). ``window=1`` repeats frame t.
    """
    if ahead < 1:
        raise V2WError("ahead", "at least 1 frame", ahead)
    value, slope = _line(window)
    return value + ahead * slope


def extrapolation_error_bound(window: int, ahead: int, curvature: float) -> float:
    """Error bound of :func:`extrapolation_weights` if |x''| <= ``curvature`` (Proposition 1).

    It has three terms, as in appendix A.3: the Taylor remainder at t + ahead, the error of the
    fitted line at t, and the error of its slope times ``ahead``. The error of a convolution is at
    most the sum of |w_j| times this bound over its future taps j. Needs window >= 2.
    """
    if window < 2:
        raise V2WError("window", "at least 2 frames; with 1 the error has no such bound", window)
    value, slope = _line(window)
    remainder = torch.arange(1 - window, 1, dtype=torch.float64).square() / 2
    at_t = (value.abs() * remainder).sum()
    slope_error = (slope.abs() * remainder).sum()
    return float(curvature * (ahead**2 / 2 + at_t + ahead * slope_error))


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
    """A causal kernel of the same shape.

    Args:
        kernel: weight with a centred kernel of odd width k along axis ``dim``, which is axis 2 of
            an ``nn.Conv3d`` over time [out, in, k, 1, 1].
        mode: transfer mode; see the module.
        dim: axis of the kernel.
        window: number of frames that ``extrapolative`` fits a line to, at most k.

    Raises:
        V2WError: the width is even, the mode is unknown, or the window is not within 1 to k.
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
    """Weights of a causal U-Net from those of a non-causal one of the same sizes.

    Args:
        weights: state dict; temporal convolutions are ``*.temporal_conv.conv*`` [o, i, k, 1, 1].
        mode: transfer mode; see the module.
        window: number of frames that ``extrapolative`` fits a line to.
        height_too: whether to transfer the last convolution ``out.2`` over the image's height as
            well, as the released models do (``height_causal_out``).
    """
    causal = {}
    for name, weight in weights.items():
        temporal = ".temporal_conv.conv" in name and weight.ndim == 5
        if temporal or (height_too and name == "out.2.weight"):
            weight = causal_kernel(weight, mode, window=window)
        causal[name] = weight
    return causal
