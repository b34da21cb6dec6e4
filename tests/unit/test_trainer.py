"""Training on a toy task: resume equals an uninterrupted run; only one run in a folder."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.trainer import LoopConfig, Trainer
from v2w_core.errors import CheckpointError, V2WError


class Line:
    """Fit y = 3x with a little network; everything random comes from the generator."""

    name = "line"

    def __init__(self, batch_size: int = 16, dropout: float = 0.1) -> None:
        torch.manual_seed(0)
        self.batch_size = batch_size
        self.module = nn.Sequential(nn.Linear(1, 8), nn.Dropout(dropout), nn.Linear(8, 1))

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        x = torch.rand(self.batch_size, 1, generator=generator)
        return (self.module(x) - 3 * x).square().mean(), {"mean": float(x.mean())}

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            x = torch.linspace(0, 1, 11)[:, None]
            return {"error": float((self.module(x) - 3 * x).abs().mean())}


def config(num_steps: int, **changes: Any) -> LoopConfig:
    return LoopConfig(
        num_steps=num_steps, learning_rate=0.02, warmup_steps=5, validate_every=10_000, **changes
    )


def weights(task: Line) -> Tensor:
    return torch.cat([p.detach().flatten() for p in task.module.parameters()])


def test_training_learns_and_resume_equals_an_uninterrupted_run(tmp_path: pathlib.Path) -> None:
    whole = Line()
    before = whole.validate()["error"]
    figures = Trainer(whole, config(60), tmp_path / "whole", seed=3).run()
    assert figures["error"] < before / 2

    class Stop(Exception):
        pass

    halves = Line()
    trainer = Trainer(halves, config(60), tmp_path / "halves", seed=3)
    original = trainer._one_step

    def stop_at_25() -> dict[str, float]:
        if trainer.step == 25:
            trainer.save()
            raise Stop
        return original()

    trainer._one_step = stop_at_25  # type: ignore[method-assign]
    with pytest.raises(Stop):
        trainer.run()
    again = Line()
    Trainer(again, config(60), tmp_path / "halves", seed=3).run()
    assert torch.equal(weights(again), weights(whole))


def test_float16_learns_and_its_loss_scale_is_kept(
    tmp_path: pathlib.Path,
) -> None:
    line = Line()
    before = line.validate()["error"]
    trainer = Trainer(line, config(60, precision="float16"), tmp_path, seed=3)
    first = trainer.scaler.get_scale()
    assert trainer.run()["error"] < before / 2
    assert trainer.scaler.get_scale() <= first
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["scaler"]["scale"] == trainer.scaler.get_scale()


def test_accumulated_batches_equal_a_larger_one(tmp_path: pathlib.Path) -> None:
    found, logged = [], []
    for size, accumulate in ((16, 1), (4, 4)):
        line = Line(size, dropout=0)
        loop = config(10, accumulate=accumulate, clip_norm=0.5)
        trainer = Trainer(line, loop, tmp_path / f"{accumulate}", seed=0)
        logged.append(trainer._one_step())
        trainer.step = 1
        trainer.run()
        found.append(weights(line))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)
    assert not torch.allclose(found[0], weights(Line(16)), atol=1e-2)


def test_without_an_average_the_weights_themselves_are_left(tmp_path: pathlib.Path) -> None:
    plain, averaged = Line(), Line()
    Trainer(plain, config(30, ema_decay=None), tmp_path / "plain", seed=0).run()
    trainer = Trainer(averaged, config(30), tmp_path / "averaged", seed=0)
    trainer.run()
    assert trainer.ema is not None
    live = torch.cat(
        [trainer.ema.shadow[n].flatten() for n, _ in averaged.module.named_parameters()]
    )
    assert torch.equal(weights(plain), live)  # the average was put into the module in exchange
    assert not torch.equal(weights(averaged), live)


def test_a_damaged_state_is_named_and_not_executed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(CheckpointError, match="state"):
        Trainer(Line(), config(2), tmp_path, seed=0).run()
    assert not pathlib.Path("owned").exists()


def test_two_runs_in_one_folder_are_refused(tmp_path: pathlib.Path) -> None:
    from training.trainer import _locked

    with _locked(tmp_path), pytest.raises(V2WError, match="no other run"):
        Trainer(Line(), config(2), tmp_path, seed=0).run()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: pathlib.Path) -> None:
    class Bad(Line):
        def loss(
            self, generator: torch.Generator, progress: float
        ) -> tuple[Tensor, dict[str, float]]:
            loss, logged = super().loss(generator, progress)
            return loss * float("nan"), logged

    with pytest.raises(V2WError, match="finite"):
        Trainer(Bad(), config(3), tmp_path, seed=0).run()


def test_rate_warms_up_and_cools_down() -> None:
    loop = LoopConfig(num_steps=100, learning_rate=1.0, warmup_steps=10, cooldown=0.2)
    rates = [loop.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[50] == 1.0
    assert rates[99] == pytest.approx(0.05)
    constant = LoopConfig(num_steps=100, learning_rate=1.0, warmup_steps=0, cooldown=0)
    assert {constant.rate_at(step) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("name", "value"), [("num_steps", 0), ("accumulate", 0), ("precision", "float8")]
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    values: dict[str, object] = {"num_steps": 10, name: value}
    with pytest.raises(V2WError, match=name):
        LoopConfig(**values)  # type: ignore[arg-type]
