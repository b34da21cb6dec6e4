"""Shortest ways of the robot's centre through a world, and what lies behind walls.

The robot is a square whose sides stay parallel to x and y, and walls lie on the lattice: its centre
is free of collisions exactly in the cells of ``World.centres``. Ways go from cell to cell in eight
directions, never across a corner, and are then pulled straight.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.world import CELL_M, World
from v2w_core.errors import V2WError

#: Number of goals whose distances to all cells are kept.
KEPT = 64
_STRAIGHT, _DIAGONAL = 1.0, math.sqrt(2.0)


class Paths:
    """Distances and ways in one world; what was computed for a goal is kept.

    Args:
        world: the world.
    """

    def __init__(self, world: World) -> None:
        self._centres = np.pad(world.centres, 1)
        self._fields: OrderedDict[tuple[int, int], NDArray[np.float64]] = OrderedDict()

    def straight_line_blocked(self, start: ArrayLike, goal: ArrayLike) -> bool:
        """Whether the robot hits a wall or an object on the straight line between two places.

        Touching a wall on the way counts as free.

        Args:
            start, goal: places (x m, y m, ...); a yaw behind them does not matter.

        Raises:
            V2WError: a coordinate is not finite.
        """
        a, b = _place(start, "start") / CELL_M, _place(goal, "goal") / CELL_M
        cuts = [np.array([0.0, 1.0])]
        for axis in range(2):
            if a[axis] != b[axis]:
                low, high = sorted((a[axis], b[axis]))
                lines = np.arange(math.ceil(low), math.floor(high) + 1)
                cuts.append((lines - a[axis]) / (b[axis] - a[axis]))
        at = np.unique(np.clip(np.concatenate(cuts), 0.0, 1.0))
        middles = a + ((at[1:] + at[:-1]) / 2)[:, None] * (b - a)
        return not bool(self._free(middles).all())

    def _free(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points [N, 2] (x, y in cells) lie in a free cell, or on the edge of one."""
        cells = np.floor(points[:, None] + _TOUCHING).astype(np.int64) + 1
        cells = np.clip(cells, 0, np.array(self._centres.shape[::-1]) - 1)
        return np.asarray(self._centres[cells[..., 1], cells[..., 0]].any(axis=1))

    def distance(self, start: ArrayLike, goal: ArrayLike) -> float:
        """Length in metres of the shortest way between two places, see :meth:`path`."""
        return length_m(self.path(start, goal))

    def path(self, start: ArrayLike, goal: ArrayLike) -> NDArray[np.float64]:
        """The corners [N, 2] in metres of the shortest way, both ends included.

        It is a straight line wherever the robot can drive one. Elsewhere its corners are centres
        of cells: it is up to a few per cent longer than the shortest way that touches corners, and
        keeps 0.12 m off them.

        Raises:
            V2WError: the robot does not fit at the start or at the goal, or there is no way.
        """
        ends = [_place(start, "start"), _place(goal, "goal")]
        (row, column), _ = self._cell(ends[0], "start"), self._cell(ends[1], "goal")
        if not self.straight_line_blocked(*ends):
            return np.stack(ends)
        field = self.field(ends[1])
        if not math.isfinite(field[row, column]):
            raise V2WError("start", "a place from which the goal can be reached", ends[0].tolist())
        places = [ends[0]]
        while field[row, column] > 0:
            row, column = self._downhill(field, row, column)
            places.append(np.array([column - 0.5, row - 0.5]) * CELL_M)
        places.append(ends[1])
        forward, backward = self._pulled(places), self._pulled(places[::-1])[::-1]
        return min(forward, backward, key=length_m)

    def field(self, goal: ArrayLike) -> NDArray[np.float64]:
        """Length of the way to a goal's cell from every cell, in cells; infinite where none is.

        The array has a border of one cell around the world's.
        """
        cell = self._cell(_place(goal, "goal"), "goal")
        if cell not in self._fields:
            self._fields[cell] = _lengths(self._centres, cell)
            if len(self._fields) > KEPT:
                self._fields.popitem(last=False)
        self._fields.move_to_end(cell)
        return self._fields[cell]

    def _cell(self, place: NDArray[np.float64], name: str) -> tuple[int, int]:
        """Row and column, in the array with a border, of a place where the robot fits."""
        columns, rows = (np.floor(place / CELL_M + _TOUCHING).astype(np.int64) + 1).T
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            inside = 0 <= row < len(self._centres) and 0 <= column < self._centres.shape[1]
            if inside and self._centres[row, column]:
                return row, column
        raise V2WError(name, "a free place, half a metre from every wall", place.tolist())

    def _downhill(self, field: NDArray[np.float64], row: int, column: int) -> tuple[int, int]:
        """The next cell on the way."""
        best, where = math.inf, (row, column)
        for dr, dc, length in _MOVES:
            if (
                dr
                and dc
                and not (self._centres[row + dr, column] and self._centres[row, column + dc])
            ):
                continue
            total = field[row + dr, column + dc] + length
            if total < best - 1e-9:
                best, where = total, (row + dr, column + dc)
        return where

    def _pulled(self, places: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The way with as few corners as straight lines allow."""
        corners, here = [places[0]], 0
        while here < len(places) - 1:
            ahead = next(
                number
                for number in range(len(places) - 1, here, -1)
                if number == here + 1
                or not self.straight_line_blocked(places[here], places[number])
            )
            corners.append(places[ahead])
            here = ahead
        return np.stack(corners)


def length_m(way: NDArray[np.float64]) -> float:
    """Length of a way with corners [N, 2]."""
    return float(np.hypot(*np.diff(way, axis=0).T).sum())


def _place(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """The first two of several numbers (x m, y m)."""
    place = np.asarray(values, np.float64)[:2]
    if place.shape != (2,) or not np.isfinite(place).all():
        raise V2WError(name, "a place (x m, y m) of finite numbers", values)
    return place


#: A place on the edge of a cell belongs to both: offsets in cells, the place itself first.
_TOUCHING = np.array([(0.0, 0.0), *((x, y) for x in (-0.01, 0.01) for y in (-0.01, 0.01))])
_MOVES = [
    (dr, dc, _DIAGONAL if dr and dc else _STRAIGHT)
    for dr in (-1, 0, 1)
    for dc in (-1, 0, 1)
    if dr or dc
]


def _lengths(centres: NDArray[np.bool_], goal: tuple[int, int]) -> NDArray[np.float64]:
    """Length of the shortest way from each cell to the goal's; all grow by one cell a round."""
    lengths = np.full(centres.shape, np.inf)
    lengths[goal] = 0.0
    wall = ~centres
    rows, columns = centres.shape
    inner = (slice(1, -1), slice(1, -1))
    moves = []
    for dr, dc, length in _MOVES:
        source = (slice(1 + dr, rows - 1 + dr), slice(1 + dc, columns - 1 + dc))
        cost = np.full((rows - 2, columns - 2), length)
        if dr and dc:
            beside = centres[source[0], 1:-1] & centres[1:-1, source[1]]
            cost[~beside] = np.inf
        cost[wall[inner]] = np.inf
        moves.append((source, cost))
    while True:
        before = lengths[inner].copy()
        for source, cost in moves:
            np.minimum(lengths[inner], lengths[source] + cost, out=lengths[inner])
        if np.array_equal(before, lengths[inner]):
            return lengths
