"""The small maze: a seeded grid of cells of 2.5 m, all of which can be reached.

The maze is a grid of blocks. Even block rows and columns are walls (0.25 m), odd ones cells
(2.25 m); a wall block between two cells may be open. Wall textures differ between the faces of
cells, and floors, ceilings and lights between cells, so that views identify their pose.

Lengths here are map units; 32 units = 1 m. x is east, y is north.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.envs.textures import CEILINGS, FLOORS, LIGHTS, WALLS, Colour
from training.envs.udmf import Passage, Sector, write_textmap
from training.envs.world import CELL as LATTICE
from training.envs.world import Face, World
from v2w_core.errors import V2WError

WALL = 8
CELL = 72

#: Side of a block -> (row step, column step) to the next block.
SIDES = {"south": (-1, 0), "north": (1, 0), "west": (0, -1), "east": (0, 1)}


def build_maze(seed: int = 0, *, rows: int = 3, columns: int = 4, loops: float = 0.35) -> World:
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
        sectors.append(Sector(floor, ceiling, light, colour))
    start = (WALL + CELL // 2, WALL + CELL // 2)
    cells = np.repeat(np.repeat(sector, np.diff(ys) // LATTICE, 0), np.diff(xs) // LATTICE, 1)
    return World(
        name="maze",
        seed=seed,
        sector=cells,
        free=cells >= 0,
        faces=tuple(faces),
        floors=tuple(colour for _, colour in floors),
        textmap=write_textmap(faces, passages, sectors, start),
    )


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
) -> tuple[list[Face], list[Passage]]:
    """Wall faces, and passages between the sectors of cells."""
    faces: list[Face] = []
    passages: list[Passage] = []
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
                passages.append(Passage(*lines[side], here, beyond))
    return faces, passages
