"""``v2w imagine`` on an untrained checkpoint: what it writes, and what it refuses."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from imagine_toys import SPEC, files, is_picture, save_checkpoint, save_episode, video

from v2w_core.cli import main
from v2w_core.data.episode import read_episode


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagine")
    save_checkpoint(folder / "checkpoint")
    save_episode(folder / "episode.h5")
    save_episode(folder / "short.h5", num_frames=3)
    save_episode(folder / "fast.h5", rate_hz=10.0)
    np.save(folder / "good.npy", np.full((5, 3), 0.1))
    (folder / "good.csv").write_text("dx,dy,dyaw\n0.1,0,0.2\n0.2,0,-0.2\n")
    (folder / "plan.json").write_text(json.dumps({"action_sequence": [[0.3, 0, 0]] * 4}))
    np.save(folder / "nan.npy", np.full((4, 3), np.nan))
    np.save(folder / "wide.npy", np.zeros((4, 2)))
    np.save(folder / "out.npy", np.full((4, 3), 9.0))
    np.save(folder / "long.npy", np.zeros((9, 3)))
    np.save(folder / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    (folder / "pickle.npy").write_bytes(pickle.dumps([[0.0] * 3]))
    (folder / "words.json").write_text("not json")
    return folder


def imagine(root, *arguments, episode="episode.h5"):
    return main(["imagine", str(root / episode), "--checkpoint", str(root / "checkpoint"),
                 *arguments])  # fmt: skip


def test_recorded_actions_are_shown_beside_the_recording(root, tmp_path, capsys):
    result = tmp_path / "result.json"
    out = tmp_path / "out"
    assert imagine(root, "--start", "5", "--out", str(out), "--json", str(result)) == 0
    printed = capsys.readouterr()
    assert "PSNR" in printed.out
    assert "mean" in printed.out
    assert str(out / "imagine.mp4") in printed.err
    assert files(out) == ["imagine.mp4", "imagine.png"]
    frames = video(out / "imagine.mp4")
    assert len(frames) == 4 + 8
    assert frames[0].shape[1] > frames[0].shape[0]  # recorded and imagined side by side
    assert is_picture(out / "imagine.png")
    numbers = json.loads(result.read_text())
    assert len(numbers["psnr_per_step"]) == len(numbers["psnr_copy_per_step"]) == 8
    recorded = read_episode(root / "episode.h5").actions[5:13]
    np.testing.assert_allclose(numbers["actions"], recorded)


@pytest.mark.parametrize(
    ("arguments", "num_steps"),
    [(("zero", "--steps", "3"), 3), (("0.3,0,0.1",), 8), (("{root}/good.npy",), 5),
     (("{root}/good.csv",), 2), (("{root}/plan.json", "--steps", "3"), 3)],
)  # fmt: skip
def test_actions_may_be_given(root, tmp_path, arguments, num_steps):
    filled = [item.format(root=root) for item in arguments]
    result = tmp_path / "result.json"
    out = tmp_path / "out"
    assert imagine(root, "--out", str(out), "--json", str(result), "--actions", *filled) == 0
    numbers = json.loads(result.read_text())
    assert np.shape(numbers["actions"]) == (num_steps, SPEC.dim)
    assert numbers["psnr_per_step"] is None
    assert len(video(out / "imagine.mp4")) == 4 + num_steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--actions", "{root}/nan.npy"), "finite"),
        (("--actions", "{root}/wide.npy"), "dyaw"),
        (("--actions", "{root}/out.npy"), "within"),
        (("--actions", "{root}/long.npy"), "at most 8"),
        (("--actions", "{root}/objects.npy"), "pickle"),
        (("--actions", "{root}/pickle.npy"), "pickle"),
        (("--actions", "{root}/words.json"), "words.json"),
        (("--actions", "{root}/missing.csv"), "missing.csv"),
        (("--actions", "{root}/good.npy", "--steps", "6"), "--steps"),
        (("--actions", "0.1,0"), "3 numbers"),
        (("--actions", "fast"), "recorded, zero"),
        (("--actions", "9,0,0"), "within"),
        (("--start", "2"), "--start"),
        (("--start", "15"), "--steps"),
        (("--steps", "9"), "--steps"),
        (("--steps", "0"), "--steps"),
        (("--num-sampling-steps", "0"), "--num-sampling-steps"),
        (("--guidance-scale", "nan"), "--guidance-scale"),
        (("--seed", "-1"), "--seed"),
        (("--device", "abacus"), "device"),
        (("--checkpoint", "{root}/nothing"), "checkpoint"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(root, tmp_path, capsys, arguments, message):
    filled = [item.format(root=root) for item in arguments]
    outputs = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "result.json")]
    assert imagine(root, *filled, *outputs) == 2
    assert message in capsys.readouterr().err
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("episode", "message"),
    [("short.h5", "at least 4 frames"), ("fast.h5", "rate_hz"), ("missing.h5", "no such file"),
     ("good.csv", "HDF5")],
)  # fmt: skip
def test_an_episode_that_does_not_fit_is_refused(root, tmp_path, capsys, episode, message):
    assert imagine(root, "--out", str(tmp_path / "out"), episode=episode) == 2
    assert message in capsys.readouterr().err
    assert files(tmp_path) == []
