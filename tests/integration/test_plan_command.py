"""``v2w plan`` and the planner on a real (tiny, untrained) world model and a recorded episode."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest
import torch

from planners.costs.base import CostContext
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_pose import GoalPose
from planners.costs.smoothness import Smoothness
from planners.mpc import MPC, ImageGoal, Observation, Planner
from v2w_core.cli import main
from v2w_core.data.episode import read_episode, write_episode
from v2w_core.geometry import integrate_actions
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel

SPEC = tiny_config().action
NUM_FRAMES = 16


def unit_variance(model):
    """An untrained model's latents hardly differ; training would give them unit variance."""
    frames = np.random.default_rng(1).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    model.autoencoder.latent_std.mul_(model.encode(frames).std())
    return model


@pytest.fixture(scope="module")
def model():
    return unit_variance(WorldModel.build(tiny_config()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """A checkpoint and an episode."""
    root = tmp_path_factory.mktemp("plan")
    model.save_pretrained(root / "checkpoint")
    rng = np.random.default_rng(0)
    actions = rng.uniform(SPEC.low, SPEC.high, (NUM_FRAMES - 1, 3)).astype(np.float32)
    path = integrate_actions(actions)
    frames = rng.integers(0, 255, (NUM_FRAMES, 6, 8, 3), dtype=np.uint8)
    frames = frames.repeat(8, axis=1).repeat(8, axis=2)
    write_episode(
        root / "episode.h5",
        frames=frames,
        actions=actions,
        poses=np.stack([path[:, 0], path[:, 1], np.zeros(NUM_FRAMES), path[:, 2]], axis=1),
        stamps_ns=np.arange(NUM_FRAMES) * 250_000_000,
        action_spec=SPEC,
        source="test",
        image_format="png",
    )
    return root


def plan(folder, *arguments):
    return main(
        ["plan", str(folder / "episode.h5"), "--checkpoint", str(folder / "checkpoint"),
         "--out", str(folder / "out"), "--candidates", "8", "--iterations", "2", *arguments]
    )  # fmt: skip


@pytest.mark.slow
def test_plan_prints_a_table_and_writes_json_and_pictures(folder, capsys):
    assert plan(folder, "--goal-step", "6", "--screening-horizon", "3",
                "--json", str(folder / "plan.json")) == 0  # fmt: skip
    table = capsys.readouterr().out
    assert "plan's end" in table
    assert "recorded end" in table
    result = json.loads((folder / "plan.json").read_text())
    actions = np.array(result["action_sequence"])
    assert actions.shape == (8, 3)
    SPEC.validate(actions)
    assert len(result["cost_curve"]) == result["num_iterations"] == 2
    assert result["frames_imagined"] == 2 * (8 * 3 + 2 * 5)
    assert result["recorded_cost"] > 0
    np.testing.assert_allclose(result["poses"], integrate_actions(actions), atol=1e-6)
    for name in ("plan.png", "plan_paths.png"):
        assert cv2.imread(str(folder / "out" / name)) is not None
    assert not [item for item in (folder / "out").iterdir() if item.name.endswith(".tmp")]


@pytest.mark.slow
def test_goal_image_and_goal_pose_are_goals_too(folder):
    image = folder / "goal.png"
    cv2.imwrite(str(image), np.full((40, 50, 3), 90, dtype=np.uint8))
    assert (
        plan(folder, "--goal-image", str(image), "--costs", "goal_image_pixel=2", "smoothness") == 0
    )
    result = folder / "pose.json"
    assert plan(folder, "--goal-pose", "0.8", "-0.2", "-0.4", "--iterations", "8",
                "--candidates", "64", "--json", str(result)) == 0  # fmt: skip
    end = np.array(json.loads(result.read_text())["poses"])[-1]
    np.testing.assert_allclose(end, [0.8, -0.2, -0.4], atol=0.25)


def test_the_recording_is_compared_by_the_same_cost(folder):
    """Also its first change of the action counts, from the one before."""
    result = folder / "compared.json"
    goal = (0.8, -0.2, -0.4)
    assert plan(folder, "--goal-pose", *map(str, goal), "--json", str(result)) == 0
    episode = read_episode(folder / "episode.h5")
    before, recorded = SPEC.clip(episode.actions[2]), SPEC.clip(episode.actions[3:11])
    context = CostContext(recorded[None], SPEC, previous_action=before)
    expected = GoalPose(goal)(context)[0] + 0.02 * Smoothness()(context)[0]
    assert json.loads(result.read_text())["recorded_cost"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--goal-image", "{folder}/no_image.png"), "no_image.png"),
        (("--goal-image", "{folder}/missing.png"), "--goal-image"),
        (("--goal-step", "99"), "--goal-step"),
        (("--start", "1"), "--start"),
        (("--candidates", "0"), "num_candidates"),
        (("--screening-fraction", "0"), "screening_fraction"),
        (("--screening-horizon", "0"), "screening_horizon"),
        (("--deadline-s", "0"), "deadline_s"),
        (("--optimizer", "luck"), "optimizer"),
        (("--costs", "luck"), "goal_image_latent"),
        (("--costs", "goal_image=-1"), "goal_image.weight"),
        (("--costs", "goal_image=much"), "NAME=WEIGHT"),
        (("--costs", "goal_image=0"), "above 0"),
        (("--goal-pose", "1", "0", "0", "--costs", "goal_image"), "goal_pose, smoothness"),
        (("--checkpoint", "{folder}/nothing"), "checkpoint"),
        (("--horizon", "40"), "8"),
        (("--goal-pose", "nan", "0", "0"), "GoalPose"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(folder, tmp_path, capsys, arguments, message):
    (folder / "no_image.png").write_bytes(b"this is text, not a picture")
    filled = [argument.format(folder=folder) for argument in arguments]
    result = tmp_path / "result.json"
    code = plan(folder, *filled, "--json", str(result), "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def observation(seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    return Observation(frames, rng.uniform(SPEC.low, SPEC.high, (3, 3)).astype(np.float32))


def test_planner_on_the_real_model_costs_what_it_says(model):
    seen = observation()
    session = model.start(seen.frames, seen.actions)
    cost = GoalImageLatent(model.encode(observation(1).frames[:1])[0])
    result = Planner(SPEC).plan(session, cost, num_candidates=16, num_iterations=2, seed=3)
    assert result.frames_imagined == 2 * 16 * 8
    again = session.imagine(result.action_sequence[None], seed=3)
    torch.testing.assert_close(result.latents, again.latents[0], rtol=1e-4, atol=1e-4)
    context = CostContext(result.action_sequence[None], SPEC, lambda c: session.imagine(c, seed=3))
    np.testing.assert_allclose(result.cost, cost(context)[0], rtol=1e-4)


@pytest.mark.slow
def test_mpc_on_the_real_model_decides_within_a_deadline(model):
    seen = observation()
    mpc = MPC(Planner(SPEC), ImageGoal(model, observation(1).frames[0]), model,
              num_execute=2, deadline_s=1.0, num_iterations=100)  # fmt: skip
    mpc.decide(seen)  # warms up
    began = time.perf_counter()
    decision = mpc.decide(seen)
    assert decision.actions.shape == (2, 3)
    assert decision.plan is not None
    assert decision.plan.timed_out
    assert decision.plan.num_iterations < 100
    assert time.perf_counter() - began < 60.0  # a busy machine may be slow, but not endless
    seeing_goal = Observation(np.repeat(observation(1).frames[:1], 4, axis=0), seen.actions)
    assert mpc.decide(seeing_goal).arrival.arrived
