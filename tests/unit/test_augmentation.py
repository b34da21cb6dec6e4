"""Augmentation: one draw a clip, Pillow's arithmetic, a shift of at most two pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training import augmentation
from training.augmentation import augment_clip
from v2w_core.errors import DataError

RNG = np.random.default_rng(0)
FRAME = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
CLIP = RNG.integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)


def only(monkeypatch: pytest.MonkeyPatch, **ranges: tuple[float, float]) -> None:
    """Switches off what is not named: factors 1, hue 0, no shift."""
    monkeypatch.setattr(augmentation, "FACTOR_RANGE", ranges.get("factor", (1.0, 1.0)))
    monkeypatch.setattr(augmentation, "HUE_RANGE", ranges.get("hue", (0.0, 0.0)))
    monkeypatch.setattr(augmentation, "MAX_SHIFT", 0)


def test_equal_frames_stay_equal_and_the_input_is_kept() -> None:
    clip = np.stack([FRAME] * 6)
    before = clip.copy()
    changed = augment_clip(clip, np.random.default_rng(1))
    assert changed.shape == clip.shape
    assert changed.dtype == np.uint8
    assert (changed == changed[0]).all()
    assert (changed[0] != FRAME).any()
    assert (clip == before).all()


def test_the_draw_is_the_generators_and_does_not_depend_on_the_length() -> None:
    whole = augment_clip(CLIP, np.random.default_rng(3))
    np.testing.assert_array_equal(whole, augment_clip(CLIP, np.random.default_rng(3)))
    np.testing.assert_array_equal(whole[:2], augment_clip(CLIP[:2], np.random.default_rng(3)))
    assert (whole != augment_clip(CLIP, np.random.default_rng(4))).any()


def pillow_blend(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """What ImageEnhance does with a degenerate image and a picture, cut to 8 bits."""
    mixed = start.astype(np.float32) + np.float32(factor) * (
        end.astype(np.float32) - start.astype(np.float32)
    )
    return np.clip(np.trunc(mixed), 0, 255).astype(np.uint8)


def grey(frame: np.ndarray) -> np.ndarray:
    weights = np.array([19595, 38470, 7471], np.int64)
    return ((frame.astype(np.int64) @ weights + 0x8000) >> 16).astype(np.uint8)


@pytest.mark.parametrize("factors", [(0.9, 1.0, 1.0), (1.0, 1.1, 1.0), (1.0, 1.0, 0.93),
                                     (1.07, 0.95, 1.1)])  # fmt: skip
def test_colours_follow_pillows_arithmetic_in_this_order(factors) -> None:
    brightness, contrast, saturation = factors
    bright = pillow_blend(np.zeros_like(FRAME), FRAME, brightness)
    mean = int(grey(bright).mean() + 0.5)
    contrasted = pillow_blend(np.full_like(FRAME, mean), bright, contrast)
    plain = np.repeat(grey(contrasted)[..., None], 3, axis=2)
    wanted = pillow_blend(plain, contrasted, saturation)
    # The hue step goes through 8-bit hue, saturation and value, also when nothing is turned.
    turned = np.asarray(Image.fromarray(wanted).convert("HSV").convert("RGB"))
    got = augmentation._recoloured(FRAME, *factors, 0.0)
    np.testing.assert_array_equal(got, turned)


def test_hue_turns_and_keeps_the_brightest_channel(monkeypatch) -> None:
    only(monkeypatch, hue=(0.05, 0.05))
    red = np.full((1, 8, 8, 3), (200, 0, 0), np.uint8)
    (orange,) = augment_clip(red, np.random.default_rng(0))
    assert orange[0, 0, 0] == 200
    assert orange[0, 0, 1] == pytest.approx(200 * 6 * 0.05, abs=8)
    assert orange[0, 0, 2] == 0
    only(monkeypatch, hue=(-0.05, -0.05))
    (pink,) = augment_clip(red, np.random.default_rng(0))
    assert tuple(pink[0, 0, :2]) == (200, 0)
    assert pink[0, 0, 2] == pytest.approx(200 * 6 * 0.05, abs=8)


def test_shifts_are_all_of_the_25_crops_of_the_reflected_picture(monkeypatch) -> None:
    monkeypatch.setattr(augmentation, "_recoloured", lambda frame, *_: frame)
    padded = np.pad(FRAME, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    crops = {
        padded[top : top + 24, left : left + 40].tobytes() for top in range(5) for left in range(5)
    }
    rng = np.random.default_rng(0)
    seen = {augment_clip(FRAME[None], rng)[0].tobytes() for _ in range(400)}
    assert seen == crops


def test_draws_stay_in_their_ranges(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(
        augmentation, "_recoloured", lambda frame, *draw: drawn.append(draw) or frame
    )
    rng = np.random.default_rng(0)
    for _ in range(300):
        augment_clip(FRAME[None], rng)
    values = np.array(drawn, dtype=float)
    low, high = values.min(axis=0), values.max(axis=0)
    np.testing.assert_allclose(low, (0.9, 0.9, 0.9, -0.05), atol=3e-3)
    np.testing.assert_allclose(high, (1.1, 1.1, 1.1, 0.05), atol=3e-3)


def test_wrong_frames() -> None:
    with pytest.raises(DataError, match="uint8 RGB"):
        augment_clip(CLIP.astype(np.float32), np.random.default_rng(0))  # type: ignore[arg-type]
