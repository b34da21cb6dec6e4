"""Drawing on images: text, action bars and contact sheets; writing of PNG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from v2w_core.errors import DataError
from v2w_core.files import replaced
from v2w_core.images import ImageArray, check_frames, encode_image

_FONT = cv2.FONT_HERSHEY_SIMPLEX


_INK, _PAPER, _LOW, _HIGH = (30, 30, 30), (255, 255, 255), (214, 96, 60), (50, 120, 200)


def write_png(path: str | os.PathLike[str], image: ImageArray) -> Path:
    """Writes an RGB uint8 [H, W, 3] image as PNG."""
    data = encode_image(image, "png")
    with replaced(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def draw_text(image: ImageArray, text: str, *, scale: float = 0.45) -> ImageArray:
    """A copy with a line of text, white on black, in the upper left corner."""
    marked = np.ascontiguousarray(image).copy()
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    cv2.rectangle(marked, (0, 0), (width + 8, height + baseline + 6), (0, 0, 0), -1)
    cv2.putText(marked, text, (4, height + 4), _FONT, scale, _PAPER, 1, cv2.LINE_AA)
    return marked


def label_strip(width: int, text: str, height: int = 22) -> ImageArray:
    """A white strip uint8 [height, width, 3] with a line of text, shrunk until it fits."""
    strip = np.full((height, width, 3), 255, dtype=np.uint8)
    scale = 0.48
    while scale > 0.25 and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > width - 8:
        scale -= 0.04
    cv2.putText(strip, text, (4, height - 7), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


def action_bars(
    width: int, action: ArrayLike, names: Sequence[str], low: ArrayLike, high: ArrayLike
) -> ImageArray:
    """A strip uint8 [16 A, width, 3] with a bar and the value of each action dimension.

    Args:
        width: width in pixels.
        action: [A] in physical units.
        names: [A], names of the dimensions.
        low, high: [A], bounds; a full bar is the larger one in magnitude.
    """
    values, bounds = np.asarray(action, dtype=float), np.stack([np.asarray(low), np.asarray(high)])
    strip = np.full((16 * len(values), width, 3), 255, dtype=np.uint8)
    text_width = min(110, width // 2)
    middle, reach = (text_width + width) // 2, max((width - text_width) // 2 - 4, 1)
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        top = 16 * row
        largest = max(float(np.abs(bounds[:, row]).max()), 1e-9)
        end = middle + round(float(np.clip(value / largest, -1, 1)) * reach)
        colour = _HIGH if value >= 0 else _LOW
        left, right = sorted((middle, end))
        cv2.rectangle(strip, (left, top + 4), (right, top + 12), colour, -1)
        cv2.line(strip, (middle, top + 1), (middle, top + 14), _INK, 1)
        cv2.putText(strip, f"{name} {value:+.2f}", (3, top + 12), _FONT, 0.36, _INK, 1, cv2.LINE_AA)
    return strip


def contact_sheet(
    rows: Sequence[ImageArray],
    labels: Sequence[str] = (),
    *,
    min_height: int = 96,
    gap: int = 3,
) -> ImageArray:
    """Rows of frames under one another, each below its label, as one RGB image.

    Args:
        rows: uint8 [T, h, w, 3] each; lengths and sizes may differ.
        labels: one label per row, or none at all.
        min_height: minimum height; smaller frames are enlarged by an integer factor.
        gap: white pixels between frames.

    Raises:
        DataError: there are no rows, or the number of labels does not match.
    """
    if not len(rows) or (labels and len(labels) != len(rows)):
        rule = "at least one row, and one label for each or none"
        raise DataError("contact_sheet", rule, f"{len(rows)} rows, {len(labels)} labels")
    strips = []
    for index, row in enumerate(rows):
        frames = check_frames(row, field=f"rows[{index}]")
        factor = max(1, -(-min_height // frames.shape[1]))
        large = np.repeat(np.repeat(frames, factor, axis=1), factor, axis=2)
        spaced = np.pad(large, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
        strip = np.concatenate(list(spaced), axis=1)
        if labels:
            strip = np.concatenate([label_strip(strip.shape[1], labels[index]), strip], axis=0)
        strips.append(strip)
    width = max(strip.shape[1] for strip in strips)
    filled = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
        for strip in strips
    ]
    return np.concatenate(filled, axis=0)
