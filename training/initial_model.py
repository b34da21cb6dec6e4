"""Initial model of a training: untrained, an earlier checkpoint, or a base made causal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args

from v2w_core.checkpoint import load_config
from v2w_core.config import SamplingConfig, WorldModelConfig, build_dataclass
from v2w_core.errors import V2WError
from v2w_core.models.goal_distance import GoalDistanceConfig
from v2w_core.models.motion_head import MOTION_CHANNELS
from v2w_core.models.warped_previous import ConditionConfig
from v2w_core.spec import ActionSpec, ObservationSpec
from v2w_core.transfer.causal_transfer import causal_model, check_base, check_transfer
from v2w_core.transfer.weight_transfer import TransferMode
from v2w_core.world_model import WorldModel


def observation_of(settings: Mapping[str, Any]) -> ObservationSpec:
    """Frame format of the settings, or of the model that is fine-tuned.

    Raises:
        V2WError: ``transfer`` and ``init_from`` are inconsistent.
    """
    source, transfer = settings["init_from"], settings["transfer"]
    if transfer and transfer not in get_args(TransferMode):
        raise V2WError("transfer", f"one of {list(get_args(TransferMode))}", transfer)
    if source and not transfer:
        base = load_config(source)
        if not base.unet.causal:
            rule = "extrapolative, masked or shift: init_from is not causal and has no actions"
            raise V2WError("transfer", rule, transfer)
        return base.observation
    if transfer and not source:
        rule = "the checkpoint folder of a base that is not causal (v2w import), to be transferred"
        raise V2WError("init_from", rule, source)
    if transfer:
        check_base(load_config(source))
    return build_dataclass(ObservationSpec, settings["observation"], "observation")


def initial_model(settings: Mapping[str, Any], action: ActionSpec, seed: int) -> WorldModel:
    """The model before the first step.

    Args:
        settings: settings of the run.
        action: action space of the data.
        seed: seed of the new weights.

    Raises:
        V2WError: see :func:`model_config`.
    """
    config = model_config(settings, action)
    if not settings["init_from"]:
        return WorldModel.build(config, seed)
    base = WorldModel.from_pretrained(settings["init_from"])
    if settings["transfer"]:
        window = int(settings["transfer_window"])
        return causal_model(base, config, settings["transfer"], seed, window=window)
    model = WorldModel.build(config, seed)
    added = model.load_state_dict(base.state_dict(), strict=False).missing_keys
    assert all(name.startswith("goal_distance.") for name in added), added
    return model


def model_config(settings: Mapping[str, Any], action: ActionSpec) -> WorldModelConfig:
    """Configuration from the settings, or that of ``init_from`` with the data's bounds.

    Raises:
        V2WError: the settings are inconsistent with each other, the data or ``init_from``.
    """
    observation = observation_of(settings)
    learned = _goal_distance(settings, action)
    if settings["init_from"] and not settings["transfer"]:
        base = load_config(settings["init_from"])
        learned = base.goal_distance or learned
        action = _tuned_action(base.action, action, settings["action_scale"])
        return dataclasses.replace(base, action=action, goal_distance=learned)
    model = settings["model"]
    unet = {**_channels(model), "action_dim": action.dim, **model["unet"]}
    sampling = build_dataclass(SamplingConfig, settings["sampling"], "sampling")
    config = build_dataclass(
        WorldModelConfig,
        {
            **model,
            "action": action.to_dict(),
            "observation": observation.to_dict(),
            "unet": unet,
            "sampling": dataclasses.asdict(sampling),
            "num_history": settings["num_history"],
            "num_frames": settings["num_frames"],
            "goal_distance": None if learned is None else dataclasses.asdict(learned),
        },
        "model",
    )
    if settings["transfer"]:
        check_transfer(load_config(settings["init_from"]), config)
    return config


def _channels(model: Mapping[str, Any]) -> dict[str, int]:
    """The U-Net's input and output channels: latents, condition, motion head."""
    latents, beside = int(model["autoencoder"]["latent_channels"]), 0
    if model.get("condition") is not None:
        condition = build_dataclass(ConditionConfig, model["condition"], "model.condition")
        beside = condition.num_channels(latents)
    return {
        "in_channels": latents + beside,
        "out_channels": latents + (MOTION_CHANNELS if model.get("motion_head") else 0),
        "condition_channels": beside,
    }


def _tuned_action(base: ActionSpec, data: ActionSpec, scale: str) -> ActionSpec:
    """Action space of the data, with the normalisation that ``scale`` (action_scale) selects."""
    if scale not in ("checkpoint", "data"):
        raise V2WError("action_scale", "checkpoint or data", scale)
    dataclasses.replace(base, rate_hz=data.rate_hz).require_same(data, field="data: ActionSpec")
    if scale == "data":
        return data
    if not math.isclose(base.rate_hz, data.rate_hz, rel_tol=1e-3):
        rule = f"the checkpoint's {base.rate_hz:g}; action_scale=data takes the data's"
        raise V2WError("data: ActionSpec.rate_hz", rule, data.rate_hz)
    return dataclasses.replace(data, offset=base.offset, scale=base.scale)


def _goal_distance(settings: Mapping[str, Any], action: ActionSpec) -> GoalDistanceConfig | None:
    """Configuration of the goal distance if its stage runs and actions are planar, or None."""
    wanted = action.is_planar and "goal_distance" in settings["stages"]
    return GoalDistanceConfig() if wanted else None
