"""A simulated world: where its walls and objects are, how they look, and the map ViZDoom loads.

Everything solid lies on a lattice of square cells of 0.25 m, so that questions about free space
have exact answers. x is east, y is north. Lengths are map units unless a name says otherwise;
32 units = 1 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.envs.textures import Colour

UNITS_PER_M = 32.0
#: Side of a lattice cell.
CELL = 8
CELL_M = CELL / UNITS_PER_M
#: Half the side of the robot, a square of 1 m whose sides stay parallel to x and y.
ROBOT_RADIUS = 16.0
#: The same in cells.
ROBOT_CELLS = round(ROBOT_RADIUS / CELL)


@dataclass(frozen=True)
class Face:
    """A textured vertical face, from (x0, y0) to (x1, y1) with the open side on its right."""

    x0: int
    y0: int
    x1: int
    y1: int
    sector: int
    texture: str
    colour: Colour


@dataclass(frozen=True)
class World:
    """A world; the same name and seed give the same world.

    Attributes:
        name: of the generator, see :data:`training.envs.worlds.WORLDS`.
        seed: of map, textures and lights.
        sector: int [rows, columns], the sector of each lattice cell, south first; -1 for a wall.
        free: bool [rows, columns], cells with neither wall nor object.
        faces: all faces of walls and objects.
        floors: mean colour of each sector's floor; of an object's sector that of its top.
        textmap: the map in UDMF.
    """

    name: str
    seed: int
    sector: NDArray[np.int64]
    free: NDArray[np.bool_]
    faces: tuple[Face, ...]
    floors: tuple[Colour, ...]
    textmap: str

    @property
    def size_m(self) -> tuple[float, float]:
        """Outer size along x and y in metres."""
        rows, columns = self.free.shape
        return columns * CELL_M, rows * CELL_M

    def is_free(self, x_m: float, y_m: float, margin_m: float = 0.02) -> bool:
        """Whether the robot's 1 m x 1 m square around (x, y) in metres overlaps nothing solid."""
        reach = (ROBOT_RADIUS + margin_m * UNITS_PER_M) / CELL
        column, row = x_m / CELL_M, y_m / CELL_M
        rows, columns = self.free.shape
        if not (column - reach >= 0 and row - reach >= 0):
            return False
        if not (column + reach <= columns and row + reach <= rows):
            return False
        low, high = int(row - reach), int(row + reach)
        left, right = int(column - reach), int(column + reach)
        return bool(self.free[low : high + 1, left : right + 1].all())

    def sample_free(self, rng: np.random.Generator) -> tuple[float, float]:
        """A free position (x m, y m), uniform over the free area."""
        while True:
            x = float(rng.uniform(0.0, self.size_m[0]))
            y = float(rng.uniform(0.0, self.size_m[1]))
            if self.is_free(x, y):
                return x, y

    @cached_property
    def centres(self) -> NDArray[np.bool_]:
        """Cells in which the robot's centre can be; see :func:`centres_of`."""
        return centres_of(self.free)


def centres_of(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells in which the robot's centre can be anywhere without an overlap, bool [rows, columns].

    Walls lie on the lattice and the robot is whole cells wide, so that a centre is collision-free
    if and only if its cell is one of these (touching a wall counts as free).
    """
    import cv2

    kernel = np.ones((2 * ROBOT_CELLS + 1,) * 2, np.uint8)
    eroded = cv2.erode(free.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(eroded, dtype=np.bool_)


def num_parts(centres: NDArray[np.bool_]) -> int:
    """Number of separate regions that the robot's centre can be in."""
    import cv2

    return int(cv2.connectedComponents(centres.astype(np.uint8), connectivity=4)[0]) - 1


def runs(shown: NDArray[np.bool_], *values: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(row, start, end) of each run along a row, from start to before end, row by row.

    Args:
        shown: bool [rows, columns], the cells that count.
        values: arrays of the same shape, which do not change within a run.
    """
    same = shown[:, 1:] & shown[:, :-1]
    for array in values:
        same &= array[:, 1:] == array[:, :-1]
    begins = np.argwhere(shown & ~np.pad(same, ((0, 0), (1, 0))))
    ends = np.argwhere(shown & ~np.pad(same, ((0, 0), (0, 1))))[:, 1] + 1
    return [(r, c, end) for (r, c), end in zip(begins.tolist(), ends.tolist(), strict=True)]
