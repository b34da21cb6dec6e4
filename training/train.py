"""Training from a hydra configuration: data, autoencoder, world model, checkpoint and card."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from training.card import model_card
from training.dataset import Clips, EpisodeFiles, open_episodes
from training.goal_distance import GoalDistanceTask, PairsConfig
from training.initial_model import initial_model, observation_of
from training.tasks import AutoencoderTask, EncodedClips, WorldModelTask
from training.trainer import LoopConfig, Task, Trainer
from training.vid2world import ClipConfig, Vid2WorldTask
from v2w_core.config import build_dataclass
from v2w_core.data.episode import require_commands_alike
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.errors import V2WError
from v2w_core.world_model import WorldModel

CONF = pathlib.Path(__file__).resolve().parent / "conf"
STAGES = ("autoencoder", "world_model", "vid2world", "goal_distance")


def load_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain data.

    Raises:
        V2WError: hydra refuses an override.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("config", overrides=list(overrides))
        settings = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        rule = "KEY=VALUE pairs of training/conf; see v2w train --show"
        raise V2WError("override", rule, str(error)) from error
    assert isinstance(settings, dict)
    return {str(k): v for k, v in settings.items()}


def train(settings: Mapping[str, Any], command: str) -> pathlib.Path:
    """Runs all stages; resumes an earlier run in the same folder.

    Args:
        settings: settings from :func:`load_settings`.
        command: the command line, for the model card.

    Returns:
        the checkpoint folder.
    """
    stages = check_stages(settings)
    loops = {
        stage: build_dataclass(LoopConfig, settings[f"{stage}_loop"], f"{stage}_loop")
        for stage in stages
    }
    pairs = build_dataclass(PairsConfig, settings["goal_distance"], "goal_distance")
    objective = build_dataclass(ObjectiveConfig, settings["objective"], "objective")
    clip = build_dataclass(ClipConfig, settings.get("vid2world", {}), "vid2world")
    observation_of(settings)  # checks init_from and transfer before the data is read
    if settings["threads"] or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(settings["threads"] or os.cpu_count() or 1))
    seed, out = int(settings["seed"]), pathlib.Path(str(settings["out"]))

    files = open_data(settings["data"])
    model = initial_model(settings, files[0].action_spec, seed)
    model.on_device(str(settings["device"]))
    window = model.config.num_frames
    if not {"world_model", "goal_distance"} & set(stages):
        window = clip.window(window)
    if set(stages) != {"autoencoder"}:
        for part in files:
            part.windows(window)  # raises now rather than after the first stage
    data = Data(model, *files)

    figures: dict[str, dict[str, float]] = {}

    def run(task: Task, stage: str) -> None:
        figures[stage] = Trainer(task, loops[stage], out / stage, seed).run()

    size = {stage: loop.batch_size for stage, loop in loops.items()}
    if "autoencoder" in stages:
        kl_weight = float(settings["autoencoder_kl"])
        ae_task = AutoencoderTask(model, *data.clips, size["autoencoder"], kl_weight)
        run(ae_task, "autoencoder")
        if not settings["init_from"]:
            ae_task.fix_normalisation()
    if "world_model" in stages:
        batch = size["world_model"]
        run(WorldModelTask(model, *data.clips, batch, objective, data.encoded), "world_model")
    if "vid2world" in stages:
        run(Vid2WorldTask(model, *files, size["vid2world"], objective, clip), "vid2world")
    if "goal_distance" in stages and model.goal_distance is not None:
        batch = size["goal_distance"]
        run(GoalDistanceTask(model, *data.clips, batch, pairs, data.encoded), "goal_distance")
    card = model_card(model, settings, *files, figures, command)
    return model.save_pretrained(out / "checkpoint", card, half=True)


@dataclass
class Data:
    """Training and held-out episodes, read into memory and encoded on first use."""

    model: WorldModel
    train: EpisodeFiles
    val: EpisodeFiles

    @cached_property
    def clips(self) -> tuple[Clips, Clips]:
        observation = self.model.config.observation
        return self.train.in_memory(observation), self.val.in_memory(observation)

    @cached_property
    def encoded(self) -> EncodedClips:
        return EncodedClips(self.model, self.clips[0])


def open_data(data: Mapping[str, Any]) -> tuple[EpisodeFiles, EpisodeFiles]:
    """Training and validation episodes; without ``val``, a tenth of the episodes is held out."""
    train_files = open_episodes(data["train"])
    if data.get("val"):
        val_files = open_episodes(data["val"], action_spec=train_files.action_spec)
        require_commands_alike([train_files.episodes[0], val_files.episodes[0]])
        return train_files, val_files
    return train_files.split()


def check_stages(settings: Mapping[str, Any]) -> list[str]:
    """The stages to run. Raises V2WError for unknown stages and for stages without settings."""
    stages = list(settings["stages"])
    if not stages or any(stage not in STAGES for stage in stages):
        raise V2WError("stages", f"some of {list(STAGES)}", stages)
    for stage in stages:
        if f"{stage}_loop" not in settings:
            rule = f"set for the stage {stage}; an experiment does: +experiment=vid2world_small"
            raise V2WError(f"{stage}_loop", rule)
    return stages
