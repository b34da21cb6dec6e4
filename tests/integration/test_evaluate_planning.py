"""``v2w evaluate planning`` in simulated worlds: drives, numbers, resuming, bad input."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("vizdoom")

from training.envs.doom import DoomMazeEnv
from training.evaluation.goals import errors
from training.evaluation.planning import parse_planners
from training.evaluation.planning_report import planner_summary, spl
from v2w_core.cli import main
from v2w_core.errors import V2WError
from v2w_core.testing import geometric_config, tiny_config
from v2w_core.world_model import WorldModel


def save(folder, config):
    env = DoomMazeEnv(0)
    try:
        rng = np.random.default_rng(0)
        frames = [env.teleport(*env.sample_free_pose(rng))["image"] for _ in range(8)]
    finally:
        env.close()
    model = WorldModel.build(config)
    latents = model.encode(np.stack(frames))
    model.autoencoder.latent_std.mul_(latents.std())  # as training would leave it
    return model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained checkpoints without and with a motion head."""
    root = tmp_path_factory.mktemp("evaluate")
    save(root / "checkpoint", tiny_config())
    save(root / "geometric", geometric_config())
    return root


def test_errors_are_metres_and_radians():
    metres, radians = errors((0.0, 0.0, 3.1), (0.3, 0.4, -3.1))
    assert metres == pytest.approx(0.5)
    assert radians == pytest.approx(2 * np.pi - 6.2)


def evaluate(folder, *arguments, checkpoint="checkpoint"):
    return main(
        ["evaluate", "planning", "--checkpoint", str(folder / checkpoint),
         "--out", str(folder / "out"), *arguments]
    )  # fmt: skip


def test_oracle_gets_behind_walls_where_random_and_straight_do_not(folder, capsys):
    result = folder / "walls.json"
    walls = ("--suite", "walls", "--world", "rooms", "--worlds", "unseen", "--goals", "4")
    planners = ("--planners", "random,straight,oracle", "--json", str(result))
    assert evaluate(folder, *walls, *planners) == 0
    numbers = json.loads(result.read_text())
    assert (numbers["suite"], numbers["worlds"], numbers["num_goals"]) == ("walls", "unseen", 4)
    found = numbers["planners"]
    assert list(found) == ["random", "straight", "oracle"]
    assert found["oracle"]["stopped"] == found["oracle"]["reached"] == 1.0
    assert found["straight"]["stopped"] <= 0.5
    assert found["random"]["stopped"] == 0.0
    assert found["oracle"]["spl"] > 0.7
    assert found["oracle"]["collisions_per_m"] < found["straight"]["collisions_per_m"]
    for one in found.values():
        assert one["num_goals"] == 4
        for name in ("stopped", "reached", "stopped_elsewhere", "spl", "collisions_per_m"):
            low, high = one[f"{name}_ci"]
            assert low <= one[name] <= high
    assert found["oracle"]["plan_s_p50"] > 0
    assert found["random"]["plan_s_p50"] is found["random"]["frames_per_plan"] is None
    for record in numbers["records"]:
        assert len(record["poses"]) == record["num_steps"] + 1
    out = capsys.readouterr().out
    assert "oracle" in out and "100% [51%, 100%]" in out
    place = folder / "out" / "walls_rooms_unseen_0"
    assert cv2.imread(str(place / "drives.png")) is not None
    listed = json.loads((place / "goals.json").read_text())
    assert listed["sha256"] == numbers["goals_sha256"]
    assert [goal["goal"] for goal in listed["goals"]] == [
        record["goal"] for record in numbers["records"][:4]
    ]


