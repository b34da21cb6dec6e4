"""A seeded maze: open cells on a grid, written as a UDMF map that ViZDoom loads.

The maze is a grid of blocks. Even block rows and columns are walls (0.25 m), odd ones cells
(2.25 m); a wall block between two cells may be open. Wall textures differ between the faces of
cells, and floors, ceilings and lights between cells, so that views identify their pose.

Lengths here are map units unless a name says otherwise; 32 units = 1 m. x is east, y is north.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.envs.maze_textures import CEILINGS, FLOORS, LIGHTS, WALLS, Colour
from v2w_core.errors import V2WError

UNITS_PER_M = 32.0
PLAYER_RADIUS = 16.0
WALL = 8
CELL = 72
CEILING = 96

#: Side of a block -> (row step, column step) to the next block.
SIDES = {"south": (-1, 0), "north": (1, 0), "west": (0, -1), "east": (0, 1)}


@dataclass(frozen=True)
class Face:
    """A textured wall face, from (x0, y0) to (x1, y1) with the open side on its right."""

    x0: int
    y0: int
    x1: int
    y1: int
    sector: int
    texture: str
    colour: Colour


@dataclass(frozen=True)
class Maze:
    """A maze of ``rows`` x ``columns`` cells; the same seed gives the same maze.

    Attributes:
        xs, ys: block boundaries, int [columns * 2 + 2] and [rows * 2 + 2].
        sector: int [blocks_y, blocks_x], the cell of each block, -1 for a solid block.
        faces: all wall faces.
        floors: mean colour of each cell's floor.
        textmap: the map in UDMF.
    """

    seed: int
    rows: int
    columns: int
    xs: NDArray[np.int64]
    ys: NDArray[np.int64]
    sector: NDArray[np.int64]
    faces: tuple[Face, ...]
    floors: tuple[Colour, ...]
    textmap: str

    @property
    def size_m(self) -> tuple[float, float]:
        """Outer size along x and y in metres."""
        return float(self.xs[-1] / UNITS_PER_M), float(self.ys[-1] / UNITS_PER_M)

    def is_free(self, x_m: float, y_m: float, margin_m: float = 0.02) -> bool:
        """Whether the robot's 1 m x 1 m square around (x, y) in metres overlaps no wall."""
        reach = PLAYER_RADIUS + margin_m * UNITS_PER_M
        x, y = x_m * UNITS_PER_M, y_m * UNITS_PER_M
        if not (x - reach >= 0 and y - reach >= 0):
            return False
        if not (x + reach <= self.xs[-1] and y + reach <= self.ys[-1]):
            return False
        left, right = np.searchsorted(self.xs, (x - reach, x + reach), side="right") - 1
        low, high = np.searchsorted(self.ys, (y - reach, y + reach), side="right") - 1
        return bool((self.sector[low : high + 1, left : right + 1] >= 0).all())

    def sample_free(self, rng: np.random.Generator) -> tuple[float, float]:
        """A free position (x m, y m), uniform over the free area."""
        while True:
            x = float(rng.uniform(0.0, self.size_m[0]))
            y = float(rng.uniform(0.0, self.size_m[1]))
            if self.is_free(x, y):
                return x, y

    def write_wad(self, path: str | os.PathLike[str]) -> Path:
        """Writes the map as a PWAD with one level, MAP01."""
        lumps = (("MAP01", b""), ("TEXTMAP", self.textmap.encode("ascii")), ("ENDMAP", b""))
        body, directory, offset = b"", b"", 12
        for name, data in lumps:
            directory += struct.pack("<ii8s", offset, len(data), name.encode("ascii"))
            body += data
            offset += len(data)
        target = Path(path)
        target.write_bytes(struct.pack("<4sii", b"PWAD", len(lumps), offset) + body + directory)
        return target


