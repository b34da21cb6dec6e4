"""The way of a robot from above: its path, with arrows where it looks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from v2w_core.images import ImageArray
from v2w_core.media.pictures import draw_text

_PATH, _ARROW, _START = (150, 150, 150), (50, 120, 200), (60, 160, 70)


def draw_way(
    poses: NDArray[np.float64], size: tuple[int, int] = (320, 480), num_arrows: int = 16
) -> ImageArray:
    """The path of poses [T, 4] (x y z yaw), x to the right, y up, as RGB uint8 [H, W, 3].

    The arrows are the headings: on a robot that drives forwards they lie along the path. The green
    dot is the start; the bar is a round number of metres long.
    """
    height, width = size
    image = np.full((height, width, 3), 255, np.uint8)
    places = poses[:, :2]
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    margin = 48
    scale = float(
        min((width - 2 * margin) / max(span[0], 1e-3), (height - 2 * margin) / max(span[1], 1e-3))
    )
    scale = min(scale, (width - 2 * margin) / 0.5)  # a robot that stands still is a dot
    offset = (np.array([width, height]) - span * scale) / 2
    points = (places - low) * scale + offset
    points[:, 1] = height - points[:, 1]
    pixels = np.round(points * 8).astype(np.int32)
    cv2.polylines(image, [pixels[:, None]], False, _PATH, 2, cv2.LINE_AA, 3)
    chosen = np.unique(np.linspace(0, len(poses) - 1, num_arrows).astype(int))
    for index in chosen.tolist():
        yaw = float(poses[index, 3])
        tip = points[index] + 26 * np.array([np.cos(yaw), -np.sin(yaw)])
        ends = [tuple(int(v) for v in np.round(item)) for item in (points[index], tip)]
        cv2.arrowedLine(image, ends[0], ends[1], _ARROW, 2, cv2.LINE_AA, tipLength=0.35)
    cv2.circle(image, tuple(int(v) for v in np.round(points[0])), 5, _START, -1, cv2.LINE_AA)
    metres = _round_number(0.25 * width / scale)
    bar = round(metres * scale)
    cv2.line(image, (10, height - 12), (10 + bar, height - 12), (30, 30, 30), 2)
    place = (14, height - 18)
    cv2.putText(
        image, f"{metres:g} m", place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA
    )
    return draw_text(image, "path from above, arrows: heading")


def _round_number(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not larger."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(
        max(step for step in (1.0, 2.0, 5.0) if step * power <= value * (1 + 1e-9)) * power
    )
