"""Top-down map of the maze, with floors and walls in their mean colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.maze import UNITS_PER_M, Maze


@dataclass(frozen=True)
class TopDownMap:
    """A picture of the maze, north up.

    Attributes:
        image: uint8 [rows, columns, 3] RGB.
        pixels_per_m: scale in pixels per metre.
        height_m: extent along y in metres; the top edge of the picture is y = height_m.
    """

    image: NDArray[np.uint8]
    pixels_per_m: float
    height_m: float

    def to_pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """World metres [..., 2+] (x, y, ...) -> pixels [..., 2] (column, row)."""
        array = np.asarray(points, dtype=np.float64)
        column = array[..., 0] * self.pixels_per_m
        row = (self.height_m - array[..., 1]) * self.pixels_per_m
        return np.stack([column, row], axis=-1)


def draw_top_down(maze: Maze, pixels_per_m: float = 48.0) -> TopDownMap:
    """Draws the maze; walls are a band along each face in that face's colour."""
    scale = pixels_per_m / UNITS_PER_M
    columns = round(float(maze.xs[-1]) * scale)
    rows = round(float(maze.ys[-1]) * scale)
    image = np.full((rows, columns, 3), 40, dtype=np.uint8)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        left, right = sorted((round(x0 * scale), round(x1 * scale)))
        top, bottom = sorted((rows - round(y1 * scale), rows - round(y0 * scale)))
        return slice(max(top, 0), bottom), slice(max(left, 0), right)

    for r, c in np.argwhere(maze.sector >= 0):
        floor = np.array(maze.floors[maze.sector[r, c]], dtype=np.float64)
        where = box(maze.xs[c], maze.ys[r], maze.xs[c + 1], maze.ys[r + 1])
        image[where] = (150 + floor * 0.35).astype(np.uint8)
    half_wall = 4
    for face in maze.faces:
        # The open side is on the right of the face's direction, the wall on its left.
        nx, ny = np.sign(face.y0 - face.y1) * half_wall, np.sign(face.x1 - face.x0) * half_wall
        image[box(face.x0, face.y0, face.x1 + nx, face.y1 + ny)] = face.colour
    return TopDownMap(image, pixels_per_m, float(maze.ys[-1]) / UNITS_PER_M)
