"""Augmentation of a clip with the same random parameters for all of its frames.

As for the released models: brightness, contrast, saturation and hue in this order on 8-bit pictures
(the arithmetic of Pillow's ImageEnhance), then a shift by at most two pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from v2w_core.images import check_frames

Frames = NDArray[np.uint8]

#: Ranges of the brightness, contrast and saturation factors, and of the hue shift in turns.
FACTOR_RANGE = (0.9, 1.1)
HUE_RANGE = (-0.05, 0.05)
MAX_SHIFT = 2


def augment_clip(frames: Frames, rng: np.random.Generator) -> Frames:
    """Changes colours and position, in the same way in every frame.

    Args:
        frames: RGB uint8 [T, H, W, 3] in the model's format, black bars included.
        rng: random generator.

    Returns:
        the augmented frames, uint8 [T, H, W, 3].

    Raises:
        DataError: the frames are not uint8 RGB [T, H, W, 3].
    """
    clip = check_frames(frames)
    factors = rng.uniform(*FACTOR_RANGE, size=3)
    hue = rng.uniform(*HUE_RANGE)
    top, left = rng.integers(0, 2 * MAX_SHIFT + 1, size=2)
    coloured = np.stack([_recoloured(frame, *factors, hue) for frame in clip])
    edge = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(coloured, ((0, 0), edge, edge, (0, 0)), mode="reflect")
    height, width = clip.shape[1:3]
    return np.ascontiguousarray(padded[:, top : top + height, left : left + width])


def _recoloured(
    frame: Frames, brightness: float, contrast: float, saturation: float, hue: float
) -> Frames:
    image = Image.fromarray(frame)
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    image = ImageEnhance.Color(image).enhance(saturation)
    hsv = np.array(image.convert("HSV"))
    # Pillow's hue has 256 steps per turn; uint8 arithmetic wraps around.
    hsv[..., 0] += np.uint8(int(hue * 255) % 256)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
