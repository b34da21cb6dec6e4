"""Training from a hydra configuration: data, autoencoder, world model, checkpoint and card."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from training.card import model_card
from training.dataset import Clips, load_clips
from training.goal_distance import GoalDistanceTask, PairsConfig
from training.tasks import AutoencoderTask, EncodedClips, WorldModelTask
from training.trainer import LoopConfig, Task, Trainer
from v2w_core.config import SamplingConfig, WorldModelConfig, build_dataclass
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.errors import V2WError
from v2w_core.models.goal_distance import GoalDistanceConfig
from v2w_core.spec import ActionSpec, ObservationSpec
from v2w_core.world_model import WorldModel, load_config

CONF = pathlib.Path(__file__).resolve().parent / "conf"
STAGES = ("autoencoder", "world_model", "goal_distance")


def load_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain data.

    Raises:
        V2WError: an override that hydra refuses; the message names it.
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
    """Run all stages; resumes where an earlier run of the same folder stopped.

    Args:
        settings: of :func:`load_settings`.
        command: as typed, for the model card.

    Returns:
        the checkpoint folder.
    """
    loops = {
        stage: build_dataclass(LoopConfig, settings[f"{stage}_loop"], f"{stage}_loop")
        for stage in STAGES
    }
    pairs = build_dataclass(PairsConfig, settings["goal_distance"], "goal_distance")
    objective = build_dataclass(ObjectiveConfig, settings["objective"], "objective")
    stages = list(settings["stages"])
    if not stages or any(stage not in STAGES for stage in stages):
        raise V2WError("stages", f"some of {list(STAGES)}", stages)
    torch.set_num_threads(int(settings["threads"] or os.cpu_count() or 1))
    seed, out = int(settings["seed"]), pathlib.Path(str(settings["out"]))

    base = WorldModel.from_pretrained(settings["init_from"]) if settings["init_from"] else None
    observation = (
        base.config.observation
        if base is not None
        else build_dataclass(ObservationSpec, settings["observation"], "observation")
    )
    train_clips, val_clips = load_data(settings["data"], observation)
    config = model_config(settings, observation, train_clips.action_spec)
    model = WorldModel.build(config, seed)
    if base is not None:
        added = model.load_state_dict(base.state_dict(), strict=False).missing_keys
        assert all(name.startswith("goal_distance.") for name in added), added
    model.to(str(settings["device"]))

    figures: dict[str, dict[str, float]] = {}
    if "autoencoder" in stages:
        ae_task = AutoencoderTask(
            model,
            train_clips,
            val_clips,
            loops["autoencoder"].batch_size,
            float(settings["autoencoder_kl"]),
        )
        figures["autoencoder"] = _run(ae_task, loops["autoencoder"], out / "autoencoder", seed)
        if base is None:
            ae_task.fix_normalisation()
    encoded = EncodedClips(model, train_clips)
    if "world_model" in stages:
        size = loops["world_model"].batch_size
        wm_task = WorldModelTask(model, train_clips, val_clips, size, objective, encoded)
        figures["world_model"] = _run(wm_task, loops["world_model"], out / "world_model", seed)
    if "goal_distance" in stages and model.goal_distance is not None:
        size = loops["goal_distance"].batch_size
        gd_task = GoalDistanceTask(model, train_clips, val_clips, size, pairs, encoded)
        figures["goal_distance"] = _run(
            gd_task, loops["goal_distance"], out / "goal_distance", seed
        )
    card = model_card(model, settings, train_clips, val_clips, figures, command)
    return model.save_pretrained(out / "checkpoint", card, half=True)


def _run(task: Task, loop: LoopConfig, folder: pathlib.Path, seed: int) -> dict[str, float]:
    return Trainer(task, loop, folder, seed).run()


def load_data(data: Mapping[str, Any], observation: ObservationSpec) -> tuple[Clips, Clips]:
    """Training and validation episodes; without ``val``, the last tenth of the training ones."""
    train_clips = load_clips(data["train"], observation)
    if data.get("val"):
        spec = train_clips.action_spec
        return train_clips, load_clips(data["val"], observation, action_spec=spec)
    return train_clips.split()


def model_config(
    settings: Mapping[str, Any], observation: ObservationSpec, action: ActionSpec
) -> WorldModelConfig:
    """The model's configuration from the settings, or ``init_from``'s with the data's actions."""
    if settings["init_from"]:
        base = load_config(settings["init_from"])
        if base.action.names != action.names or base.action.units != action.units:
            rule = f"the checkpoint's {base.action.names} in {base.action.units}"
            raise V2WError("data: ActionSpec", rule, (action.names, action.units))
        learned = base.goal_distance or _goal_distance(settings, action)
        return dataclasses.replace(base, action=action, goal_distance=learned)
    model = settings["model"]
    channels = int(model["autoencoder"]["latent_channels"])
    learned = _goal_distance(settings, action)
    unet = {
        "in_channels": channels,
        "out_channels": channels,
        "action_dim": action.dim,
        **model["unet"],
    }
    return build_dataclass(
        WorldModelConfig,
        {
            "action": action.to_dict(),
            "observation": observation.to_dict(),
            "autoencoder": model["autoencoder"],
            "unet": unet,
            "sampling": dataclasses.asdict(
                build_dataclass(SamplingConfig, settings["sampling"], "sampling")
            ),
            "num_history": settings["num_history"],
            "num_frames": settings["num_frames"],
            "goal_distance": None if learned is None else dataclasses.asdict(learned),
        },
        "model",
    )


def _goal_distance(settings: Mapping[str, Any], action: ActionSpec) -> GoalDistanceConfig | None:
    """Where poses follow from the actions, and the stage is wanted."""
    wanted = action.is_planar and "goal_distance" in settings["stages"]
    return GoalDistanceConfig() if wanted else None
