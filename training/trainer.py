"""The training loop: schedule, EMA, progress, TensorBoard, validation, checkpoints, resume.

All randomness of a step comes from generators seeded with (seed, step), so that a run that was
stopped and resumed equals an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.ema import EMA
from v2w_core.errors import CheckpointError, V2WError
from v2w_core.files import replaced
from v2w_core.progress import progress, write

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop.

    Attributes:
        num_steps: number of optimiser steps.
        batch_size: number of clips (world model) or frames (autoencoder) in a batch.
        accumulate: number of batches whose gradients are accumulated in a step.
        learning_rate: learning rate after ``warmup_steps``; it falls linearly to zero over the
            last ``cooldown`` share of the steps. Constant if both are 0.
        betas: betas of AdamW.
        ema_decay: decay of the averaged weights, which are validated and saved; None: no average.
        precision: "float32", or "bfloat16" or "float16" for mixed precision (float16 with a
            scaled loss).
        validate_every: number of steps between validations.
        checkpoint_every_s: seconds between checkpoints of the training state.
    """

    num_steps: int
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    cooldown: float = 0.3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float | None = 0.999
    precision: str = "float32"
    compile: bool = False
    validate_every: int = 1000
    checkpoint_every_s: float = 180.0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "accumulate", "validate_every"):
            if getattr(self, name) < 1:
                raise V2WError(name, "at least 1", getattr(self, name))
        if self.precision not in PRECISIONS:
            raise V2WError("precision", f"one of {list(PRECISIONS)}", self.precision)

    def rate_at(self, step: int) -> float:
        """Learning rate of optimiser step ``step``, counted from 0."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        tail = max(int(self.num_steps * self.cooldown), 1)
        cool = min(1.0, (self.num_steps - step) / tail)
        return self.learning_rate * warm * cool


class Task(Protocol):
    """A training task: a module with its loss and its validation."""

    name: str
    module: nn.Module

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of a random batch, and figures to log.

        Args:
            generator: CPU generator of all randomness.
            progress: share of the run's steps that is done, 0..1.
        """

    def validate(self) -> dict[str, float]:
        """Figures on held-out data with the current weights."""


class Trainer:
    """Trains a task; ``folder`` has state.pt, metrics.jsonl and TensorBoard files."""

    def __init__(self, task: Task, config: LoopConfig, folder: pathlib.Path, seed: int) -> None:
        self.task = task
        self.config = config
        self.folder = folder
        self.seed = seed
        self.step = 0
        self.seconds = 0.0
        self.ema = None if config.ema_decay is None else EMA(task.module, config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            task.module.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.device = next(task.module.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=config.precision == "float16")
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> dict[str, float]:
        """Trains to the last step; the module then has the averaged weights, if any.

        Returns:
            figures of the last validation, with "steps" and "minutes" (training time of all
            resumed parts).
        """
        with _locked(self.folder):
            return self._run()

    def _run(self) -> dict[str, float]:
        self._resume()
        writer = _summary_writer(self.folder)
        figures: dict[str, float] = {}
        last_saved = time.monotonic()
        bar = progress(
            total=self.config.num_steps, initial=self.step, desc=self.task.name, unit="step"
        )
        self.task.module.train()
        try:
            while self.step < self.config.num_steps:
                began = time.monotonic()
                logged = self._one_step()
                self.step += 1
                self.seconds += time.monotonic() - began
                bar.update()
                if self.step % 20 == 0:
                    bar.note(_text(logged))
                    self._log(writer, "train", logged)
                due = self.step % self.config.validate_every == 0
                if due or self.step == self.config.num_steps:
                    figures = self._validate()
                    self._log(writer, "val", figures)
                    write(f"{self.task.name} step {self.step}: " + _text(figures))
                if time.monotonic() - last_saved > self.config.checkpoint_every_s:
                    self.save()
                    last_saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            write(f"stopped at step {self.step}; the same command resumes")
            raise
        finally:
            bar.close()
            if writer is not None:
                writer.close()
        self.save()
        if self.ema is not None:
            self.ema.swap(self.task.module)
        self.task.module.eval()
        if not figures:
            figures = self.task.validate()
        return {**figures, "steps": float(self.step), "minutes": self.seconds / 60}

    def _one_step(self) -> dict[str, float]:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate_at(self.step)
        torch.manual_seed(self.seed * 7_919 + self.step)  # dropout
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        self.optimizer.zero_grad(set_to_none=True)
        parts = [self._accumulate(generator) for _ in range(config.accumulate)]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.task.module.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.task.module, self.step)
        return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}

    def _accumulate(self, generator: torch.Generator) -> dict[str, float]:
        """Adds the gradients of one batch; returns its loss and figures."""
        config = self.config
        dtype = PRECISIONS[config.precision]
        with torch.autocast(self.device, dtype, enabled=dtype is not None):
            loss, logged = self.task.loss(generator, self.step / config.num_steps)
        if not torch.isfinite(loss):
            raise V2WError(
                "loss",
                "finite; lower the learning rate or look at the data (step by step with "
                "precision=float32)",
                f"{loss.item()} at step {self.step}",
            )
        self.scaler.scale(loss / config.accumulate).backward()
        return {"loss": float(loss.detach()), **logged}

    def _validate(self) -> dict[str, float]:
        with self._averaged():
            return self.task.validate()

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.ema is not None:
            self.ema.swap(self.task.module)
        self.task.module.eval()
        try:
            yield
        finally:
            if self.ema is not None:
                self.ema.swap(self.task.module)
            self.task.module.train()

    def save(self) -> None:
        """Writes the training state atomically."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "module": self.task.module.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with replaced(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.task.module.load_state_dict(state["module"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state.get("scaler", {}))
        except Exception as error:
            rule = "a state of this run with the same sizes; delete the folder to start over"
            raise CheckpointError(str(path), rule, str(error)) from error
        self.step, self.seconds = state["step"], state["seconds"]
        write(f"{self.task.name}: resuming at step {self.step}")

    def _log(self, writer: Any, group: str, figures: dict[str, float]) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1), "group": group, **figures}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if writer is not None:
            for name, value in figures.items():
                writer.add_scalar(f"{group}/{name}", value, self.step)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Locks the folder, as two runs would overwrite each other's state.

    Raises:
        V2WError: another run has locked it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            rule = "a folder that no other run is using; wait for it, or choose another out="
            raise V2WError("out", rule, str(folder)) from error
        yield


def _summary_writer(folder: pathlib.Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
