"""PSNR and SSIM against their definitions and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_core.errors import DataError
from v2w_core.metrics.image import psnr, ssim

RNG = np.random.default_rng(0)
BASE = np.clip(
    np.add.outer(np.arange(40) * 3.0, np.arange(56) * 2.0)[..., None] + RNG.normal(0, 9, 3), 0, 255
)
PAIRS = [
    np.clip(BASE + RNG.normal(0, noise, BASE.shape), 0, 255).astype(np.uint8)
    for noise in (0.0, 3.0, 15.0, 60.0)
]


def test_psnr_by_hand() -> None:
    black = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    other = black.copy()
    other[1] = 10
    values = psnr(black, other)
    assert values.shape == (2,)
    assert np.isinf(values[0])
    assert values[1] == pytest.approx(20 * np.log10(255 / 10))


@pytest.mark.parametrize("noisy", PAIRS)
def test_ssim_equals_scikit_image(noisy: np.ndarray) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    clean = BASE.astype(np.uint8)
    expected = metrics.structural_similarity(
        clean,
        noisy,
        gaussian_weights=True,
        use_sample_covariance=False,
        channel_axis=2,
        data_range=255,
    )
    assert float(ssim(clean, noisy)) == pytest.approx(expected, abs=1e-3)


def test_more_noise_is_worse_and_batches_equal_single_images() -> None:
    clean, noisy = np.stack([BASE.astype(np.uint8)] * 4), np.stack(PAIRS)
    for metric in (psnr, ssim):
        values = metric(clean, noisy)
        assert (np.diff(values) < 0).all()
        assert values == pytest.approx([float(metric(clean[i], noisy[i])) for i in range(4)])
        assert metric(clean.reshape(2, 2, 40, 56, 3), noisy.reshape(2, 2, 40, 56, 3)).shape == (
            2,
            2,
        )
    assert float(ssim(clean[0], clean[0])) == pytest.approx(1.0)


def test_bad_images() -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    for metric in (psnr, ssim):
        with pytest.raises(DataError, match="uint8"):
            metric(image.astype(float), image)
        with pytest.raises(DataError, match="same shape"):
            metric(image, image[:12])
    with pytest.raises(DataError, match="11 pixels"):
        ssim(image[:8], image[:8])
