"""Goals of ``v2w evaluate planning``: what they are, that they repeat; the oracle's map."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from training.envs.doom import DoomMazeEnv
from training.evaluation import suites
from training.evaluation.goals import is_reached
from training.evaluation.oracle import drive_on_map
from training.evaluation.suites import STEP_M, draw_goals, straight_drive
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/yardstick.json"


@pytest.fixture(scope="module")
def env():
    env = DoomMazeEnv(0, (24, 32), world_name="rooms")
    yield env
    env.close()


def same(first, second):
    return all(a.to_json() == b.to_json() for a, b in zip(first, second, strict=True))


def test_goals_repeat_and_a_longer_list_begins_with_the_shorter_one(env):
    cases = draw_goals(env, "near", "unseen", 10, 3)
    assert [case.world_seed for case in cases] == [*range(1, 10), 1]
    assert same(draw_goals(env, "near", "unseen", 4, 3), cases[:4])
    assert not same(draw_goals(env, "near", "unseen", 4, 4), cases[:4])
    assert {case.world_seed for case in draw_goals(env, "near", "tune", 3, 100)} <= {
        1000,
        1001,
        1002,
    }


@pytest.mark.parametrize("suite", ["near", "far", "walls"])
def test_goals_are_those_of_the_figures_that_were_reported(env, suite):
    reported = json.loads(RESULTS.read_text())
    cases = draw_goals(env, suite, "unseen", 2, reported["seed"])
    wanted = np.array(reported["goals"][f"rooms unseen {suite}"]["first"])
    assert np.allclose([case.goal_pose for case in cases], wanted, atol=1e-6)


def test_a_world_without_such_goals_is_named(env, monkeypatch):
    monkeypatch.setitem(suites.FINDERS, "walls", lambda *_: None)
    monkeypatch.setattr(suites, "STARTS", 2)
    with pytest.raises(V2WError, match="the world rooms 1 has goals for"):
        draw_goals(env, "walls", "unseen", 1, 0)


def test_near_goals_are_where_the_robot_gets_to(env):
    for case in draw_goals(env, "near", "seen", 6, 0):
        assert 4 <= case.steps <= 8
        assert not is_reached(case.start_pose, case.goal_pose)
        assert case.way_m <= case.steps * math.hypot(0.5, 0.25)
        assert case.history_poses.shape == (16, 3)
        assert case.history_commands.shape == case.history_motion.shape == (15, 3)
        path = integrate_actions(case.history_motion, case.history_poses[0])
        assert np.allclose(path[-1], case.history_poses[-1], atol=1e-3), "motion is what happened"


@pytest.mark.parametrize("suite", ["far", "walls"])
def test_far_goals_and_goals_behind_walls(env, suite):
    low, high = {"far": (12, 30), "walls": (6, 16)}[suite]
    for case in draw_goals(env, suite, "seen", 5, 1):
        assert low * STEP_M <= case.way_m <= high * STEP_M
        assert case.way_m == pytest.approx(env.shortest_path_m(case.start_pose, case.goal_pose))
        assert low <= case.steps <= high
        if suite == "walls":
            straight_m = math.dist(case.start_pose[:2], case.goal_pose[:2])
            assert case.way_m >= straight_m + 1.0
            assert env.straight_line_blocked(case.start_pose, case.goal_pose)
            assert not straight_drive(env, case.start_pose, case.goal_pose)


def test_the_map_says_where_the_simulator_gets(env):
    rng = np.random.default_rng(0)
    env.enter(2)
    num_hits = 0
    for _ in range(6):
        start = env.sample_free_pose(rng)
        moves = rng.uniform((-0.25, -0.25, -0.5), (0.5, 0.25, 0.5), (12, 4, 3)).astype(np.float32)
        poses, hits = drive_on_map(env.paths, start, moves)
        real, _ = env.simulate(start, moves)
        free = ~hits.any(axis=1)
        assert np.allclose(poses[free, :, :2], real[free, 1:, :2], atol=0.02)
        yaw = np.angle(np.exp(1j * (poses[..., 2] - real[:, 1:, 2])))
        assert np.abs(yaw).max() < 0.02
        num_hits += int(hits.any(axis=1).sum())
        wanted = np.stack([integrate_actions(m, start)[-1] for m in moves])
        off = np.hypot(*(real[:, -1, :2] - wanted[:, :2]).T) > 0.05
        assert not (off & free).any(), "what is blocked in the simulator is blocked on the map"
    assert num_hits > 5


def test_distances_on_the_map_are_those_of_the_shortest_way(env):
    env.enter(3)
    rng = np.random.default_rng(1)
    goal = env.world.sample_free(rng)
    places = np.array([env.world.sample_free(rng) for _ in range(30)])
    found = env.paths.distances(places, goal)
    exact = np.array([env.shortest_path_m(place, goal) for place in places])
    assert (found <= 1.09 * exact + 0.4).all() and (found >= exact - 0.4).all()
    assert env.paths.distances(np.array([[0.0, 0.0]]), goal)[0] == np.inf
    assert env.paths.fits(places).all()
