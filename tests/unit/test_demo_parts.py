from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("vizdoom")
pytest.importorskip("matplotlib")

from training.envs.doom import ACTION_SPEC, DoomMazeEnv
from training.envs.worlds import build_world
from training.evaluation.goals import is_reached
from training.evaluation.suites import straight_drive
from v2w.demo.draw import WorldMap
from v2w.demo.film import HEIGHT, WIDTH, film, map_width
from v2w.demo.goals import MIN_DISTANCE_M, DemoGoal, choose_goals
from v2w.demo.records import GoalRecord, PlanRecord, Recorder, Trajectory
from v2w.demo.results import Futures, Outcome
from v2w_core.geometry import integrate_actions, relative_motion


@pytest.fixture(scope="module")
def env() -> Iterator[DoomMazeEnv]:
    env = DoomMazeEnv()
    yield env
    env.close()


def test_goals_follow_from_the_seed_and_can_be_driven_to(env: DoomMazeEnv) -> None:
    goals = choose_goals(env, 4, seed=3)
    again = choose_goals(env, 4, seed=3)
    assert [(g.start, g.pose) for g in goals] == [(g.start, g.pose) for g in again]
    assert goals[0].pose != choose_goals(env, 1, seed=4)[0].pose
    assert [goal.kind for goal in goals] == ["image", "pose", "image", "pose"]
    for goal in goals:
        assert 4 <= goal.steps <= 8
        assert goal.distance_m >= MIN_DISTANCE_M
        assert abs(goal.turn_rad) >= math.radians(25.0) - 1e-6
        assert not is_reached(goal.start, goal.pose)
        assert np.array_equal(goal.image, env.teleport(*goal.pose)["image"])
        chord = goal.distance_m / goal.steps
        turn = goal.turn_rad / goal.steps
        heading = math.atan2(*(np.subtract(goal.pose, goal.start)[1::-1]))
        first = heading - goal.start[2] - goal.turn_rad / 2.0
        assert abs(math.remainder(first, 2.0 * math.pi)) < abs(turn) + 0.1
        assert ACTION_SPEC.low[0] < chord < ACTION_SPEC.high[0]
    assert any(goal.continues for goal in goals)
    for before, goal in itertools.pairwise(goals):
        assert not goal.continues or goal.start == before.pose


def test_pose_goals_of_buildings_lie_behind_walls() -> None:
    env = DoomMazeEnv(1, (24, 32), world_name="rooms")
    try:
        goals = choose_goals(env, 4, seed=0)
        for image, pose in (goals[:2], goals[2:]):
            assert not image.behind_wall and pose.behind_wall
            way_m = env.shortest_path_m(pose.start, pose.pose)
            assert way_m >= pose.distance_m + 1.0
            assert pose.steps == math.ceil(way_m / 0.4) <= 10
            assert not straight_drive(env, pose.start, pose.pose)
        assert [g.pose for g in choose_goals(env, 2, seed=0)] == [g.pose for g in goals[:2]]
    finally:
        env.close()


def test_the_map_of_any_world_fits_the_film() -> None:
    for world in (build_world("maze", 0), build_world("rooms", 1)):
        picture = WorldMap(world, map_width(world))
        assert picture.height + 84 + 48 <= HEIGHT
        assert picture.width >= 350


@pytest.mark.parametrize(
    ("arrived", "at_goal", "verdict", "code"),
    [(True, True, "reached", 0), (True, False, "missed", 1), (False, True, "missed", 1)],
)
def test_the_robot_says_and_the_simulator_judges(
    env: DoomMazeEnv, arrived: bool, at_goal: bool, verdict: str, code: int
) -> None:
    goal = choose_goals(env, 1, seed=1)[0]
    right = GoalRecord(1, goal, arrived=True, at_goal=True)
    record = GoalRecord(2, goal, arrived=arrived, at_goal=at_goal)
    assert record.verdict == verdict
    assert record.to_json()["reached"] is (arrived and at_goal)
    outcome = Outcome(SimpleNamespace(), [right, record], Futures(None, {}), 1.0)  # type: ignore[arg-type]
    assert outcome.exit_code == code
    assert outcome.num_mistaken == (arrived and not at_goal)
    _, _, row = outcome.rows()
    assert row[2:4] == ["arrived" if arrived else "gave up", "there" if at_goal else "elsewhere"]


def driven(env: DoomMazeEnv, goal: DemoGoal, number: int) -> GoalRecord:
    """A drive straight along the curve of the goal, in two plans of which three steps count."""
    record = GoalRecord(number, goal, start_pose=goal.start)
    recorder = Recorder()
    record.start_image = env.teleport(*goal.start)["image"]
    recorder.begin(record)
    step = np.array([goal.distance_m / goal.steps, 0.0, goal.turn_rad / goal.steps])
    rng = np.random.default_rng(0)
    stamp = 0
    for index in (1, 2):
        recorder.planning()
        for _ in range(12):
            stamp += 83_000_000
            recorder.camera(env.render(), env.pose, stamp)
        recorder.iteration("iteration 1 of 1")
        actions = np.tile(step, (8, 1))
        _, frames = env.simulate(env.pose, actions[None], frames=True)
        noisy = [actions + rng.normal(size=(8, 3)) * (0.05, 0.05, 0.1) for _ in range(8)]
        lines = [Trajectory(integrate_actions(a, env.pose)[:, :2], (40 * i, 255 - 30 * i, 30))
                 for i, a in enumerate(noisy)]  # fmt: skip
        path = integrate_actions(actions, env.pose)
        assert frames is not None
        plan = PlanRecord(index, 2.1, 0.4, frames[0], path, lines, 0.7, False, 1536, False, 3)
        record.plans.append(plan)
        recorder.driving(plan)
        for _ in range(3):
            env.step(step)
            stamp += 250_000_000
            recorder.camera(env.render(), env.pose, stamp)
    record.final_image, record.final_pose = env.render(), env.pose
    record.arrived = record.at_goal = True
    recorder.end()
    recorder.camera(env.render(), env.pose, stamp + 1)
    return record


def test_the_film_shows_what_was_recorded(env: DoomMazeEnv) -> None:
    goals = choose_goals(env, 2, seed=0)
    record = driven(env, goals[0], 1)
    phases = [moment.phase for moment in record.moments]
    assert phases.count("driving") == 6
    assert phases.count("planning") == 2 * (6 + 1), "few of the frames in which nothing moves"
    elapsed = [moment.elapsed_s for moment in record.moments if moment.phase == "driving"]
    assert elapsed == pytest.approx([0.0, 0.25, 0.5] * 2)
    pictures = list(film([record], env.world))
    assert {picture.shape for picture in pictures} == {(HEIGHT, WIDTH, 3)}
    assert len({picture.tobytes() for picture in pictures}) > 20


def test_numbers_of_a_goal(env: DoomMazeEnv) -> None:
    record = driven(env, choose_goals(env, 1, seed=1)[0], 1)
    data = record.to_json()
    off = relative_motion(record.final_pose, record.goal.pose)
    assert data["final_distance_m"] == pytest.approx(math.hypot(off[0], off[1]))
    assert data["final_yaw_error_rad"] == pytest.approx(abs(off[2]))
    assert (data["num_plans"], data["frames_imagined"]) == (2, 3072)
    assert data["plan_s_p50"] == data["plan_s_p95"] == 2.1
    empty = GoalRecord(1, record.goal).to_json()
    assert (empty["num_plans"], empty["plan_s_p50"]) == (0, None)
