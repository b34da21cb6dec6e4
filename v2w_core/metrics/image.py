"""PSNR and SSIM between RGB uint8 images, one value per image."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import DataError
from v2w_core.images import ImageArray

Float64Array = NDArray[np.float64]

#: Window of Wang et al. 2004: 11 x 11 pixels, Gaussian with a standard deviation of 1.5.
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def psnr(first: ImageArray, second: ImageArray) -> Float64Array:
    """Peak signal-to-noise ratio in dB, uint8 [..., H, W, 3] -> float64 [...]; range 255.

    Identical images give infinity.

    Raises:
        DataError: the images are not uint8 RGB, or their shapes differ.
    """
    a, b = _pair(first, second)
    difference = a.astype(np.float64) - b.astype(np.float64)
    error = np.mean(np.square(difference), axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(255.0**2 / error), dtype=np.float64)


def ssim(first: ImageArray, second: ImageArray) -> Float64Array:
    """Structural similarity, uint8 [..., H, W, 3] -> float64 [...], the mean over the channels.

    As in Wang et al. 2004: Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03. A
    border of five pixels is left out, where the window does not fit.

    Raises:
        DataError: the images are not uint8 RGB, their shapes differ, or a side is below 11 pixels.
    """
    a, b = _pair(first, second)
    if min(a.shape[-3:-1]) < SSIM_WINDOW:
        raise DataError("images", f"at least {SSIM_WINDOW} pixels a side for SSIM", a.shape)
    flat_a, flat_b = a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])
    values = [_ssim_one(x, y) for x, y in zip(flat_a, flat_b, strict=True)]
    return np.asarray(values, dtype=np.float64).reshape(a.shape[:-3])


def _ssim_one(first: ImageArray, second: ImageArray) -> float:
    x, y = first.astype(np.float64) / 255.0, second.astype(np.float64) / 255.0
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x * mean_x
    var_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2.0 * mean_x * mean_y + c1) * (2.0 * covariance + c2)
    denominator = (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    edge = SSIM_WINDOW // 2
    return float(np.mean((numerator / denominator)[edge:-edge, edge:-edge]))


def _blur(image: Float64Array) -> Float64Array:
    blurred = cv2.GaussianBlur(image, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
    return cast(Float64Array, blurred)


def _pair(first: ImageArray, second: ImageArray) -> tuple[ImageArray, ImageArray]:
    a, b = np.asarray(first), np.asarray(second)
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim < 3 or a.shape[-1] != 3:
        found = f"{a.dtype} {list(a.shape)}, {b.dtype} {list(b.shape)}"
        raise DataError("images", "uint8 RGB [..., H, W, 3]", found)
    if a.shape != b.shape:
        raise DataError("images", "two of the same shape", (a.shape, b.shape))
    return a, b