def build_maze(seed: int = 0, *, rows: int = 3, columns: int = 4, loops: float = 0.35) -> Maze:
    """A random maze in which every cell can be reached.

    Args:
        seed: seed of map, textures and lights.
        rows, columns: number of cells; each is 2.25 m wide plus a wall of 0.25 m.
        loops: share of the spanning tree's remaining walls that are removed.

    Raises:
        V2WError: fewer than 1 or more than 12 rows or columns.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not 1 <= value <= 12:
            raise V2WError(f"maze.{name}", "1 to 12 cells", value)
    rng = np.random.default_rng([seed, 7])
    sector = _carve(rng, rows, columns, loops)
    xs = np.cumsum([0] + [WALL, CELL] * columns + [WALL])
    ys = np.cumsum([0] + [WALL, CELL] * rows + [WALL])
    textures = _choose_textures(rng, sector, columns)
    faces, passages = _boundaries(sector, xs, ys, textures)
    floors = [FLOORS[i % len(FLOORS)] for i in _shuffled(rng, rows * columns, len(FLOORS))]
    ceilings = [CEILINGS[i] for i in _shuffled(rng, rows * columns, len(CEILINGS))]
    sectors = []
    for (floor, _), (ceiling, _) in zip(floors, ceilings, strict=True):
        light, colour = int(rng.integers(13, 17)) * 16 - 1, int(rng.choice(LIGHTS))
        sectors.append(
            f'sector{{heightfloor=0;heightceiling={CEILING};texturefloor="{floor}";'
            f'textureceiling="{ceiling}";lightlevel={light};lightcolor={colour};}}'
        )
    start = (WALL + CELL // 2, WALL + CELL // 2)
    textmap = _textmap(faces, passages, sectors, start)
    colours = tuple(colour for _, colour in floors)
    return Maze(seed, rows, columns, xs, ys, sector, tuple(faces), colours, textmap)


def _carve(rng: np.random.Generator, rows: int, columns: int, loops: float) -> NDArray[np.int64]:
    """Sector of each block, for a random spanning tree of cells plus some loops."""
    sector = np.full((2 * rows + 1, 2 * columns + 1), -1, dtype=np.int64)
    sector[1::2, 1::2] = np.arange(rows * columns).reshape(rows, columns)
    parent = list(range(rows * columns))

    def root(cell: int) -> int:
        while parent[cell] != cell:
            cell = parent[cell]
        return cell

    walls = [(r, c) for r in range(1, 2 * rows) for c in range(1, 2 * columns) if (r + c) % 2]
    left: list[tuple[int, int, int]] = []
    for index in rng.permutation(len(walls)):
        r, c = walls[index]
        dr, dc = (1, 0) if c % 2 else (0, 1)
        one, two = int(sector[r - dr, c - dc]), int(sector[r + dr, c + dc])
        a, b = root(one), root(two)
        if a == b:
            left.append((r, c, one))
        else:
            parent[max(a, b)] = min(a, b)
            sector[r, c] = one
    for r, c, one in left[: round(loops * len(left))]:
        sector[r, c] = one
    for r in range(2, 2 * rows, 2):  # remove pillars without walls
        for c in range(2, 2 * columns, 2):
            if all(sector[r + dr, c + dc] >= 0 for dr, dc in SIDES.values()):
                sector[r, c] = sector[r - 1, c]
    return sector


def _shuffled(rng: np.random.Generator, count: int, choices: int) -> list[int]:
    """``count`` random numbers below ``choices``, each about equally often."""
    rounds = [rng.permutation(choices) for _ in range(-(-count // choices))]
    return [int(i) for i in np.concatenate(rounds)[:count]]


def _choose_textures(
    rng: np.random.Generator, sector: NDArray[np.int64], columns: int
) -> dict[tuple[int, str], tuple[str, Colour]]:
    """A wall texture for every side with a wall; nearby walls get dissimilar colours."""
    length: dict[tuple[int, str], int] = {}
    for r, c in np.argwhere(sector >= 0):
        for side, (dr, dc) in SIDES.items():
            if sector[r + dr, c + dc] < 0:
                key = int(sector[r, c]), side
                length[key] = max(length.get(key, 0), CELL if r % 2 and c % 2 else WALL)
    keys = [list(length)[i] for i in rng.permutation(len(length))]
    used = np.zeros(len(WALLS))
    colours = np.array([colour for _, colour in WALLS], dtype=np.float64)
    chosen: dict[tuple[int, str], int] = {}
    for cell, side in sorted(keys, key=lambda key: -length[key]):  # whole walls first
        row, column = divmod(cell, columns)
        near = [
            texture
            for (other, _), texture in chosen.items()
            if abs(other // columns - row) <= 1 and abs(other % columns - column) <= 1
        ]
        gap = np.full(len(WALLS), 200.0)
        if near:
            gap = np.minimum(np.abs(colours[:, None] - colours[near]).sum(-1).min(1), 200.0)
        best = int(np.argmax(gap - 400.0 * used + rng.uniform(0, 60, len(WALLS))))
        used[best] += 1
        chosen[cell, side] = best
    return {key: WALLS[texture] for key, texture in chosen.items()}


def _boundaries(
    sector: NDArray[np.int64],
    xs: NDArray[np.int64],
    ys: NDArray[np.int64],
    textures: dict[tuple[int, str], tuple[str, Colour]],
) -> tuple[list[Face], list[tuple[int, int, int, int, int, int]]]:
    """Wall faces, and passages (x0, y0, x1, y1, sector on the right, sector on the left)."""
    faces: list[Face] = []
    passages: list[tuple[int, int, int, int, int, int]] = []
    for r, c in np.argwhere(sector >= 0):
        left, right, low, high = (int(v) for v in (xs[c], xs[c + 1], ys[r], ys[r + 1]))
        lines = {
            "south": (right, low, left, low),
            "north": (left, high, right, high),
            "west": (left, low, left, high),
            "east": (right, high, right, low),
        }
        here = int(sector[r, c])
        for side, (dr, dc) in SIDES.items():
            beyond = int(sector[r + dr, c + dc])
            if beyond < 0:
                faces.append(Face(*lines[side], here, *textures[here, side]))
            elif beyond != here and side in ("north", "east"):
                passages.append((*lines[side], here, beyond))
    return faces, passages


def _textmap(
    faces: list[Face],
    passages: list[tuple[int, int, int, int, int, int]],
    sectors: list[str],
    start: tuple[int, int],
) -> str:
    vertices: dict[tuple[int, int], int] = {}
    sides: list[str] = []
    lines: list[str] = []

    def vertex(x: int, y: int) -> int:
        return vertices.setdefault((x, y), len(vertices))

    for face in faces:
        ends = f"v1={vertex(face.x0, face.y0)};v2={vertex(face.x1, face.y1)};"
        lines.append(f"linedef{{{ends}sidefront={len(sides)};blocking=true;}}")
        sides.append(f'sidedef{{sector={face.sector};texturemiddle="{face.texture}";}}')
    for x0, y0, x1, y1, right, left in passages:
        ends = f"v1={vertex(x0, y0)};v2={vertex(x1, y1)};"
        count = len(sides)
        lines.append(f"linedef{{{ends}sidefront={count};sideback={count + 1};twosided=true;}}")
        sides += [f"sidedef{{sector={right};}}", f"sidedef{{sector={left};}}"]
    skills = "".join(f"skill{i}=true;" for i in range(1, 6))
    thing = f"thing{{x={start[0]};y={start[1]};angle=0;type=1;{skills}single=true;}}"
    points = [f"vertex{{x={x};y={y};}}" for x, y in vertices]
    return "\n".join(['namespace="zdoom";', *points, *sides, *lines, *sectors, thing]) + "\n"