@pytest.mark.parametrize("checkpoint", ["checkpoint", "geometric"])
@pytest.mark.parametrize("goal", ["image", "pose"])
def test_cem_drives_with_the_checkpoint_and_reports_its_plans(folder, goal, checkpoint):
    result = folder / f"cem_{goal}_{checkpoint}.json"
    few = ("--max-steps", "2", "--candidates", "4", "--iterations", "1", "--goal", goal)
    options = ("--goals", "1", "--planners", "cem", *few, "--json", str(result))
    assert evaluate(folder, *options, checkpoint=checkpoint) == 0
    numbers = json.loads(result.read_text())
    found = numbers["planners"]["cem"]
    assert found["num_plans"] >= 1
    assert 0 < found["plan_s_p50"] <= found["plan_s_p95"]
    assert found["frames_per_plan"] >= 8
    assert (numbers["goal"], numbers["backend"]) == (goal, "eager")


def test_drives_of_a_run_that_was_stopped_are_kept(folder, capsys):
    options = ("--suite", "near", "--planners", "straight", "--out", str(folder / "kept"))
    assert evaluate(folder, *options, "--goals", "2") == 0
    assert "are kept" not in capsys.readouterr().err
    (file,) = (folder / "kept" / "near_maze_seen_0" / "drives").iterdir()
    before = file.read_text()
    file.write_text(before + before.splitlines()[0][:50])  # killed while it wrote the third
    result = folder / "kept.json"
    assert evaluate(folder, *options, "--goals", "3", "--json", str(result)) == 0
    assert "2 drives of an earlier run are kept" in capsys.readouterr().err
    after = file.read_text()
    assert after.startswith(before)
    assert [json.loads(line)["number"] for line in after.splitlines()] == [0, 1, 2]
    assert json.loads(result.read_text())["planners"]["straight"]["num_goals"] == 3
    assert evaluate(folder, *options, "--goals", "1", "--max-steps", "3") == 0
    assert "are kept" not in capsys.readouterr().err, "other settings, other drives"


def test_a_list_of_other_goals_is_refused(folder, capsys):
    options = ("--planners", "random", "--goals", "1", "--out", str(folder / "listed"))
    assert evaluate(folder, *options) == 0
    path = folder / "listed" / "near_maze_seen_0" / "goals.json"
    listed = json.loads(path.read_text())
    listed["goals"][0]["goal"][0] += 0.5
    path.write_text(json.dumps(listed))
    assert evaluate(folder, *options) == 2
    assert "goals.json" in capsys.readouterr().err


def record(**more):
    base = {
        "stopped": False, "stopped_at_goal": False, "reached": False, "collisions": 0,
        "driven_m": 2.0, "way_m": 1.0, "plan_s": [], "frames": [],
    }  # fmt: skip
    return base | more


def test_figures_of_a_planner_by_hand():
    arrived = record(stopped=True, stopped_at_goal=True, reached=True, plan_s=[1.0, 3.0],
                     frames=[10, 30])  # fmt: skip
    wrong = record(
        stopped=True, reached=True, collisions=3, driven_m=1.0, plan_s=[2.0], frames=[20]
    )
    found = planner_summary([arrived, wrong, record(), record()])
    assert found["stopped"] == 0.25
    assert found["stopped_ci"] == pytest.approx([0.0456, 0.6994], abs=1e-4)
    assert (found["reached"], found["stopped_elsewhere"]) == (0.5, 0.25)
    assert found["spl"] == pytest.approx(0.5 / 4)
    assert found["collisions_per_m"] == pytest.approx(3 / 7)
    assert (found["plan_s_p50"], found["frames_per_plan"]) == (2.0, 20.0)
    turn = record(stopped_at_goal=True, way_m=0.0, driven_m=0.3)
    assert spl(turn) == 1.0, "a turn on the spot has no way to be longer than"
    assert planner_summary([record(driven_m=0.0)])["collisions_per_m"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--planners", "cem,psychic"), "--planners"),
        (("--suite", "hard"), "--suite"),
        (("--worlds", "all"), "--worlds"),
        (("--world", "castle"), "--world"),
        (("--goal", "sound"), "--goal"),
        (("--goals", "0"), "--goals"),
        (("--seed", "-1"), "--seed"),
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
