"""Model card of a checkpoint: its sizes, its training data and its validation figures."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from training.dataset import EpisodeFiles
from v2w_core.world_model import WorldModel


def model_card(
    model: WorldModel,
    settings: Mapping[str, Any],
    train: EpisodeFiles,
    val: EpisodeFiles,
    figures: Mapping[str, Mapping[str, float]],
    command: str,
) -> str:
    """The card as Markdown.

    Args:
        model: the trained model.
        settings: configuration of the run (title, licence, seed, data).
        train, val: training and held-out episodes.
        figures: stage -> name -> value, as returned by the trainer.
        command: the command that ran the training.
    """
    spec = model.config.action
    rows = [
        f"| {stage} | {name} | {value:.4g} |"
        for stage, values in figures.items()
        for name, value in values.items()
    ]
    bounds = ", ".join(
        f"{n} [{lo:g}, {hi:g}] {u}"
        for n, lo, hi, u in zip(spec.names, spec.low, spec.high, spec.units, strict=True)
    )
    data = settings["data"]
    observation = model.config.observation
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
    if str(settings["device"]) != "cpu":
        machine += f", {torch.cuda.get_device_name()}"
    return "\n".join(
        [
            f"# {settings['title']}",
            "",
            "A causal, action-guided world model for v2w (`WorldModel.from_pretrained`).",
            "",
            f"- parameters: {model.num_parameters / 1e6:.2f} million",
            f"- frames: RGB {observation.height}x{observation.width} ({observation.resize}), "
            f"{model.config.num_history} of history, window {model.config.num_frames}",
            f"- actions: {bounds}, {spec.rate_hz:g} Hz",
            f"- training data: {data['train']}: {len(train.episodes)} episodes, "
            f"{train.num_frames} frames",
            f"- held-out data: {data.get('val') or 'split off'}: {len(val.episodes)} episodes, "
            f"{val.num_frames} frames",
            f"- seed: {settings['seed']}",
            f"- machine: {machine}",
            f"- date: {datetime.date.today().isoformat()}",
            f"- licence: {settings['licence']}",
            "",
            "Made by:",
            "",
            "```",
            command,
            "```",
            "",
            "Figures on held-out data (of the saved weights; dB, steps, minutes of training):",
            "",
            "| stage | figure | value |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
