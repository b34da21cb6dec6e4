"""Drawing for the film and the report: text, panels, and the maze from above."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.top_down import cells_of_pixels, draw_top_down
from training.envs.world import World
from training.evaluation.goals import REACHED_M
from v2w.demo.goals import Pose
from v2w.demo.records import Trajectory

UInt8Array = NDArray[np.uint8]
Colour = tuple[int, int, int]

BACKGROUND, PANEL, INK, FAINT = (24, 26, 31), (38, 41, 48), (236, 238, 242), (150, 156, 168)
GOAL, DRIVEN, PLANNED, ROBOT = (255, 92, 168), (255, 176, 32), (80, 200, 255), (255, 255, 255)
GOOD, BAD = (90, 210, 120), (240, 90, 80)


@lru_cache(maxsize=8)
def _font(size: int, bold: bool) -> Any:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


@lru_cache(maxsize=512)
def _mask(text: str, size: int, bold: bool) -> NDArray[np.float32]:
    from PIL import Image, ImageDraw

    font = _font(size, bold)
    width = int(font.getlength(text)) + 4
    picture = Image.new("L", (width, round(size * 1.4)))
    ImageDraw.Draw(picture).text((0, 0), text, fill=255, font=font)
    return np.asarray(picture, dtype=np.float32)[..., None] / 255.0


def put_text(
    image: UInt8Array,
    x: int,
    y: int,
    text: str,
    *,
    size: int = 15,
    colour: Colour = INK,
    bold: bool = False,
    right: bool = False,
) -> int:
    """Write a line of text with its upper left (or right) corner at (x, y); returns its width."""
    mask = _mask(text, size, bold)
    left = max(0, x - mask.shape[1] if right else x)
    height, width = (min(a, b) for a, b in zip(
        mask.shape[:2], (image.shape[0] - y, image.shape[1] - left), strict=True))  # fmt: skip
    if height <= 0 or width <= 0:
        return 0
    region = image[y : y + height, left : left + width]
    part = mask[:height, :width]
    region[:] = (region * (1.0 - part) + np.asarray(colour, np.float32) * part).astype(np.uint8)
    return int(mask.shape[1])


def paste(image: UInt8Array, x: int, y: int, width: int, height: int, picture: UInt8Array) -> None:
    """Put a picture into a box, scaled to fill it."""
    shrink = picture.shape[1] > width
    how = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    image[y : y + height, x : x + width] = cv2.resize(picture, (width, height), interpolation=how)


def frame_box(
    image: UInt8Array, x: int, y: int, width: int, height: int, colour: Colour, thickness: int = 2
) -> None:
    """Draw a border around a box."""
    cv2.rectangle(image, (x - 1, y - 1), (x + width, y + height), colour, thickness, cv2.LINE_AA)


class WorldMap:
    """The world from above, with methods that draw onto a copy of it.

    Args:
        world: the world, drawn with dark floors and bright walls so that paths are seen well.
        width: of the picture in pixels.
    """

    def __init__(self, world: World, width: int) -> None:
        self._scale = width / world.size_m[0]
        self._base = draw_top_down(world, self._scale)
        picture = self._base.image.astype(np.float64)
        row, column = cells_of_pixels(world, self._scale)
        floor = world.free[row[:, None], column[None]]
        picture[floor] *= 0.36
        picture[~floor] = 0.55 * picture[~floor] + 95.0
        self._picture = np.clip(picture, 0, 255).astype(np.uint8)
        self.height, self.width = self._picture.shape[:2]

    def blank(self) -> UInt8Array:
        """A copy of the picture without any drawings, RGB uint8 [H, W, 3]."""
        return self._picture.copy()

    def path(
        self, image: UInt8Array, points: ArrayLike, colour: Colour, thickness: int = 2
    ) -> None:
        """Draw a line through places [N, 2 or more] in metres."""
        places = np.asarray(points, dtype=np.float64)
        if len(places) > 1:
            pixels = np.round(self._base.to_pixels(places) * 16.0).astype(np.int32)
            cv2.polylines(image, [pixels], False, colour, thickness, cv2.LINE_AA, 4)

    def candidates(self, image: UInt8Array, trajectories: list[Trajectory]) -> None:
        """Draw candidates as thin lines, the best on top."""
        for trajectory in reversed(trajectories):
            red, green, blue = trajectory.colour
            self.path(image, trajectory.points, (red, green, blue), 1)

    def dot(self, image: UInt8Array, point: ArrayLike, colour: Colour, radius: int) -> None:
        """Draw a filled circle at a place in metres."""
        cv2.circle(image, self._at(point), radius * 16, colour, -1, cv2.LINE_AA, 4)

    def goal(self, image: UInt8Array, pose: Pose) -> None:
        """Draw a goal: a ring as wide as the tolerance, and an arrow along the yaw."""
        radius = round(REACHED_M * self._scale * 16)
        cv2.circle(image, self._at(pose), radius, GOAL, 2, cv2.LINE_AA, 4)
        self._arrow(image, pose, 0.62, GOAL, 3)

    def robot(self, image: UInt8Array, pose: Pose) -> None:
        """Draw the robot: a disc, and a line along the yaw."""
        self.dot(image, pose, (20, 20, 20), round(0.26 * self._scale))
        self.dot(image, pose, ROBOT, round(0.21 * self._scale))
        self._arrow(image, pose, 0.5, ROBOT, 3)

    def _arrow(
        self, image: UInt8Array, pose: Pose, length_m: float, colour: Colour, thickness: int
    ) -> None:
        x, y, yaw = pose
        tip = (x + length_m * np.cos(yaw), y + length_m * np.sin(yaw))
        start, end = (tuple(v // 16 for v in self._at(p)) for p in ((x, y), tip))
        cv2.arrowedLine(image, start, end, colour, thickness, cv2.LINE_AA, tipLength=0.35)

    def _at(self, point: ArrayLike) -> tuple[int, int]:
        column, row = np.round(self._base.to_pixels(np.asarray(point)[:2]) * 16.0).astype(int)
        return int(column), int(row)
