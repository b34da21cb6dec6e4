"""A whole ablation of two arms: resuming, settings, and the choice of the guidance scale."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from ablation_toys import CONFIG, TINY
from core_toys import small_model

import training.ablation.run as ablation_run
from training.ablation.arms import Arm
from training.ablation.run import Ablation
from training.trainer import Trainer
from v2w_core.data.episode import write_episode
from v2w_core.errors import V2WError

TWO_ARMS = (Arm("masked", False), Arm("extrapolative", True))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part).mkdir()
        for number in range(4):
            write_episode(
                folder / part / f"e{number}.h5",
                frames=rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
                actions=rng.uniform(-0.2, 0.2, (15, 3)).astype(np.float32),
                poses=np.zeros((16, 4)),
                stamps_ns=np.arange(16) * 250_000_000,
                action_spec=CONFIG.action,
                source="toy",
            )
    return folder


@pytest.fixture
def ablation(episodes, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_run, "ARMS", TWO_ARMS)

    network = small_model().save_pretrained(tmp_path / "network")

    def made(name, config=TINY):
        return Ablation(config, network, episodes / "train", episodes / "val", tmp_path / name)

    return made


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_numbers_and_a_finished_one_is_skipped(
    ablation, monkeypatch, tmp_path
):
    whole = ablation("whole").run(1)
    steps = []
    original = Trainer._one_step

    def stop_in_the_second_arm(trainer):
        steps.append(trainer.step)
        if len(steps) == TINY.pretrain_steps + TINY.finetune_steps + 4:
            raise KeyboardInterrupt
        return original(trainer)

    monkeypatch.setattr(Trainer, "_one_step", stop_in_the_second_arm)
    with pytest.raises(KeyboardInterrupt):
        ablation("halves").run(1)
    again = ablation("halves").run(1)
    assert numbers(again) == numbers(whole)
    after_pretraining = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 3, 4, 5]  # the first arm stayed as it was
    assert steps[TINY.pretrain_steps :] == after_pretraining
    assert whole["arms"]["masked"]["curves"][0]["steps"] == [0, 2, 4, 6]
    timed = json.loads((tmp_path / "halves" / "minutes.json").read_text())
    assert timed.keys() == {"encoding", "guidance scale"} and again["minutes"] > sum(timed.values())

    monkeypatch.setattr(Trainer, "_one_step", None)  # nothing is left to train
    assert numbers(ablation("halves").run(1)) == numbers(whole)


def numbers(results):
    kept = ("arms", "guidance_choice", "references")
    return json.loads(json.dumps({name: results[name] for name in kept}))


def test_another_ablation_in_the_same_folder_is_refused(ablation):
    ablation("one")
    with pytest.raises(V2WError, match="finetune_steps"):
        ablation("one", dataclasses.replace(TINY, finetune_steps=7))


def test_the_scale_is_the_best_on_its_own_windows(ablation, monkeypatch):
    made = ablation("scale")
    found = {1.0: 30.0, 1.5: 20.0, 2.0: 21.0}  # 1 is not guidance and cannot be chosen
    monkeypatch.setattr(ablation_run.Judge, "psnr", lambda self, model, scale: found[scale])
    monkeypatch.setattr(made, "_model", lambda arm, seed: None)
    scale, table = made.choose_scale()
    assert scale == 2.0
    assert table["1.0"] == {"extrapolative_guided": 30.0}
    assert not set(made.choice_starts) & set(made.test_starts)
    assert not set(made.unlabelled) & set(made.labelled)


@pytest.mark.parametrize(
    ("field", "value"), [("scales", (1.0,)), ("unlabelled", 1.0), ("finetune_steps", 0)]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(V2WError, match=field):
        dataclasses.replace(TINY, **{field: value})
