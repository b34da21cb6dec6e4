"""Configurations of the released models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2w_core.config import SamplingConfig, WorldModelConfig
from v2w_core.data.domains import (
    CSGO_ACTION,
    CSGO_OBSERVATION,
    RECON_ACTION,
    RECON_OBSERVATION,
    RT1_ACTION,
    RT1_OBSERVATION,
)
from v2w_core.diffusion.compat import RELEASED
from v2w_core.diffusion.schedule import DiffusionConfig
from v2w_core.errors import CheckpointError, V2WError
from v2w_core.models.autoencoder import AutoencoderConfig
from v2w_core.models.image_context.image_context import ImageContextConfig
from v2w_core.models.unet import UNetConfig
from v2w_core.spec import ActionSpec, ObservationSpec
from v2w_core.transfer.released_names import KINDS, Kind

#: Width of the action vector; None: the base model has no actions.
ACTION_DIMS: dict[Kind, int | None] = {
    "dynamicrafter512": None,
    "vid2world-rt1": 13,
    "vid2world-csgo": 51,
    "vid2world-recon": 3,
}

#: Options of the released code without a counterpart here, and their only supported value.
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
    """Our configuration of the U-Net for the options ``reference`` of the released code.

    Raises:
        CheckpointError: an option has a value that no released model has.
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
    """Configuration of a released model's U-Net."""
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


def released_action_spec(kind: Kind) -> ActionSpec:
    """The action space of a released model (RECON's for the base model, which has none)."""
    specs = {"vid2world-rt1": RT1_ACTION, "vid2world-csgo": CSGO_ACTION}
    return specs.get(kind, RECON_ACTION)


#: How images of each domain are resized to 320x512; the base model's keep their aspect.
_OBSERVATIONS: dict[Kind, ObservationSpec] = {
    "dynamicrafter512": ObservationSpec(320, 512, "pad"),
    "vid2world-rt1": RT1_OBSERVATION,
    "vid2world-csgo": CSGO_OBSERVATION,
    "vid2world-recon": RECON_OBSERVATION,
}


def released_config(kind: Kind) -> WorldModelConfig:
    """Configuration of a released model, which its .ckpt does not contain."""
    history, window = {"vid2world-rt1": (1, 16), "vid2world-recon": (4, 20)}.get(kind, (4, 16))
    return WorldModelConfig(
        action=released_action_spec(kind),
        observation=_OBSERVATIONS[kind],
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
