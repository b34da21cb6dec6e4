"""Prediction error per step: imagined frames against the recorded ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.images import ImageArray
from v2w_core.metrics.image import psnr, ssim

Float64Array = NDArray[np.float64]

#: Upper limit of the PSNR in dB, so that identical frames (infinite PSNR) do not dominate a mean.
#: (Rounding to 8 bits alone limits it to about 58.9 dB.)
PSNR_LIMIT_DB = 60.0


def psnr_limited(first: ImageArray, second: ImageArray) -> Float64Array:
    """PSNR in dB, uint8 [..., H, W, 3] -> float64 [...], limited to ``PSNR_LIMIT_DB``."""
    limited: Float64Array = np.minimum(psnr(first, second), PSNR_LIMIT_DB)
    return limited


def psnr_copy(last_frame: ImageArray, recorded: ImageArray) -> Float64Array:
    """PSNR of repeating the last history frame: [H, W, 3] and [horizon, H, W, 3] -> [horizon]."""
    return psnr_limited(np.broadcast_to(last_frame, recorded.shape), recorded)


@dataclass(frozen=True)
class StepScores:
    """Scores of one rollout, float64 [horizon] each.

    Attributes:
        psnr, ssim: PSNR (dB) and SSIM of the imagined frames.
        psnr_copy, ssim_copy: the same of repeating the last history frame.
    """

    psnr: Float64Array
    psnr_copy: Float64Array
    ssim: Float64Array
    ssim_copy: Float64Array

    @classmethod
    def compute(
        cls, imagined: ImageArray, recorded: ImageArray, last_frame: ImageArray
    ) -> StepScores:
        """Scores of uint8 [horizon, H, W, 3] frames; ``last_frame`` is uint8 [H, W, 3]."""
        copy = np.ascontiguousarray(np.broadcast_to(last_frame, recorded.shape))
        return cls(
            psnr=psnr_limited(imagined, recorded),
            psnr_copy=psnr_limited(copy, recorded),
            ssim=ssim(imagined, recorded),
            ssim_copy=ssim(copy, recorded),
        )


def mean_per_step(rows: Sequence[Float64Array]) -> list[float]:
    """Mean over rollouts of [horizon] rows; the rows may have different lengths."""
    longest = max(len(row) for row in rows)
    table = np.full((len(rows), longest), math.nan)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return [float(value) for value in np.nanmean(table, axis=0)]
