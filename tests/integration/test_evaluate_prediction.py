"""``v2w evaluate prediction`` on an untrained checkpoint and short episodes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from imagine_toys import SPEC, files, is_picture, save_checkpoint, save_episode

from training.evaluation import world_sets
from training.evaluation.prediction import draw_windows, read_cases, read_episodes
from training.evaluation.prediction_scores import Prediction, summary
from training.evaluation.recorded import episode_actions, step_action
from training.evaluation.world_sets import WorldSet
from v2w_core.cli import main
from v2w_core.data.episode import read_episode, write_episode
from v2w_core.geometry import integrate_actions
from v2w_core.testing import geometric_config, tiny_config
from v2w_core.world_model import WorldModel


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prediction")
    save_checkpoint(folder / "checkpoint")
    for seed in range(3):
        save_episode(folder / "val" / f"episode_{seed}.h5", 14 + seed, seed)
        save_blocked_episode(folder / "told" / f"episode_{seed}.h5", seed)
    WorldModel.build(geometric_config()).save_pretrained(folder / "geometric")
    save_episode(folder / "one" / "episode.h5")
    save_episode(folder / "mixed" / "a.h5")
    save_episode(folder / "mixed" / "b.h5", rate_hz=10.0)
    for name in ("a", "b"):
        save_episode(folder / "short" / f"{name}.h5", 11)
    return folder


def save_blocked_episode(path, seed):
    """Twenty frames; in about half of the steps a wall keeps the robot where it is."""
    rng = np.random.default_rng(seed)
    commands = rng.uniform(SPEC.low, SPEC.high, (19, 3)).astype(np.float32)
    contact = rng.random(19) < 0.5
    motion = np.where(contact[:, None], (0.0, 0.0, 0.5), 1.0) * commands
    write_episode(
        path, frames=rng.integers(0, 255, (20, 48, 64, 3), dtype=np.uint8), actions=commands,
        motion=motion, contact=contact, poses=np.insert(integrate_actions(motion), 2, 0.0, axis=1),
        stamps_ns=np.arange(20) * 250_000_000, action_spec=SPEC, source="test",
    )  # fmt: skip


def evaluate(root, *arguments, episodes="val"):
    return main(["evaluate", "prediction", "--checkpoint", str(root / "checkpoint"),
                 "--episodes", str(root / episodes), *arguments])  # fmt: skip


def test_prints_a_table_and_writes_numbers_and_a_picture(root, tmp_path, capsys):
    result = tmp_path / "result.json"
    out = tmp_path / "out"
    assert evaluate(root, "--windows", "4", "--out", str(out), "--json", str(result)) == 0
    assert "copy" in capsys.readouterr().out
    numbers = json.loads(result.read_text())
    assert numbers["num_windows"] == 4
    assert numbers["horizon"] == 8
    assert (numbers["backend"], numbers["precision"]) == ("eager", "fp32")
    for name in ("psnr", "psnr_copy", "psnr_other_actions", "ssim", "action_gap", "perceptual"):
        assert len(numbers[f"{name}_per_step"]) == len(numbers[f"{name}_per_step_ci"]) == 8
        assert numbers[name] == pytest.approx(np.mean(numbers[f"{name}_per_step"]))
        low, high = numbers[f"{name}_ci"]
        assert low <= numbers[name] <= high
    gap = numbers["psnr"] - numbers["psnr_other_actions"]
    assert numbers["action_gap"] == pytest.approx(gap)
    for name in ("motion_m", "motion_rad", "blocked_auroc"):
        assert numbers[name] is None, "a model without a motion head predicts none"
    assert files(out) == ["prediction.png"]
    assert is_picture(out / "prediction.png")


def test_the_named_back_end_computes_it(root, tmp_path, engines, timed_briefly, monkeypatch):
    monkeypatch.setenv("V2W_ENGINES", str(engines))
    numbers = {}
    for name in ("eager", "onnx"):
        result = tmp_path / f"{name}.json"
        options = ["--windows", "2", "--horizon", "2", "--backend", name, "--json", str(result)]
        assert evaluate(root, *options, "--out", str(tmp_path / name)) == 0
        numbers[name] = json.loads(result.read_text())
        assert numbers[name]["backend"] == name
    assert any(engines.iterdir())
    assert numbers["onnx"]["psnr"] == pytest.approx(numbers["eager"]["psnr"], abs=0.01)


def test_motion_is_held_to_odometry_and_blocked_steps_to_contact(root, tmp_path, capsys):
    result = tmp_path / "result.json"
    options = ["--out", str(tmp_path / "out"), "--json", str(result), "--windows", "8"]
    command = ["evaluate", "prediction", "--checkpoint", str(root / "geometric"), "--episodes"]
    assert main([*command, str(root / "told"), *options]) == 0
    numbers = json.loads(result.read_text())
    # an untrained head believes every command, and half of the steps go nowhere
    for name in ("m", "rad"):
        assert numbers[f"motion_{name}"] == pytest.approx(numbers[f"command_{name}"])
        low, high = numbers[f"motion_{name}_ci"]
        assert low < numbers[f"motion_{name}"] < high
        assert len(numbers[f"motion_{name}_per_step"]) == 8
    assert numbers["command_m"] > 0.05
    assert numbers["blocked_auroc"] == 0.5, "it guesses"
    assert "AUROC" in capsys.readouterr().out
    assert main([*command, str(root / "val"), *options]) == 0
    numbers = json.loads(result.read_text())
    assert numbers["motion_m"] is numbers["blocked_auroc"] is None, "commands are not recorded"


def test_a_head_that_is_right_has_no_error_and_knows_what_blocks(root):
    model = WorldModel.from_pretrained(root / "geometric")
    episodes = read_episodes(root / "told", model.config.action)
    windows, others = draw_windows(episodes, 20, 4, 8, seed=0)
    predictions = []
    for case in read_cases(model, episodes, windows, others):
        motion = np.stack([case.motion, case.motion])
        right = SimpleNamespace(motion=motion.astype(np.float64), model=model)
        imagined = np.stack([case.recorded, case.recorded])
        predictions.append(Prediction.of(case, imagined, right))
    found = summary(predictions)
    assert found["motion_m"] == found["motion_rad"] == 0.0
    assert found["blocked_auroc"] == 1.0
    assert found["num_blocked"] == sum(p.case.contact[0] for p in predictions)
    assert found["psnr"] == 60.0 and found["action_gap"] == 0.0
    assert found["perceptual"] == 0.0 < found["perceptual_copy"]


def test_models_that_learned_displacements_are_given_those(root):
    episode = read_episode(root / "told" / "episode_0.h5")
    assert np.array_equal(episode_actions(geometric_config(), episode), episode.actions)
    assert np.array_equal(episode_actions(tiny_config(), episode), episode.motion)
    info = {"command": np.ones(3), "motion": np.zeros(3)}
    assert (
        step_action(geometric_config(), info).all() and not step_action(tiny_config(), info).any()
    )


def test_missing_episodes_of_a_set_of_worlds_are_collected(root, tmp_path, capsys, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    few = {"unseen": WorldSet((1, 2), episodes=2, driving_seed=7)}
    monkeypatch.setattr(world_sets, "WORLD_SETS", few)
    monkeypatch.setattr(world_sets, "STEPS", 15)
    command = ["evaluate", "prediction", "--checkpoint", str(root / "checkpoint"), "--windows", "2"]
    options = ["--world", "rooms", "--worlds", "unseen"]
    assert main([*command, *options, "--json", "result.json"]) == 0
    assert "2 of 2 episodes (rooms, unseen) are missing" in capsys.readouterr().err
    numbers = json.loads((tmp_path / "result.json").read_text())
    assert (numbers["world"], numbers["worlds"], numbers["num_episodes"]) == ("rooms", "unseen", 2)
    assert main([*command, *options]) == 0
    assert "missing" not in capsys.readouterr().err
    other = ["--world", "maze", "--worlds", "unseen", "--episodes", "runs/rooms/unseen"]
    assert main([*command, *other]) == 2
    assert "--world maze" in capsys.readouterr().err


def test_other_actions_are_another_episodes_and_the_seed_repeats(root):
    episodes = read_episodes(root / "val", tiny_config().action)
    windows, others = draw_windows(episodes, 100, 4, 8, seed=3)
    assert len(windows) == len(others) == sum(len(e) - 11 for e in episodes)
    assert len(set(windows)) == len(windows)
    for window, other in zip(windows, others, strict=True):
        assert window.episode != other.episode
        assert window.stop - window.start == other.stop - other.start == 12
    assert draw_windows(episodes, 100, 4, 8, seed=3) == (windows, others)
    assert draw_windows(episodes, 100, 4, 8, seed=4) != (windows, others)


@pytest.mark.parametrize(
    ("episodes", "arguments", "message"),
    [
        ("one", (), "at least two episodes"),
        ("nowhere", (), "no such folder"),
        ("mixed", (), "rate_hz"),
        ("short", (), "at least 12 frames"),
        ("val", ("--windows", "0"), "--windows"),
        ("val", ("--worlds", "all"), "--worlds"),
        ("val", ("--world", "castle"), "--world"),
        ("val", ("--worlds", "unseen"), "--worlds unseen"),
        ("val", ("--horizon", "9"), "--horizon"),
        ("val", ("--num-sampling-steps", "1001"), "--num-sampling-steps"),
        ("val", ("--precision", "fp16"), "back end eager"),
        ("val", ("--checkpoint", "{root}/nothing"), "checkpoint"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(
    root, tmp_path, capsys, episodes, arguments, message
):
    filled = [item.format(root=root) for item in arguments]
    outputs = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "result.json")]
    assert evaluate(root, *filled, *outputs, episodes=episodes) == 2
    assert message in capsys.readouterr().err
    assert files(tmp_path) == []
