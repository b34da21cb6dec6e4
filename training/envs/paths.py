"""Shortest ways of the robot's centre through a world, and what lies behind walls.

The robot is a square whose sides stay parallel to x and y, and walls lie on the lattice: its centre
is free of collisions exactly in the cells of ``World.centres``. Ways go from cell to cell in eight
directions, never across a corner, and are then pulled straight.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.world import CELL_M, World
from v2w_core.errors import V2WError

#: Number of goals for which the ways from all cells are kept.
KEPT = 64
#: Ways shorter than this have no wall between their ends: the robot is a square of 1 m.
NEAR_M = 1.5


class Paths:
    """Distances and ways in one world; what was computed for a goal is kept.

    Args:
        world: the world.
    """

    def __init__(self, world: World) -> None:
        self._centres = np.pad(world.centres, 1)
        cells = np.argwhere(self._centres)
        self._places = (cells[:, ::-1] - 0.5) * CELL_M
        self._numbers = np.full(self._centres.shape, -1)
        self._numbers[self._centres] = np.arange(len(cells))
        self._graph = _neighbours(self._numbers, len(cells))
        self._towards: OrderedDict[int, tuple[NDArray[np.float64], NDArray[np.int64]]] = (
            OrderedDict()
        )

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
        here, there = self._cell(ends[0], "start"), self._cell(ends[1], "goal")
        if not self.straight_line_blocked(*ends):
            return np.stack(ends)
        cells = self._cells(here, there, len(self._places))
        if cells[-1] != there:
            raise V2WError("start", "a place from which the goal can be reached", ends[0].tolist())
        way = [ends[0], *self._places[cells], ends[1]]
        forward, backward = self._pulled(way), self._pulled(way[::-1])[::-1]
        return min(forward, backward, key=length_m)

    def ahead(self, start: ArrayLike, goal: ArrayLike, distance_m: float) -> NDArray[np.float64]:
        """The place [2] about ``distance_m`` ahead on the way, or nearer if a wall is before it.

        It is cheap enough for every step of a drive. Raises as :meth:`path` does.
        """
        ends = _place(start, "start"), _place(goal, "goal")
        here, there = self._cell(ends[0], "start"), self._cell(ends[1], "goal")
        cells = self._cells(here, there, round(distance_m / CELL_M))
        if cells[-1] == there and not self.straight_line_blocked(*ends):
            return ends[1]
        while len(cells) > 1:
            place = self._places[cells[-1]]
            if not self.straight_line_blocked(ends[0], place):
                return np.asarray(place)
            cells = cells[: (len(cells) + 1) // 2]
        return np.asarray(self._places[cells[0]])

    def fits(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the robot fits at places [..., 2] in metres; touching a wall counts as free."""
        points = np.asarray(places, np.float64)
        return self._free(points.reshape(-1, 2) / CELL_M).reshape(points.shape[:-1])

    def distances(self, places: NDArray[np.float64], goal: ArrayLike) -> NDArray[np.float64]:
        """Lengths in metres of the ways from cell to cell from many places to one goal.

        Ways from cell to cell are up to 8 % longer than :meth:`path`; the last 1.5 m count as the
        crow flies.

        Args:
            places: [..., 2] in metres.
            goal: a place (x m, y m, ...).

        Returns:
            [...]; infinity where the robot does not fit.
        """
        there = _place(goal, "goal")
        lengths = np.append(self._ways_to(self._cell(there, "goal"))[0] * CELL_M, np.inf)
        points = np.asarray(places, np.float64)
        cells = np.floor(points[..., None, :] / CELL_M + _TOUCHING).astype(np.int64) + 1
        cells = np.clip(cells, 0, np.array(self._numbers.shape[::-1]) - 1)
        found = lengths[self._numbers[cells[..., 1], cells[..., 0]]].min(axis=-1)
        straight = np.hypot(points[..., 0] - there[0], points[..., 1] - there[1])
        return np.where(found < NEAR_M, straight, found)

    def _cells(self, here: int, there: int, most: int) -> list[int]:
        """Numbers of the first cells on the shortest way, ``here`` and at most ``most`` others."""
        towards = self._ways_to(there)[1]
        cells = [here]
        while cells[-1] != there and len(cells) <= most and towards[cells[-1]] >= 0:
            cells.append(int(towards[cells[-1]]))
        return cells

    def _ways_to(self, cell: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Lengths in cells of the shortest ways from every cell to one, and the next cell on each.

        The next cell is negative where there is none.
        """
        from scipy.sparse.csgraph import dijkstra

        if cell not in self._towards:
            self._towards[cell] = dijkstra(
                self._graph, directed=False, indices=cell, return_predecessors=True
            )
            if len(self._towards) > KEPT:
                self._towards.popitem(last=False)
        self._towards.move_to_end(cell)
        return self._towards[cell]

    def _cell(self, place: NDArray[np.float64], name: str) -> int:
        """Number of the cell of a place where the robot fits."""
        columns, rows = (np.floor(place / CELL_M + _TOUCHING).astype(np.int64) + 1).T
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            inside = 0 <= row < len(self._numbers) and 0 <= column < self._numbers.shape[1]
            if inside and self._centres[row, column]:
                return int(self._numbers[row, column])
        raise V2WError(name, "a free place, half a metre from every wall", place.tolist())

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


def _neighbours(numbers: NDArray[np.int64], count: int) -> Any:
    """The graph of free cells, with lengths in cells; diagonals only where both sides are free.

    Args:
        numbers: int [rows, columns], number of each free cell, -1 elsewhere.
        count: how many there are.
    """
    from scipy.sparse import csr_matrix

    lower, upper, left, right = slice(None, -1), slice(1, None), slice(None, -1), slice(1, None)
    everything = slice(None)
    moves = [
        ((everything, left), (everything, right), ()),
        ((lower, everything), (upper, everything), ()),
        ((lower, left), (upper, right), ((lower, right), (upper, left))),
        ((lower, right), (upper, left), ((lower, left), (upper, right))),
    ]
    pairs, lengths = [], []
    for first, second, beside in moves:
        joined = (numbers[first] >= 0) & (numbers[second] >= 0)
        for cells in beside:
            joined &= numbers[cells] >= 0
        pairs.append(np.stack([numbers[first][joined], numbers[second][joined]]))
        lengths.append(np.full(pairs[-1].shape[1], math.sqrt(2.0) if beside else 1.0))
    return csr_matrix((np.concatenate(lengths), np.concatenate(pairs, axis=1)), (count, count))
