"""``v2w evaluate prediction`` on an untrained checkpoint and short episodes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from imagine_toys import files, is_picture, save_checkpoint, save_episode

from training.evaluation.prediction import draw_windows, read_episodes
from v2w_core.cli import main
from v2w_core.testing import tiny_config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prediction")
    save_checkpoint(folder / "checkpoint")
    for seed in range(3):
        save_episode(folder / "val" / f"episode_{seed}.h5", 14 + seed, seed)
    save_episode(folder / "one" / "episode.h5")
    save_episode(folder / "mixed" / "a.h5")
    save_episode(folder / "mixed" / "b.h5", rate_hz=10.0)
    for name in ("a", "b"):
        save_episode(folder / "short" / f"{name}.h5", 11)
    return folder


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
    for name in ("psnr", "psnr_copy", "psnr_other_actions"):
        assert len(numbers[f"{name}_per_step"]) == 8
        assert numbers[name] == pytest.approx(np.mean(numbers[f"{name}_per_step"]))
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
