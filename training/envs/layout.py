"""The plan of a building on the lattice: rooms and corridors, doors, short walls, pillars, objects.

All numbers are cells of 0.25 m. Areas are cut in two again and again, by a wall or by a corridor
between two walls; doors join the areas to a tree, and a few more make loops. What is put into rooms
afterwards never cuts off a place that the robot could reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.envs.world import centres_of, num_parts, runs

#: Smallest and (but for corridors) largest side of a room.
ROOM = (10, 26)
#: Widths of corridors and doors.
CORRIDOR, DOOR = (7, 9), (5, 7)
#: A pillar reaches the ceiling; one sees over the others.
Kind = Literal["pillar", "shelf", "table", "crate"]
KINDS: tuple[Kind, ...] = ("pillar", "shelf", "table", "crate")
SHARES = (0.2, 0.35, 0.25, 0.2)


@dataclass(frozen=True)
class Area:
    """A rectangle of cells, from (row, column) to before (row_end, column_end)."""

    row: int
    column: int
    row_end: int
    column_end: int

    @property
    def size(self) -> tuple[int, int]:
        return self.row_end - self.row, self.column_end - self.column

    @property
    def cells(self) -> tuple[slice, slice]:
        return slice(self.row, self.row_end), slice(self.column, self.column_end)

    def grown(self, rows: int, columns: int) -> Area:
        """The rectangle with so many more cells on each side, from cell 0 on."""
        return Area(
            max(self.row - rows, 0),
            max(self.column - columns, 0),
            self.row_end + rows,
            self.column_end + columns,
        )


@dataclass(frozen=True)
class Thing:
    """An object or a pillar: a solid rectangle in a room; ``height`` 0 reaches the ceiling."""

    kind: Kind
    room: int
    area: Area
    height: int = 0


@dataclass
class Plan:
    """A building.

    Attributes:
        sector: int [rows, columns], area of each cell, -1 for walls, from -2 down for the things.
        owner: int [rows, columns], for solid cells: 0 the building, above it one number for each
            short wall and pillar.
        free: bool [rows, columns], neither wall nor object.
        kept: bool [rows, columns], cells that must stay free: doors, and what lies before them.
        areas: rooms, then corridors, then doors, in the order of their sectors.
        kinds: "room", "corridor" or "door" of each.
        things: the objects; the cells of things[i] have the sector -2 - i.
    """

    sector: NDArray[np.int64]
    owner: NDArray[np.int64]
    free: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    areas: list[Area] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)

    def add_area(self, area: Area, kind: str) -> None:
        self.sector[area.cells] = len(self.areas)
        self.free[area.cells] = True
        self.areas.append(area)
        self.kinds.append(kind)

    def try_solid(self, area: Area) -> bool:
        """Makes a rectangle solid unless that would cut off a place or block a door."""
        if self.kept[area.cells].any() or not self.free[area.cells].all():
            return False
        self.free[area.cells] = False
        if num_parts(centres_of(self.free)) == 1:
            return True
        self.free[area.cells] = True
        return False


def draw_plan(rng: np.random.Generator, rows: int, columns: int) -> Plan | None:
    """A random building of rows x columns cells, outer walls included; None: not all joined."""
    shape = (rows, columns)
    plan = Plan(
        sector=np.full(shape, -1, np.int64),
        owner=np.zeros(shape, np.int64),
        free=np.zeros(shape, np.bool_),
        kept=np.zeros(shape, np.bool_),
    )
    for area, kind in _divided(rng, Area(1, 1, rows - 1, columns - 1), 0):
        plan.add_area(area, kind)
    if not _add_doors(rng, plan) or num_parts(centres_of(plan.free)) != 1:
        return None
    for room in [i for i, kind in enumerate(plan.kinds) if kind == "room"]:
        _furnish(rng, plan, room)
    return plan


def _divided(rng: np.random.Generator, area: Area, depth: int) -> Iterator[tuple[Area, str]]:
    """The rooms and corridors into which an area is divided."""
    along = _cut_direction(rng, area)
    length = area.size[along]
    width = int(rng.integers(CORRIDOR[0], CORRIDOR[1] + 1))
    chance = (0.9, 0.5)[depth] if depth < 2 else 0.0
    if length >= 2 * ROOM[0] + width + 2 and rng.random() < chance:
        at = _middle(rng, ROOM[0], length - ROOM[0] - width - 2)
        first, _, rest = _cut(area, along, at)
        corridor, _, last = _cut(rest, along, width)
        yield corridor, "corridor"
        yield from _divided(rng, first, depth + 1)
        yield from _divided(rng, last, depth + 1)
        return
    enough = max(area.size) <= ROOM[1] and rng.random() < 0.5
    if length < 2 * ROOM[0] + 1 or enough:
        yield area, "room"
        return
    first, _, last = _cut(area, along, _middle(rng, ROOM[0], length - ROOM[0] - 1))
    yield from _divided(rng, first, depth + 1)
    yield from _divided(rng, last, depth + 1)


def _cut_direction(rng: np.random.Generator, area: Area) -> int:
    rows, columns = area.size
    if max(rows, columns) > 1.25 * min(rows, columns):
        return int(columns > rows)
    return int(rng.integers(2))


def _middle(rng: np.random.Generator, low: int, high: int) -> int:
    """A number from low to high, rather in the middle."""
    return low + int(rng.integers(0, high - low + 1) + rng.integers(0, high - low + 1)) // 2


def _cut(area: Area, along: int, at: int) -> tuple[Area, Area, Area]:
    """The part of an area before a wall of one cell, the wall, and the part behind it."""
    begin = (area.row, area.column)[along] + at
    if along == 0:
        first, wall = (area.row, begin), (begin, begin + 1)
        parts = (first, wall, (begin + 1, area.row_end))
        before, between, behind = (Area(a, area.column, b, area.column_end) for a, b in parts)
    else:
        parts = ((area.column, begin), (begin, begin + 1), (begin + 1, area.column_end))
        before, between, behind = (Area(area.row, a, area.row_end, b) for a, b in parts)
    return before, between, behind


def _shared_walls(plan: Plan) -> dict[tuple[int, int], list[Area]]:
    """For each pair of neighbouring areas the pieces of wall (one cell thick) between them."""
    found: dict[tuple[int, int], list[Area]] = {}
    for upright in (False, True):
        grid = plan.sector if upright else plan.sector.T
        left, wall, right = grid[:, :-2], grid[:, 1:-1], grid[:, 2:]
        between = (wall < 0) & (left >= 0) & (right >= 0) & (left != right)
        columns = [item.T for item in (between, left, right)]
        for line, start, end in runs(columns[0], *columns[1:]):
            a, b = int(columns[1][line, start]), int(columns[2][line, start])
            place = (start, line + 1, end, line + 2)
            area = Area(*place) if upright else Area(place[1], place[0], place[3], place[2])
            found.setdefault((min(a, b), max(a, b)), []).append(area)
    return found


def _add_doors(rng: np.random.Generator, plan: Plan, loops: float = 0.2) -> bool:
    """Opens doors so that all areas are joined; False if that cannot be."""
    walls = {
        pair: pieces
        for pair, all_pieces in _shared_walls(plan).items()
        if (pieces := [piece for piece in all_pieces if max(piece.size) >= DOOR[0] + 2])
    }
    parent = list(range(len(plan.areas)))

    def root(area: int) -> int:
        while parent[area] != area:
            area = parent[area]
        return area

    corridors = {i for i, kind in enumerate(plan.kinds) if kind == "corridor"}
    order = sorted(walls, key=lambda pair: rng.random() - 0.35 * bool(corridors & set(pair)))
    left = []
    for pair in order:
        a, b = root(pair[0]), root(pair[1])
        if a == b:
            left.append(pair)
            continue
        parent[max(a, b)] = min(a, b)
        _open(rng, plan, walls[pair])
    for pair in left[: round(loops * len(left))]:
        _open(rng, plan, walls[pair])
    return len({root(area) for area in range(len(parent))}) == 1


def _open(rng: np.random.Generator, plan: Plan, pieces: list[Area]) -> None:
    """A door at a random place of a wall between two areas."""
    piece = pieces[int(rng.integers(len(pieces)))]
    upright = piece.size[0] > piece.size[1]
    length = max(piece.size)
    width = int(rng.integers(DOOR[0], min(DOOR[1], length - 2) + 1))
    at = int(rng.integers(1, length - width))
    if upright:
        door = Area(piece.row + at, piece.column, piece.row + at + width, piece.column_end)
    else:
        door = Area(piece.row, piece.column + at, piece.row_end, piece.column + at + width)
    plan.add_area(door, "door")
    plan.kept[door.grown(0, 5).cells if upright else door.grown(5, 0).cells] = True


def _furnish(rng: np.random.Generator, plan: Plan, room: int) -> None:
    """Puts short walls, pillars and objects into a room."""
    area = plan.areas[room]
    rows, columns = area.size
    if min(rows, columns) >= 14 and rng.random() < 0.4:
        wall = _short_wall(rng, area)
        if plan.try_solid(wall):
            _make_wall(plan, wall)
    wanted = round(rows * columns / 110 + rng.uniform(-0.5, 0.8))
    for _ in range(6 * wanted):
        if wanted == 0:
            return
        kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
        thing = _thing(rng, kind, room, area)
        if thing is not None and plan.try_solid(thing.area):
            wanted -= 1
            if kind == "pillar":
                _make_wall(plan, thing.area)
            else:
                plan.sector[thing.area.cells] = -2 - len(plan.things)
                plan.things.append(thing)


def _make_wall(plan: Plan, area: Area) -> None:
    plan.sector[area.cells] = -1
    plan.owner[area.cells] = plan.owner.max() + 1


def _short_wall(rng: np.random.Generator, area: Area) -> Area:
    """A wall from a side of the room towards the other, which it does not reach."""
    along = int(rng.integers(2))  # 0: across the rows, from the south or the north
    length = int(rng.integers(4, area.size[along] - 6))
    at = int(rng.integers(6, area.size[1 - along] - 6))
    far = bool(rng.integers(2))
    begin = area.size[along] - length if far else 0
    if along == 0:
        row, column = area.row + begin, area.column + at
        return Area(row, column, row + length, column + 1)
    row, column = area.row + at, area.column + begin
    return Area(row, column, row + 1, column + length)


def _thing(rng: np.random.Generator, kind: Kind, room: int, area: Area) -> Thing | None:
    """An object of a kind at a random place of the room; None: the room is too small for it."""
    if kind == "pillar":
        side = int(rng.integers(2, 4))
        size, height, at_wall = (side, side), 0, False
    elif kind == "shelf":
        size = int(rng.integers(4, 9)), int(rng.integers(2, 4))
        height, at_wall = int(rng.integers(44, 67)), True
    elif kind == "table":
        size = int(rng.integers(4, 8)), int(rng.integers(3, 6))
        height, at_wall = int(rng.integers(26, 33)), bool(rng.random() < 0.3)
    else:
        side = int(rng.integers(3, 5))
        size, height, at_wall = (side, side), int(rng.integers(28, 41)), bool(rng.random() < 0.5)
    if rng.random() < 0.5:
        size = size[1], size[0]
    room_left = area.size[0] - size[0], area.size[1] - size[1]
    if min(room_left) < 5:
        return None
    row, column = (int(rng.integers(0, n + 1)) for n in room_left)
    if at_wall:  # the long side along the wall
        along_rows = size[0] > size[1] or (size[0] == size[1] and rng.random() < 0.5)
        if along_rows:
            column = int(rng.choice([0, room_left[1]]))
        else:
            row = int(rng.choice([0, room_left[0]]))
    else:  # away from the walls, mostly with room to pass
        row, column = (min(max(v, 2), n - 2) for v, n in zip((row, column), room_left, strict=True))
    row, column = area.row + row, area.column + column
    return Thing(kind, room, Area(row, column, row + size[0], column + size[1]), height)
