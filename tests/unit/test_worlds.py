"""Generated worlds: the same for the same seed, connected, varied, with goals behind walls."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.envs.layout import draw_plan
from training.envs.paths import Paths
from training.envs.rooms import build_rooms
from training.envs.top_down import draw_top_down
from training.envs.udmf import MAP_BYTES
from training.envs.world import CELL, CELL_M, World
from training.envs.worlds import WORLDS, build_world, world_of
from v2w_core.errors import V2WError


def hand_made(rows: list[str]) -> World:
    """A world of rows of characters, north first; # is solid."""
    free = np.array([[character != "#" for character in row] for row in rows[::-1]])
    return World("by hand", 0, np.where(free, 0, -1), free, (), ((0, 0, 0),), "")


def parts_of(centres: NDArray[np.bool_]) -> int:
    """Number of regions of neighbouring cells."""
    left = {(int(row), int(column)) for row, column in np.argwhere(centres)}
    count = 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            row, column = todo.pop()
            for cell in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if cell in left:
                    left.remove(cell)
                    todo.append(cell)
    return count


@pytest.mark.parametrize("name", ["rooms", "maze"])
def test_the_same_seed_gives_the_same_world(name: str) -> None:
    one, same, other = build_world(name, 3), build_world(name, 3), build_world(name, 4)
    assert one.textmap == same.textmap and one.faces == same.faces
    assert np.array_equal(one.free, same.free)
    assert one.textmap != other.textmap


def test_the_maze_is_still_that_of_earlier_recordings() -> None:
    digest = hashlib.sha256(build_world("maze", 0).textmap.encode()).hexdigest()
    assert digest.startswith("191c3cf3f1fe6ccc")


@pytest.mark.parametrize("seed", range(0, 240, 20))
def test_every_free_place_can_be_reached(seed: int) -> None:
    world = build_rooms(seed)
    assert min(world.size_m) >= 16.0
    assert parts_of(world.centres) == 1
    assert len(world.textmap) < MAP_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_every_cell_of_the_maze_can_be_reached_and_its_walls_differ(seed: int) -> None:
    maze = build_world("maze", seed)
    assert parts_of(maze.centres) == 1
    for cell in range(int(maze.sector.max()) + 1):
        walls = [f for f in maze.faces if f.sector == cell and abs(f.x1 - f.x0) > 16]
        assert len({f.texture for f in walls}) == len(walls)


def test_buildings_have_rooms_of_many_sizes_corridors_doors_and_objects() -> None:
    sizes, kinds, things = set(), set(), set()
    dead_ends = pillars = 0
    for seed in range(20):
        plan = draw_plan(np.random.default_rng(seed), 66, 66)
        assert plan is not None
        rooms = [area.size for area, k in zip(plan.areas, plan.kinds, strict=True) if k == "room"]
        doors = [area.size for area, k in zip(plan.areas, plan.kinds, strict=True) if k == "door"]
        assert len(rooms) >= 4 and len(set(rooms)) >= 3
        assert all(min(door) == 1 and 1.25 <= max(door) * CELL_M <= 1.75 for door in doors)
        sizes.update(rooms)
        kinds.update(plan.kinds)
        things.update(thing.kind for thing in plan.things)
        assert all(0 < thing.height < 68 for thing in plan.things), "below every ceiling"
        pillars += int(plan.owner.max())
        dead_ends += sum(doors_of(plan, number) == 1 for number in range(len(rooms)))
    assert len(sizes) > 50
    assert kinds == {"room", "corridor", "door"}
    assert things == {"shelf", "table", "crate"} and pillars > 10
    assert dead_ends > 20


def doors_of(plan: object, area: int) -> int:
    """Number of doors that touch an area."""
    grid = plan.sector  # type: ignore[attr-defined]
    doors = [i for i, kind in enumerate(plan.kinds) if kind == "door"]  # type: ignore[attr-defined]
    here = np.pad(grid == area, 1)
    near = here[2:, 1:-1] | here[:-2, 1:-1] | here[1:-1, 2:] | here[1:-1, :-2]
    return sum(bool((near & (grid == door)).any()) for door in doors)


