"""The released models: their configurations in our terms, and the parts beside the U-Net."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from v2w_core.autoencoder import AutoencoderConfig
from v2w_core.config import SamplingConfig, WorldModelConfig
from v2w_core.diffusion.compat import RELEASED
from v2w_core.diffusion.schedule import DiffusionConfig
from v2w_core.errors import CheckpointError, V2WError
from v2w_core.models.image_context import ImageContextConfig
from v2w_core.models.unet import UNetConfig
from v2w_core.spec import ActionSpec, ObservationSpec
from v2w_core.transfer.kinds import KINDS, Kind

#: Width of an action vector; None: the base model knows no actions.
ACTION_DIMS: dict[Kind, int | None] = {
    "dynamicrafter512": None,
    "vid2world-rt1": 13,
    "vid2world-csgo": 51,
    "vid2world-recon": 3,
}

#: Options that the released code has and we do not, and the only value that is supported.
_FIXED: dict[str, object] = {
    "transformer_depth": 1,
    "use_linear": True,
    "temporal_conv": True,
    "temporal_attention": True,
    "temporal_selfatt_only": True,
    "use_relative_position": False,
    "image_cross_attention": True,
    "fs_condition": True,
}

_RELEASED_512: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "dropout": 0.1,
    "num_head_channels": 64,
    "context_dim": 1024,
    "addition_attention": True,
    "default_fs": 24,
    "use_causal_attention": False,
}


def unet_config(reference: Mapping[str, Any]) -> UNetConfig:
    """Our configuration of a U-Net that the released code configures with ``reference``.

    Raises:
        CheckpointError: an option that none of the released models has.
    """
    for name, value in _FIXED.items():
        if reference.get(name, value) != value:
            raise CheckpointError(f"unet.{name}", f"{value}, as in the released models",
                                  reference[name])  # fmt: skip
    causal = bool(reference.get("use_causal_attention", False))
    mult = tuple(int(factor) for factor in reference["channel_mult"])
    resolutions = set(reference["attention_resolutions"])
    action_dim = int(reference["action_dim"]) if reference.get("action_emb") else None
    return UNetConfig(
        in_channels=int(reference["in_channels"]),
        out_channels=int(reference["out_channels"]),
        model_channels=int(reference["model_channels"]),
        channel_mult=mult,
        num_res_blocks=int(reference["num_res_blocks"]),
        attention_levels=tuple(i for i in range(len(mult)) if 2**i in resolutions),
        head_dim=int(reference["num_head_channels"]),
        ff_mult=4,
        norm_groups=32,
        norm_scope="clip",
        causal=causal,
        init_attention=bool(reference["addition_attention"]),
        dropout=float(reference["dropout"]),
        action_dim=action_dim,
        multi_hot_actions=action_dim == 51,
        context_dim=int(reference["context_dim"]),
        image_context=True,
        frame_stride=int(reference["default_fs"]),
        height_causal_out=causal,
    )


def released_unet_config(kind: Kind) -> UNetConfig:
    """The U-Net of a released model."""
    if kind not in KINDS:
        raise V2WError("kind", f"one of {list(KINDS)}", kind)
    action_dim = ACTION_DIMS[kind]
    if action_dim is None:
        return unet_config(_RELEASED_512)
    causal = {
        "use_causal_attention": True,
        "default_fs": 3,
        "action_emb": True,
        "action_dim": action_dim,
    }
    return unet_config({**_RELEASED_512, **causal})


#: Buffers of the released files that are not weights.
SCHEDULE_BUFFERS = frozenset(
    {
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "scale_arr",
        "logvar",
    }
)

#: Action spaces. RT-1's and CS:GO's reach the model as they are.
_RT1 = (
    ("base_dx", "m", 1.0), ("base_dy", "m", 1.0), ("base_dyaw", "rad", math.pi),
    ("gripper_closedness", "1", 1.0),
    ("rotation_x", "rad", math.pi / 2), ("rotation_y", "rad", math.pi / 2),
    ("rotation_z", "rad", math.pi / 2),
    ("terminate_0", "1", 1.0), ("terminate_1", "1", 1.0), ("terminate_2", "1", 1.0),
    ("world_x", "m", 2.0), ("world_y", "m", 2.0), ("world_z", "m", 2.0),
)  # fmt: skip
WAYPOINT_SPACING_M = 0.25


def released_action_spec(kind: Kind) -> ActionSpec:
    """The action space of a released model (for the base model, which has none, RECON's)."""
    if kind == "vid2world-rt1":
        return ActionSpec(
            names=tuple(name for name, _, _ in _RT1),
            units=tuple(unit for _, unit, _ in _RT1),
            low=tuple(-bound for _, _, bound in _RT1),
            high=tuple(bound for _, _, bound in _RT1),
            rate_hz=3.0,
            scale=(1.0,) * len(_RT1),
        )
    if kind == "vid2world-csgo":
        keys = ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r", "fire", "aim")
        names = (
            *(f"key_{key}" for key in keys),
            *(f"mouse_x_{i}" for i in range(23)),
            *(f"mouse_y_{i}" for i in range(15)),
        )
        one = (1.0,) * len(names)
        return ActionSpec(names, ("1",) * len(names), (0.0,) * len(names), one, 16.0, scale=one)
    low, high = (-2.5, -4.0), (5.0, 4.0)  # waypoints; the model sees them from -1 to 1
    half = [(b - a) / 2 * WAYPOINT_SPACING_M for a, b in zip(low, high, strict=True)]
    middle = [(b + a) / 2 * WAYPOINT_SPACING_M for a, b in zip(low, high, strict=True)]
    return ActionSpec(
        names=("dx", "dy", "dyaw"),
        units=("m", "m", "rad"),
        low=(*(a * WAYPOINT_SPACING_M for a in low), -math.pi),
        high=(*(b * WAYPOINT_SPACING_M for b in high), math.pi),
        rate_hz=4.0,
        offset=(*middle, 0.0),
        scale=(*half, 1.0),
    )


def released_config(kind: Kind) -> WorldModelConfig:
    """Everything about a released model that its .ckpt does not say."""
    history, window = {"vid2world-rt1": (1, 16), "vid2world-recon": (4, 20)}.get(kind, (4, 16))
    return WorldModelConfig(
        action=released_action_spec(kind),
        observation=ObservationSpec(320, 512, "pad"),
        autoencoder=AutoencoderConfig(
            latent_channels=4,
            block_channels=(128, 256, 512, 512),
            layers_per_block=2,
            patch_size=1,
            norm_groups=32,
        ),
        unet=released_unet_config(kind),
        diffusion=DiffusionConfig(base_scale=0.7),
        sampling=SamplingConfig(
            num_steps=50, guidance_scale=2.5, guidance_rescale=0.7, history_level=39, eta=1.0
        ),
        num_history=history,
        num_frames=window,
        context=ImageContextConfig(),
        compat=RELEASED,
    )
