"""Runs the transfer ablation: pre-trains once, fine-tunes every arm with every seed, scores them.

Every part writes a file when it is done and is skipped if the file exists; trainings resume at the
step where they stopped (``training.trainer``). The same call therefore finishes an interrupted run.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.ablation.arms import ARMS, Arm, FineTuningTask, Windows, build_arm
from training.ablation.scores import Judge
from training.dataset import load_clips
from training.latent_video import encode_episodes
from training.trainer import LoopConfig, Trainer
from training.video_pretraining import VideoDiffusionTask, video_config
from v2w_core.config import SamplingConfig, WorldModelConfig
from v2w_core.errors import V2WError
from v2w_core.files import shown_path, write_text
from v2w_core.progress import progress, write
from v2w_core.world_model import WorldModel

SAMPLING = SamplingConfig(num_steps=8, guidance_rescale=0.7, history_level=20, eta=0.0)


@dataclass(frozen=True)
class AblationConfig:
    """Sizes of the ablation. The defaults take a little over an hour on two CPU cores.

    Attributes:
        unlabelled: share of the training episodes that are used, without actions, for pre-training
            only; the arms are fine-tuned on the others.
        batch_size: number of clips in a batch of pre-training and fine-tuning.
        finetune_rate: learning rate of every arm, constant after ``warmup_steps``.
        ema_decay: decay of the averaged weights of every arm, which are evaluated.
        curve_every: number of fine-tuning steps between two points of the curves.
        curve_windows, choice_windows, score_windows: number of held-out windows for the curves,
            for choosing the guidance scale, and for the table. Those for choosing are from
            separate episodes.
        choice_episodes: share of the held-out episodes for choosing the guidance scale.
        scales: guidance scales to choose from; all guided arms have the same.
        sampling: sampling settings of all arms.
    """

    pretrain_steps: int = 3600
    finetune_steps: int = 250
    unlabelled: float = 0.8
    batch_size: int = 8
    pretrain_rate: float = 1e-3
    finetune_rate: float = 5e-4
    warmup_steps: int = 20
    ema_decay: float = 0.95
    curve_every: int = 15
    curve_windows: int = 32
    choice_windows: int = 32
    score_windows: int = 96
    choice_episodes: float = 0.25
    scales: tuple[float, ...] = (1.25, 1.5, 2.0, 2.5)
    model_channels: int = 24
    channel_mult: tuple[int, ...] = (1, 2, 4)
    sampling: SamplingConfig = SAMPLING

    def __post_init__(self) -> None:
        for name in ("pretrain_steps", "finetune_steps", "score_windows", "curve_windows"):
            if getattr(self, name) < 1:
                raise V2WError(name, "at least 1", getattr(self, name))
        for name in ("unlabelled", "choice_episodes"):
            if not 0 < getattr(self, name) < 1:
                raise V2WError(name, "between 0 and 1", getattr(self, name))
        if not self.scales or min(self.scales) <= 1:
            raise V2WError("scales", "guidance scales above 1", self.scales)

    def world_model(self, network: WorldModelConfig) -> WorldModelConfig:
        """Configuration of the causal model: that of ``network`` with a smaller U-Net, which is
        given latents only."""
        latents = network.autoencoder.latent_channels
        unet = dataclasses.replace(
            network.unet,
            in_channels=latents,
            out_channels=latents,
            condition_channels=0,
            model_channels=self.model_channels,
            channel_mult=self.channel_mult,
            head_dim=self.model_channels,
            attention_levels=tuple(range(1, len(self.channel_mult))),
        )
        return dataclasses.replace(
            network, unet=unet, sampling=self.sampling, goal_distance=None, condition=None,
            motion_head=False,
        )  # fmt: skip


class Ablation:
    """An ablation in a folder.

    Args:
        config: sizes.
        checkpoint: model whose autoencoder all arms use and whose features the Frechet distance
            compares.
        train, val: folders of training and held-out episodes.
        out: folder of the results.
        device: torch device.

    Raises:
        V2WError: ``out`` has a run with other settings.
    """

    def __init__(
        self,
        config: AblationConfig,
        checkpoint: str | pathlib.Path,
        train: str | pathlib.Path,
        val: str | pathlib.Path,
        out: pathlib.Path,
        device: str = "cpu",
    ) -> None:
        self.config, self.out = config, out
        self.network = network = WorldModel.from_pretrained(checkpoint, device)
        self.model_config = config.world_model(network.config)
        sources = {"checkpoint": checkpoint, "train": train, "val": val}
        self.sources = {name: shown_path(path) for name, path in sources.items()}
        self._check_settings()
        began = time.monotonic()
        self.train = encode_episodes(network, train, out / "latents" / "train.safetensors")
        self.val = encode_episodes(network, val, out / "latents" / "val.safetensors")
        self._record_minutes("encoding", began)
        self.val_folder = val
        window = network.config.num_frames
        cut = round(self.train.num_episodes * config.unlabelled)
        self.unlabelled = self.train.window_starts(window, slice(0, cut))
        self.labelled = self.train.window_starts(window, slice(cut, None))
        cut = max(round(self.val.num_episodes * config.choice_episodes), 1)
        self.choice_starts = self.val.window_starts(window, slice(0, cut))
        self.test_starts = self.val.window_starts(window, slice(cut, None))

    def run(self, num_seeds: int) -> dict[str, Any]:
        """Runs everything that is not done yet; returns the results as plain data."""
        base = self.base()
        runs = [(arm, seed) for seed in range(num_seeds) for arm in ARMS]
        trained = self._each(runs, "training.json", lambda a, s: self.train_arm(a, s, base))
        scale, choice = self.choose_scale()
        judge = self._judge(self.test_starts, self.config.score_windows)
        references = self._references(judge)
        scored = self._each(runs, "scores.json", lambda a, s: self.score_arm(a, s, judge, scale))
        arms: dict[str, Any] = {}
        for arm in ARMS:
            mine = [i for i, (other, _) in enumerate(runs) if other is arm]
            arms[arm.name] = {
                "scores": [scored[i]["scores"] for i in mine],
                "curves": [trained[i]["curve"] for i in mine],
            }
        pretraining = _read(self.out / "base" / "training.json")
        parts = [pretraining, *trained, *scored]
        return {
            "settings": dataclasses.asdict(self.config),
            "sources": self.sources,
            "num_seeds": num_seeds,
            "guidance_scale": scale,
            "guidance_choice": choice,
            "parameters_m": sum(p.numel() for p in base.unet.parameters()) / 1e6,
            "num_windows": {
                "pretraining": len(self.unlabelled),
                "fine-tuning": len(self.labelled),
                "table": self.config.score_windows,
            },
            "pretraining": pretraining,
            "references": references,
            "arms": arms,
            "minutes": sum(part["minutes"] for part in parts)
            + sum(_read(self.out / "minutes.json").values()),
        }

    def base(self) -> WorldModel:
        """The pre-trained non-causal model without actions."""
        folder = self.out / "base"
        if not (folder / "training.json").is_file():
            model = WorldModel.build(video_config(self.model_config), seed=0)
            model.autoencoder.load_state_dict(self.network.autoencoder.state_dict())
            model.to(self.network.device)
            task = VideoDiffusionTask(
                model, self.train, self.unlabelled, self.val, self.test_starts,
                self.config.batch_size,
            )  # fmt: skip
            steps = self.config.pretrain_steps
            loop = LoopConfig(
                num_steps=steps, batch_size=self.config.batch_size, warmup_steps=min(100, steps),
                learning_rate=self.config.pretrain_rate, ema_decay=0.995,
                validate_every=max(steps // 10, 1), checkpoint_every_s=60.0,
            )  # fmt: skip
            figures = Trainer(task, loop, folder, seed=0).run()
            model.save_pretrained(folder / "checkpoint")
            _write(folder / "training.json", figures)
        return WorldModel.from_pretrained(folder / "checkpoint", str(self.network.device))

    def train_arm(self, arm: Arm, seed: int, base: WorldModel) -> dict[str, Any]:
        """Fine-tunes an arm; step 0 of the curve is the model before fine-tuning."""
        folder = self.folder(arm, seed)
        model = build_arm(arm, base, self.model_config, seed)
        held_out = Windows.evenly_spaced(
            self.val, self.test_starts, self.config.curve_windows, self.model_config
        )
        task = FineTuningTask(
            model, arm, self.train, self.labelled, self.config.batch_size, held_out
        )
        loop = LoopConfig(
            num_steps=self.config.finetune_steps, batch_size=self.config.batch_size,
            learning_rate=self.config.finetune_rate, warmup_steps=self.config.warmup_steps,
            cooldown=0.0, ema_decay=self.config.ema_decay, validate_every=self.config.curve_every,
            checkpoint_every_s=30.0,
        )  # fmt: skip
        curve = {0: task.validate()}
        minutes = Trainer(task, loop, folder, seed).run()["minutes"]
        curve |= validations(folder / "metrics.jsonl")
        model.save_pretrained(folder / "checkpoint")
        steps = sorted(curve)
        rows = {name: [curve[step][name] for step in steps] for name in curve[0]}
        return {"curve": {"steps": steps, **rows}, "minutes": minutes}

    def choose_scale(self) -> tuple[float, dict[str, dict[str, float]]]:
        """The scale with the best mean PSNR of the guided arms of seed 0, and all PSNR values."""
        file = self.out / "guidance.json"
        if not file.is_file():
            began = time.monotonic()
            judge = self._judge(self.choice_starts, self.config.choice_windows)
            guided = [arm for arm in ARMS if arm.guided]
            tried = [
                (scale, arm, self._model(arm, 0))
                for scale in (1.0, *self.config.scales)
                for arm in guided
            ]
            table: dict[str, dict[str, float]] = {}
            for scale, arm, model in progress(
                tried, desc="choosing the guidance scale", unit="model", transient=True
            ):
                table.setdefault(str(scale), {})[arm.name] = judge.psnr(model, scale)
            _write(file, table)
            self._record_minutes("guidance scale", began)
        table = _read(file)
        means = {float(k): sum(row.values()) / len(row) for k, row in table.items()}
        return max(self.config.scales, key=lambda scale: means[scale]), table

    def score_arm(self, arm: Arm, seed: int, judge: Judge, scale: float) -> dict[str, Any]:
        began = time.monotonic()
        scores = judge.score(self._model(arm, seed), scale if arm.guided else 1.0)
        return {"scores": scores.to_dict(), "minutes": (time.monotonic() - began) / 60}

    def folder(self, arm: Arm, seed: int) -> pathlib.Path:
        return self.out / "arms" / arm.name / f"seed{seed}"

    def _each(
        self,
        runs: list[tuple[Arm, int]],
        file: str,
        work: Callable[[Arm, int], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """Contents of the file of each run, computed if missing; prints the remaining time."""
        missing = [run for run in runs if not (self.folder(*run) / file).is_file()]
        began = time.monotonic()
        for number, (arm, seed) in enumerate(missing, start=1):
            _write(self.folder(arm, seed) / file, work(arm, seed))
            left = (time.monotonic() - began) / number * (len(missing) - number) / 60
            done = f"{file.removesuffix('.json')}: {number} of {len(missing)} done"
            write(f"{done} ({arm.title}, seed {seed}), about {left:.0f} min left")
        return [_read(self.folder(*run) / file) for run in runs]

    def _model(self, arm: Arm, seed: int) -> WorldModel:
        folder = self.folder(arm, seed) / "checkpoint"
        return WorldModel.from_pretrained(folder, str(self.network.device))

    def _judge(self, starts: NDArray[np.int64], count: int) -> Judge:
        windows = Windows.evenly_spaced(self.val, starts, count, self.model_config)
        clips = load_clips(self.val_folder, self.network.config.observation)
        ahead = windows.frames[:, self.model_config.num_history :]
        return Judge(self.network, windows, clips.frames[ahead.numpy()])

    def _references(self, judge: Judge) -> dict[str, dict[str, float]]:
        another = Windows.evenly_spaced(
            self.val, self.test_starts, self.config.score_windows, self.model_config, offset=0.5
        )
        return judge.references(another.latents)

    def _record_minutes(self, part: str, began: float) -> None:
        """Records the duration of a part in minutes, unless it is already recorded."""
        file = self.out / "minutes.json"
        recorded = _read(file) if file.is_file() else {}
        _write(file, {part: (time.monotonic() - began) / 60, **recorded})

    def _check_settings(self) -> None:
        """Stores the settings. Raises V2WError if the folder has a run with other settings."""
        settings = json.loads(json.dumps({**dataclasses.asdict(self.config), **self.sources}))
        file = self.out / "settings.json"
        if file.is_file():
            stored = _read(file)
            changed = {k: v for k, v in settings.items() if stored.get(k) != v}
            if changed:
                rule = f"the settings of the run in {self.out}; choose another --out"
                raise V2WError(next(iter(changed)), rule, changed)
        _write(file, settings)


def validations(file: pathlib.Path) -> dict[int, dict[str, float]]:
    """Validation figures by step; the steps that a resumed run repeats have the same figures."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    other = ("step", "seconds", "group")
    return {
        line["step"]: {name: value for name, value in line.items() if name not in other}
        for line in lines
        if line["group"] == "val"
    }


def _read(file: pathlib.Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def _write(file: pathlib.Path, data: dict[str, Any]) -> None:
    write_text(file, json.dumps(data, indent=2) + "\n")