@pytest.mark.parametrize("seed", range(4))
def test_neighbouring_faces_differ_so_that_views_tell_places_apart(seed: int) -> None:
    world = build_rooms(seed)
    assert len({face.texture for face in world.faces}) >= 30
    solid = [face for face in world.faces if world.free[cell_before(face)]]
    long = [f for f in solid if abs(f.x1 - f.x0) + abs(f.y1 - f.y0) >= 8 * CELL]
    pairs = [
        (one, two)
        for one, two in itertools.combinations(long, 2)
        if one.sector == two.sector and {ends(one)[0], ends(one)[1]} & {ends(two)[0], ends(two)[1]}
    ]
    assert len(pairs) > 10
    assert all(one.texture != two.texture for one, two in pairs)


def ends(face: object) -> tuple[tuple[int, int], tuple[int, int]]:
    return (face.x0, face.y0), (face.x1, face.y1)  # type: ignore[attr-defined]


def cell_before(face: object) -> tuple[int, int]:
    """The lattice cell in front of a face, on the right of its direction."""
    (x0, y0), (x1, y1) = ends(face)
    dx, dy = np.sign(x1 - x0), np.sign(y1 - y0)
    x, y = (x0 + x1) / 2 + dy * 2, (y0 + y1) / 2 - dx * 2
    return int(y // CELL), int(x // CELL)


def test_every_face_has_its_open_side_on_the_right() -> None:
    for seed in range(3):
        world = build_rooms(seed)
        for face in world.faces:
            (x0, y0), (x1, y1) = ends(face)
            mirrored = type(face)(x1, y1, x0, y0, face.sector, face.texture, face.colour)
            assert not world.free[cell_before(mirrored)]
            assert world.sector[cell_before(face)] == face.sector


def test_most_far_goals_lie_behind_walls() -> None:
    blocked = []
    for seed in range(3):
        world, rng = build_rooms(seed), np.random.default_rng(seed)
        paths = Paths(world)
        while len(blocked) < 10 * (seed + 1):
            start, goal = world.sample_free(rng), world.sample_free(rng)
            if math.dist(start, goal) < 12 and 4.8 <= paths.distance(start, goal) <= 12.0:
                blocked.append(paths.straight_line_blocked(start, goal))
    assert np.mean(blocked) > 0.75


@pytest.mark.parametrize("size_m", [(4.0, 16.0), (16.0, 7.9), (16.0, 41.0), (math.nan, 16.0)])
def test_a_world_too_small_for_its_rooms_is_refused(size_m: tuple[float, float]) -> None:
    with pytest.raises(V2WError, match="world"):
        build_rooms(0, size_m)


@pytest.mark.parametrize("size_m", [(8.0, 8.0), (8.0, 30.0), (40.0, 40.0)])
def test_worlds_of_other_sizes_are_connected_too(size_m: tuple[float, float]) -> None:
    for seed in range(3 if max(size_m) > 30 else 10):
        world = build_rooms(seed, size_m)
        assert world.size_m == (size_m[0] + 0.5, size_m[1] + 0.5)
        assert parts_of(world.centres) == 1
        assert len(world.textmap) < MAP_BYTES


def test_worlds_are_named_and_seeds_are_not_negative() -> None:
    with pytest.raises(V2WError, match="rooms, maze"):
        build_world("castle", 0)
    with pytest.raises(V2WError, match="seed"):
        build_world("rooms", -1)


def test_the_world_of_an_episode_is_known_also_of_early_ones() -> None:
    assert world_of({"world": "rooms", "world_seed": 7}) == ("rooms", 7)
    assert world_of({"env": "doom_maze", "maze_seed": 3}) == ("maze", 3)
    assert world_of({"segment": 1}) is None
    assert world_of({"world": "castle", "world_seed": 1}) is None


def test_the_robot_fits_where_its_square_overlaps_nothing() -> None:
    world = hand_made(["##########", *["#........#"] * 8, "##########"])
    assert world.is_free(1.25, 1.25)
    assert world.is_free(0.77, 0.77)
    assert not world.is_free(0.76, 1.25), "within the margin of 2 cm"
    assert world.is_free(0.75, 1.25, margin_m=-0.002)
    assert not world.is_free(-5.0, 1.0) and not world.is_free(1.0, 50.0)


def around_a_wall() -> World:
    """Two rooms of 2 m x 3 m with a wall of 0.25 m between them, open 1.25 m wide in the north."""
    rows = ["#" * 19, *["#" + "." * 17 + "#"] * 5, *["#" + "." * 8 + "#" + "." * 8 + "#"] * 8]
    return hand_made([*rows, "#" * 19])


def test_shortest_ways_go_through_the_opening() -> None:
    world = around_a_wall()
    paths = Paths(world)
    start, goal = (1.25, 0.875), (3.5, 0.875)
    assert paths.straight_line_blocked(start, goal)
    corner = 2.75  # the centre passes the wall's end half a metre away
    least = 2 * math.hypot(1.75 - 1.25, corner - 0.875) + 1.25
    assert least * 0.97 < paths.distance(start, goal) < least * 1.1
    assert paths.distance(start, goal) == pytest.approx(paths.distance(goal, start), rel=0.02)
    way = paths.path(start, goal)
    assert np.allclose(way[[0, -1]], [start, goal])
    for one, two in itertools.pairwise(way):
        assert not paths.straight_line_blocked(one, two)


def test_a_free_straight_line_is_the_shortest_way() -> None:
    paths = Paths(around_a_wall())
    assert not paths.straight_line_blocked((1.0, 0.8), (1.3, 2.7))
    assert paths.distance((1.0, 0.8, 2.0), (1.3, 2.7, 0.0)) == pytest.approx(math.hypot(0.3, 1.9))
    assert paths.distance((1.0, 0.8), (1.0, 0.8)) == 0.0


def test_places_without_a_way_are_refused() -> None:
    closed = hand_made(["#" * 19, *["#" + "." * 8 + "#" + "." * 8 + "#"] * 12, "#" * 19])
    paths = Paths(closed)
    with pytest.raises(V2WError, match="reached"):
        paths.distance((1.25, 1.0), (3.5, 1.0))
    for place in ((0.1, 0.1), (2.4, 1.0), (math.nan, 1.0), (99.0, 1.0)):
        with pytest.raises(V2WError, match="goal"):
            paths.distance((1.25, 1.0), place)
        with pytest.raises(V2WError, match="start"):
            paths.distance(place, (1.25, 1.0))


def test_blocked_lines_are_those_on_which_the_robot_would_not_fit() -> None:
    world = build_rooms(5)
    paths, rng = Paths(world), np.random.default_rng(0)
    results = []
    for _ in range(150):
        start = np.array(world.sample_free(rng))
        goal = start + rng.uniform(-2.0, 2.0, 2)
        places = start + np.linspace(0.0, 1.0, 400)[:, None] * (goal - start)
        wide = all(world.is_free(x, y, margin_m=0.01) for x, y in places)
        narrow = all(world.is_free(x, y, margin_m=-0.01) for x, y in places)
        blocked = paths.straight_line_blocked(start, goal)
        if wide == narrow:
            assert blocked is not wide
            results.append(blocked)
    assert 20 < sum(results) < len(results) - 20


def test_the_map_from_above_shows_walls_floors_and_objects() -> None:
    world = build_rooms(1)
    picture = draw_top_down(world, 40.0)
    assert picture.image.shape == (660, 660, 3)
    assert np.allclose(picture.to_pixels([0.0, world.size_m[1]]), [0.0, 0.0])
    objects = np.argwhere(~world.free & (world.sector >= 0))
    row, column = objects[len(objects) // 2]
    x, y = (column + 0.5) * CELL_M, (row + 0.5) * CELL_M
    at = np.round(picture.to_pixels([x, y])).astype(int)
    top = 30 + 0.7 * np.array(world.floors[world.sector[row, column]])
    shown = {tuple(int(v) for v in top), *(face.colour for face in world.faces)}
    assert tuple(int(v) for v in picture.image[at[1], at[0]]) in shown


def test_the_simulator_node_offers_every_kind_of_world() -> None:
    parameters = pytest.importorskip("v2w.parameters")
    (world,) = (item for item in parameters.SIMULATOR if item.name == "world")
    assert set(world.choices) == set(WORLDS)
