"""Several worlds in one engine: what the camera sees, what stops the robot, where it can go."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from v2w_core.errors import V2WError

pytest.importorskip("vizdoom")

from training.envs.doom import DoomMazeEnv
from training.envs.world import CELL_M


@pytest.fixture(scope="module")
def env() -> Iterator[DoomMazeEnv]:
    instance = DoomMazeEnv(0, (48, 64), world_name="rooms")
    yield instance
    instance.close()


def straight_drive(env: DoomMazeEnv, start: tuple[float, ...], goal: tuple[float, ...]) -> bool:
    """Whether a robot that heads for the goal and slides along walls gets within 0.4 m of it."""
    env.teleport(start[0], start[1], math.atan2(goal[1] - start[1], goal[0] - start[0]))
    for _ in range(round(env.shortest_path_m(start, goal) / 0.4 * 2)):
        x, y, yaw = env.pose
        dx, dy = goal[0] - x, goal[1] - y
        if math.hypot(dx, dy) < 0.4:
            return True
        ahead = dx * math.cos(yaw) + dy * math.sin(yaw)
        left = -dx * math.sin(yaw) + dy * math.cos(yaw)
        wanted = np.array([ahead, left, math.atan2(left, ahead)])
        env.step(np.clip(wanted, env.action_spec.low, env.action_spec.high))
    return False


def test_another_world_is_as_if_the_engine_had_started_in_it(env: DoomMazeEnv) -> None:
    views = {}
    for seed in (0, 1, 0):
        env.enter(seed, "rooms")
        pose = env.sample_free_pose(np.random.default_rng(seed))
        view = env.teleport(*pose)["image"]
        assert np.array_equal(views.setdefault(seed, view), view)
    assert not np.array_equal(views[0], views[1])
    fresh = DoomMazeEnv(1, (48, 64), world_name="rooms")
    try:
        pose = fresh.sample_free_pose(np.random.default_rng(1))
        assert np.array_equal(fresh.teleport(*pose)["image"], views[1])
        env.enter(1)
        env.teleport(*pose)
        for action in np.random.default_rng(2).uniform((-0.2, -0.2, -0.5), (0.5, 0.2, 0.5), (9, 3)):
            here, there = env.step(action)[0], fresh.step(action)[0]
            assert np.array_equal(here["pose"], there["pose"])
            assert np.array_equal(here["image"], there["image"])
    finally:
        fresh.close()


def test_a_world_that_does_not_exist_changes_nothing(env: DoomMazeEnv) -> None:
    env.enter(0, "rooms")
    before = env.pose
    for wrong in ((-1, None), (0, "castle")):
        with pytest.raises(V2WError, match="world"):
            env.enter(*wrong)
    assert env.world.name == "rooms" and env.world.seed == 0 and env.pose == before


def test_the_maze_and_buildings_in_turn(env: DoomMazeEnv) -> None:
    for name, size in (("maze", (10.25, 7.75)), ("rooms", (16.5, 16.5))):
        env.enter(2, name)
        observation, info = env.reset(seed=1)
        assert env.world.size_m == size
        assert env.observation_space.contains(observation)
        assert not info["contact"] and not info["motion"].any() and not info["command"].any()


def test_objects_block_and_are_seen_over(env: DoomMazeEnv) -> None:
    """Of a table (0.9 m high, the camera is at 1.3 m) one sees the wall behind, but not through."""
    blocked = 0
    for seed in range(6):
        env.enter(seed, "rooms")
        world = env.world
        for row, column in np.argwhere(~world.free & (world.sector >= 0))[::7]:
            x, y = (column + 0.5) * CELL_M, (row + 0.5) * CELL_M
            for dx, dy in ((2.0, 0.0), (-2.0, 0.0), (0.0, 2.0), (0.0, -2.0)):
                if not env.world.is_free(x - dx, y - dy):
                    continue
                yaw = math.atan2(dy, dx)
                env.teleport(x - dx, y - dy, yaw)
                contacts = [env.step([0.5, 0.0, 0.0])[4]["contact"] for _ in range(6)]
                assert any(contacts)
                assert env.world.is_free(*env.pose[:2], margin_m=-0.01)
                assert math.hypot(env.pose[0] - x, env.pose[1] - y) > 0.5
                blocked += 1
                break
        if blocked > 20:
            return
    pytest.fail("few objects to drive against")


def test_the_robot_gets_through_every_door(env: DoomMazeEnv) -> None:
    """It follows shortest ways between far places, with small steps, and never gets stuck."""
    env.enter(4, "rooms")
    rng = np.random.default_rng(0)
    for _ in range(6):
        start, goal = env.sample_free_pose(rng), env.sample_free_pose(rng)
        env.teleport(*start)
        for corner in env.paths.path(start, goal)[1:]:
            for _ in range(80):
                x, y, yaw = env.pose
                dx, dy = corner[0] - x, corner[1] - y
                if math.hypot(dx, dy) < 0.02:
                    break
                ahead = dx * math.cos(yaw) + dy * math.sin(yaw)
                left = -dx * math.sin(yaw) + dy * math.cos(yaw)
                shrink = min(1.0, 0.25 / max(abs(ahead), abs(left)))
                env.step([ahead * shrink, left * shrink, 0.0])
        assert math.dist(env.pose[:2], goal[:2]) < 0.05


def test_straight_drives_fail_where_a_wall_is_between(env: DoomMazeEnv) -> None:
    """Between random places, 4.8 to 12 m apart along the shortest way (12 to 30 steps of 0.4 m)."""
    failed = []
    for seed in range(3):
        env.enter(seed, "rooms")
        rng = np.random.default_rng(seed)
        while len(failed) < 8 * (seed + 1):
            start, goal = env.sample_free_pose(rng), env.sample_free_pose(rng)
            if 4.8 <= env.shortest_path_m(start, goal) <= 12.0:
                failed.append(not straight_drive(env, start, goal))
    assert np.mean(failed) >= 0.6


def test_a_start_inside_a_wall_or_an_object_is_refused(env: DoomMazeEnv) -> None:
    env.enter(0, "rooms")
    row, column = np.argwhere(~env.world.free & (env.world.sector >= 0))[0]
    for place in ((0.1, 0.1), (column * CELL_M, row * CELL_M), (99.0, 1.0)):
        with pytest.raises(V2WError, match="pose"):
            env.reset(options={"pose": (*place, 0.0)})
