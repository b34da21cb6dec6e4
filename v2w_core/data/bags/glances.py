"""Whether the pictures turn as the heading does: a look at some pairs of images.

Poses in mirrored axes (north-east-down under a name that does not say so) agree with themselves;
what they do not agree with is the camera. Where a robot turns left, what it sees moves right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from v2w_core.data.notices import Notice
from v2w_core.geometry import wrap_angle

#: Number of pairs that are looked at, spread over the recording.
NUM_PAIRS = 64
#: Time between the images of a pair, and most images, where stamps tell no time.
APART_NS, APART_IMAGES = 150_000_000, 8
#: Least turn of a pair that says something, in radians; beyond the largest nothing is seen twice.
LEAST_RAD, MOST_RAD = 0.02, 0.6
#: Pairs in each direction that a judgement needs, and the share that agree in mirrored poses.
LEAST_PAIRS, MIRRORED = 5, 0.2
_SIZE = (64, 48)
Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Glance:
    """How far a picture has moved.

    Attributes:
        first, second: numbers of the images.
        moved: to the right, as a share of its width.
    """

    first: int
    second: int
    moved: float


class Glances:
    """Takes pairs of images while they are read, and keeps how far the second has moved."""

    def __init__(self, num_images: int) -> None:
        self._every = max(num_images // NUM_PAIRS, 2)
        self._first: tuple[int, int, NDArray[np.float32]] | None = None
        self._window = cv2.createHanningWindow(_SIZE, cv2.CV_32F)
        self.found: list[Glance] = []

    def add(self, index: int, stamp_ns: int, look: Callable[[], Grey | None]) -> None:
        """An image; ``look`` gives its pixels [H, W] or [H, W, 3], None where there are none."""
        if self._first is None:
            if index % self._every == 0 and (small := _small(look())) is not None:
                self._first = index, stamp_ns, small
            return
        first, since, before = self._first
        if stamp_ns - since < APART_NS and index - first < min(APART_IMAGES, self._every - 1):
            return
        self._first = None
        after = _small(look())
        if after is not None:
            (moved, _), _ = cv2.phaseCorrelate(before, after, self._window)
            self.found.append(Glance(first, index, float(moved) / _SIZE[0]))


def _small(picture: Grey | None) -> NDArray[np.float32] | None:
    if picture is None:
        return None
    if picture.ndim == 3:
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    return cv2.resize(picture, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)


def mirrored_pictures(
    glances: list[Glance], yaw_at: Callable[[int], float | None]
) -> Notice | None:
    """A warning where the pictures turn against the heading.

    Args:
        glances: of a camera.
        yaw_at: the heading at an image, in radians; None where it is not known.
    """
    turns, moved = [], []
    for glance in glances:
        before, after = yaw_at(glance.first), yaw_at(glance.second)
        if before is not None and after is not None:
            turns.append(float(wrap_angle(after - before)))
            moved.append(glance.moved)
    turn, shift = np.array(turns), np.array(moved)
    clear = (np.abs(turn) > LEAST_RAD) & (np.abs(turn) < MOST_RAD)
    turn, shift = turn[clear], shift[clear]
    # Of turns in one direction only a camera that looks to the side tells nothing.
    if min((turn > 0).sum(), (turn < 0).sum()) < LEAST_PAIRS or not np.ptp(shift):
        return None
    agree = float((np.sign(turn) == np.sign(shift)).mean())
    alike = float(np.corrcoef(turn, shift)[0, 1])
    if agree > MIRRORED or alike > -0.5:
        return None
    text = f"the pictures turn against the heading (yaw), in {1 - agree:.0%} of {turn.size} turns"
    remedy = "--axes ned if the poses are north-east-down; if the camera hangs upside down nothing"
    return Notice("mirrored", text, remedy, {"agree": round(agree, 2), "pairs": int(turn.size)})
