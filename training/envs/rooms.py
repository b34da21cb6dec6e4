"""Buildings with rooms, corridors, doors, dead ends, pillars and objects, as large as asked for.

The plan comes from :mod:`training.envs.layout`; here it gets heights, light and textures. Doors are
lower than rooms, so that one sees a frame; of objects one sees the top, or over it. A long wall has
several panels, and neighbouring faces differ in colour, so that views identify their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.envs.layout import Plan, draw_plan
from training.envs.textures import CEILINGS, FLOORS, LIGHTS, MORE_WALLS, OBJECTS, Colour
from training.envs.udmf import Passage, Sector, Step, write_textmap
from training.envs.world import CELL, CELL_M, Face, World, centres_of, runs
from v2w_core.errors import V2WError

#: Inner sides of a building in metres: from the smallest that has several rooms.
SIDE_M = (8.0, 40.0)
#: Length of a wall's panel in cells.
PANEL = 12
#: How far apart faces of similar colour should be, in cells.
NEAR = 18
#: Side of a cell -> (row step, column step) to the next cell.
SIDES = {"south": (-1, 0), "north": (1, 0), "west": (0, -1), "east": (0, 1)}
_ATTEMPTS = 200


@dataclass(frozen=True)
class _Edge:
    """A piece of a boundary, with the sector ``here`` on the right of its direction.

    Attributes:
        beyond: the sector on its left, -1 for a wall.
        owner: the short wall or pillar beyond; 0 for the building.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    side: str
    here: int
    beyond: int
    owner: int

    @property
    def middle(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


def build_rooms(seed: int = 0, size_m: tuple[float, float] = (16.0, 16.0)) -> World:
    """A random building in which every free place can be reached.

    Args:
        seed: seed of plan, textures and lights.
        size_m: inner size along x and y; rounded to whole cells of 0.25 m. Walls of 0.25 m are
            around it.

    Raises:
        V2WError: a side is too small for rooms (below 8 m) or above 40 m.
    """
    for name, value in zip(("width", "height"), size_m, strict=True):
        if not SIDE_M[0] <= value <= SIDE_M[1]:
            rule = f"{SIDE_M[0]:g} to {SIDE_M[1]:g} m; smaller worlds have no place for rooms"
            raise V2WError(f"world.{name}", rule, value)
    rng = np.random.default_rng([seed, 31])
    columns, rows = (round(value / CELL_M) + 2 for value in size_m)
    for _ in range(_ATTEMPTS):
        plan = draw_plan(rng, rows, columns)
        if plan is not None:
            return _world(rng, seed, plan)
    raise V2WError("world", "a size that rooms with doors fit into", size_m)


def _world(rng: np.random.Generator, seed: int, plan: Plan) -> World:
    sector = np.where(plan.sector < -1, len(plan.areas) - 2 - plan.sector, plan.sector)
    sectors, floors = _sectors(rng, plan)
    edges = list(_edges(sector, plan.owner))
    walls = [panel for edge in edges if edge.beyond < 0 for panel in _panels(edge)]
    first_door = next((i for i, k in enumerate(plan.kinds) if k == "door"), len(plan.kinds))
    wall_faces = _wall_faces(rng, walls, range(first_door, len(plan.areas)))
    frames = {face.sector: face.texture for face in wall_faces if face.sector >= first_door}
    passages, object_faces = _passages(rng, edges, sectors, frames, len(plan.areas))
    row, column = np.argwhere(centres_of(plan.free))[0]
    start = int(column) * CELL + CELL // 2, int(row) * CELL + CELL // 2
    return World(
        name="rooms",
        seed=seed,
        sector=sector,
        free=plan.free,
        faces=(*wall_faces, *object_faces),
        floors=floors,
        textmap=write_textmap(wall_faces, passages, sectors, start),
    )


def _sectors(rng: np.random.Generator, plan: Plan) -> tuple[list[Sector], tuple[Colour, ...]]:
    """A sector for each area and object, and the colours of floors and tops."""
    areas = len(plan.areas)
    floors = _shuffled(rng, areas, len(FLOORS))
    ceilings = _shuffled(rng, areas, len(CEILINGS))
    brightness = int(rng.integers(176, 240))
    sectors, colours = [], []
    for number, kind in enumerate(plan.kinds):
        floor, colour = FLOORS[floors[number]]
        height = {"room": (92, 145), "corridor": (84, 113), "door": (68, 81)}[kind]
        light = min(max(brightness + int(rng.integers(-40, 41)), 144), 255)
        sectors.append(
            Sector(
                floor=floor,
                ceiling=CEILINGS[ceilings[number]][0],
                light=light,
                light_colour=int(rng.choice(LIGHTS)),
                ceiling_height=int(rng.integers(*height)) // 4 * 4,
            )
        )
        colours.append(colour)
    for thing in plan.things:
        room = sectors[thing.room]
        floor, colour = FLOORS[int(rng.integers(len(FLOORS)))]
        if floor == room.floor:
            floor, colour = FLOORS[(FLOORS.index((floor, colour)) + 1) % len(FLOORS)]
        sectors.append(
            Sector(
                floor=floor,
                ceiling=room.ceiling,
                light=room.light,
                light_colour=room.light_colour,
                floor_height=thing.height,
                ceiling_height=room.ceiling_height,
            )
        )
        colours.append(colour)
    return sectors, tuple(colours)


def _shuffled(rng: np.random.Generator, count: int, choices: int) -> list[int]:
    """``count`` random numbers below ``choices``, each about equally often."""
    rounds = [rng.permutation(choices) for _ in range(-(-count // choices))]
    return [int(i) for i in np.concatenate(rounds)[:count]]


def _edges(sector: NDArray[np.int64], owner: NDArray[np.int64]) -> Iterator[_Edge]:
    """The boundaries of all sectors in whole runs; between two sectors one for each."""
    inner = sector[1:-1, 1:-1]
    for side, (dr, dc) in SIDES.items():
        rows, columns = sector.shape
        there = (slice(1 + dr, rows - 1 + dr), slice(1 + dc, columns - 1 + dc))
        beyond, whose = sector[there], owner[there]
        border = (inner >= 0) & (beyond != inner)
        upright = side in ("west", "east")
        lines = (inner, beyond, whose, border)
        here, behind, owners, shown = (item.T if upright else item for item in lines)
        for line, start, end in runs(shown, here, behind, owners):
            low, high = (start + 1) * CELL, (end + 1) * CELL
            at = (line + 1 + (side in ("north", "east"))) * CELL
            ends = {
                "south": (high, at, low, at),
                "north": (low, at, high, at),
                "west": (at, low, at, high),
                "east": (at, high, at, low),
            }[side]
            place = line, start
            yield _Edge(*ends, side, int(here[place]), int(behind[place]), int(owners[place]))


def _panels(edge: _Edge) -> Iterator[_Edge]:
    """The parts of a long wall that get textures of their own."""
    xs, ys = (edge.x0, edge.x1), (edge.y0, edge.y1)
    cells = max(abs(xs[1] - xs[0]), abs(ys[1] - ys[0])) // CELL
    count = max(1, round(cells / PANEL))
    cuts = [round(cells * i / count) / cells for i in range(count + 1)]
    for begin, end in pairwise(cuts):
        x0, x1 = (round(xs[0] + (xs[1] - xs[0]) * part) for part in (begin, end))
        y0, y1 = (round(ys[0] + (ys[1] - ys[0]) * part) for part in (begin, end))
        yield _Edge(x0, y0, x1, y1, edge.side, edge.here, edge.beyond, edge.owner)


def _wall_faces(rng: np.random.Generator, panels: list[_Edge], doors: range) -> list[Face]:
    """Faces with textures that differ from those nearby; a door's frame has one texture."""
    colours = np.array([colour for _, colour in MORE_WALLS], dtype=np.float64)
    unlike = np.minimum(np.abs(colours[:, None] - colours[None]).sum(-1), 200.0)
    middles = np.array([panel.middle for panel in panels]) / CELL
    near = np.abs(middles[:, None] - middles[None]).max(axis=-1) < NEAR
    sizes = np.array([abs(p.x1 - p.x0) + abs(p.y1 - p.y0) for p in panels])
    score = 200.0 + rng.uniform(0, 60, (len(panels), len(MORE_WALLS)))
    used = np.zeros(len(MORE_WALLS))
    chosen = [0] * len(panels)
    frames: dict[int, int] = {}
    for number in np.argsort(-sizes, kind="stable").tolist():  # whole walls first
        panel = panels[number]
        best = frames.get(panel.here)
        if best is None:
            best = int(np.argmax(score[number] - 50.0 * used))
            used[best] += 1
        chosen[number] = best
        score[near[number]] = np.minimum(score[near[number]], 60.0 + unlike[best])
        if panel.here in doors:
            frames[panel.here] = best
    return [
        Face(p.x0, p.y0, p.x1, p.y1, p.here, *MORE_WALLS[texture])
        for p, texture in zip(panels, chosen, strict=True)
    ]


def _passages(
    rng: np.random.Generator,
    edges: list[_Edge],
    sectors: list[Sector],
    frames: dict[int, str],
    num_areas: int,
) -> tuple[list[Passage], list[Face]]:
    """Boundaries between sectors, and the faces of objects; sectors from num_areas on are solid."""
    looks: dict[tuple[int, str], tuple[str, Colour]] = {}
    passages, faces = [], []
    for edge in edges:
        if edge.beyond < 0 or edge.here > edge.beyond:
            continue  # each once, seen from the area with the lower number
        ends = edge.x0, edge.y0, edge.x1, edge.y1
        if edge.beyond >= num_areas:
            key = edge.beyond, edge.side
            if key not in looks:
                looks[key] = OBJECTS[int(rng.integers(len(OBJECTS)))]
            step = Step(bottom=looks[key][0])
            both = edge.here >= num_areas  # two objects side by side
            other = Step(bottom=looks[key][0]) if both else Step()
            passages.append(Passage(*ends, edge.here, edge.beyond, step, other, blocking=True))
            faces.append(Face(*ends, edge.here, *looks[key]))
        else:
            lintel = Step(top=frames.get(edge.beyond, frames.get(edge.here, MORE_WALLS[0][0])))
            passages.append(Passage(*ends, edge.here, edge.beyond, lintel, lintel))
    return passages, faces
