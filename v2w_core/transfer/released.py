"""The released models: their configurations in our terms, and the parts beside the U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from v2w_core.errors import CheckpointError, V2WError
from v2w_core.models.unet import UNetConfig

Kind = Literal["dynamicrafter512", "vid2world-rt1", "vid2world-csgo", "vid2world-recon"]
KINDS: tuple[Kind, ...] = get_args(Kind)

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
