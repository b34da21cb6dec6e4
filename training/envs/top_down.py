"""Top-down map of a world, with floors, walls and objects in their mean colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.world import CELL_M, UNITS_PER_M, World


@dataclass(frozen=True)
class TopDownMap:
    """A picture of the world, north up.

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


def draw_top_down(world: World, pixels_per_m: float = 48.0) -> TopDownMap:
    """Draws the world: floors pale, objects in the colour of their tops, walls dark.

    Along each wall and each side of an object is a band in its colour.
    """
    scale = pixels_per_m / UNITS_PER_M
    height = world.size_m[1]
    colours = np.array([*world.floors, (0, 0, 0)], dtype=np.float64)
    pale = (150 + colours * 0.35).astype(np.uint8)
    full = (30 + colours * 0.7).astype(np.uint8)
    pale[-1] = full[-1] = 40
    row, column = cells_of_pixels(world, pixels_per_m)
    sector = world.sector[row[:, None], column[None]]
    free = world.free[row[:, None], column[None]]
    image = np.where(free[..., None], pale[sector], full[sector])
    rows = len(image)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        left, right = sorted((round(x0 * scale), round(x1 * scale)))
        top, bottom = sorted((rows - round(y1 * scale), rows - round(y0 * scale)))
        return slice(max(top, 0), bottom), slice(max(left, 0), right)

    half_wall = 4
    for face in world.faces:
        # The open side is on the right of the face's direction, the solid one on its left.
        nx, ny = np.sign(face.y0 - face.y1) * half_wall, np.sign(face.x1 - face.x0) * half_wall
        image[box(face.x0, face.y0, face.x1 + nx, face.y1 + ny)] = face.colour
    return TopDownMap(image, pixels_per_m, height)


def cells_of_pixels(
    world: World, pixels_per_m: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lattice row of each row of a picture, from the north, and the column of each column."""
    num_rows, num_columns = world.free.shape
    scale = pixels_per_m * CELL_M
    edges = [np.round(np.arange(n + 1) * scale).astype(int) for n in (num_rows, num_columns)]
    row, column = (np.repeat(np.arange(len(e) - 1), np.diff(e)) for e in edges)
    return row[::-1], column
