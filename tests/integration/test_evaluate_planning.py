"""``v2w evaluate planning`` in the simulated maze: goals, runs, numbers, bad input."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("vizdoom")

from training.envs.doom import ACTION_SPEC, DoomMazeEnv
from training.evaluation.goals import errors, is_reached, select_goals
from training.evaluation.planning import parse_planners
from v2w_core.cli import main
from v2w_core.data.episode import list_episodes, write_episode
from v2w_core.errors import V2WError
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two short drives through maze 0 and an untrained checkpoint."""
    root = tmp_path_factory.mktemp("evaluate")
    env = DoomMazeEnv(0)
    try:
        for index in range(2):
            rng = np.random.default_rng(index)
            observation, _ = env.reset(seed=index)
            frames, poses, actions = [observation["image"]], [observation["pose"]], []
            for _ in range(24):
                action = rng.uniform((0.0, -0.1, -0.2), (0.4, 0.1, 0.5))
                observation, _, _, _, info = env.step(action)
                frames.append(observation["image"])
                poses.append(observation["pose"])
                actions.append(info["motion"])
            table = np.insert(np.stack(poses), 2, 0.0, axis=1)
            write_episode(
                root / "episodes" / f"episode_{index}.h5",
                frames=np.stack(frames), actions=np.stack(actions), poses=table,
                stamps_ns=np.arange(25) * 250_000_000, action_spec=ACTION_SPEC, source="test",
                attributes={"maze_seed": 0},
            )  # fmt: skip
    finally:
        env.close()
    model = WorldModel.build(tiny_config())
    latents = model.encode(np.stack(frames))
    model.autoencoder.latent_std.mul_(latents.std())  # as training would leave it
    model.save_pretrained(root / "checkpoint")
    return root


def test_goals_are_away_from_the_start_and_repeatable(folder):
    env = DoomMazeEnv(0)
    try:
        paths = list_episodes(folder / "episodes")
        cases = select_goals(paths, 6, env=env, num_history=4, seed=1)
        again = select_goals(paths, 6, env=env, num_history=4, seed=1)
        with pytest.raises(V2WError, match="goals"):
            select_goals(paths, 500, env=env, num_history=4)
    finally:
        env.close()
    assert [(c.episode, c.start, c.steps) for c in cases] == [
        (c.episode, c.start, c.steps) for c in again
    ]
    for case in cases:
        assert 4 <= case.steps <= 8
        assert not is_reached(case.start_pose, case.goal_pose)
        assert case.history_poses.shape == (4, 3)
        assert case.history_actions.shape == (3, 3)


def test_errors_are_metres_and_radians():
    metres, radians = errors((0.0, 0.0, 3.1), (0.3, 0.4, -3.1))
    assert metres == pytest.approx(0.5)
    assert radians == pytest.approx(2 * np.pi - 6.2)


def evaluate(folder, *arguments):
    return main(
        ["evaluate", "planning", "--episodes", str(folder / "episodes"),
         "--checkpoint", str(folder / "checkpoint"), "--out", str(folder / "out"), *arguments]
    )  # fmt: skip


def test_oracle_and_straight_reach_what_random_does_not(folder, capsys):
    result = folder / "planning.json"
    few = ("--candidates", "24", "--iterations", "2", "--json", str(result))
    assert evaluate(folder, "--goals", "4", "--planners", "random,straight,oracle", *few) == 0
    numbers = json.loads(result.read_text())
    assert numbers["num_goals"] == 4
    assert numbers["success"]["oracle"] >= 0.75
    assert numbers["success"]["random"] < numbers["success"]["oracle"]
    assert set(numbers["success"]) == {"random", "straight", "oracle"}
    assert len(numbers["records"]) == 12
    for record in numbers["records"]:
        assert record["num_steps"] <= 16
        assert len(record["poses"]) == record["num_steps"] + 1
    assert "oracle" in capsys.readouterr().out
    assert cv2.imread(str(folder / "out" / "paths.png")) is not None


def test_cem_drives_with_the_checkpoint_and_reports_its_plan_time(folder):
    result = folder / "cem.json"
    few = ("--max-steps", "2", "--candidates", "4", "--iterations", "1")
    assert evaluate(folder, "--goals", "1", "--planners", "cem", *few, "--json", str(result)) == 0
    numbers = json.loads(result.read_text())
    assert numbers["num_plans"] >= 1
    assert 0 < numbers["plan_s_p50"] <= numbers["plan_s_p95"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--planners", "cem,psychic"), "--planners"),
        (("--episodes", "/nowhere/at/all"), "folder"),
        (("--goals", "0"), "--goals"),
        (("--max-steps", "0"), "--max-steps"),
        (("--checkpoint", "/nowhere/at/all"), "checkpoint"),
    ],
)
def test_bad_input_exits_with_2(folder, capsys, arguments, message):
    assert evaluate(folder, *arguments) == 2
    assert message in capsys.readouterr().err


def test_planner_names_keep_their_order_and_lose_doubles():
    assert parse_planners("oracle, cem,oracle") == ["oracle", "cem"]
    with pytest.raises(V2WError, match="planners"):
        parse_planners(" , ")
