"""Key map between the released checkpoints' U-Net parameters and ours."""

from __future__ import annotations

import re

UNET_PREFIX = "model.diffusion_model."

#: (pattern in the released name, ours), applied in order.
_RULES = (
    (re.compile(r"\.temopral_conv\."), ".temporal_conv."),  # their spelling
    (re.compile(r"\.conv[23]d\."), "."),  # wrappers around causal convolutions
    (re.compile(r"^(time_embed|fps_embedding)\."), r"\1.mlp."),
    (re.compile(r"^action_emb_"), "action_embed.action_emb_"),
)
_TEMPORAL_CONV = re.compile(r"(\.temopral_conv\.conv(?:1\.2|[2-9]\.3))\.")


def unet_name(name: str) -> str:
    """Our name of a released U-Net parameter, whose name may be prefixed or not."""
    name = name.removeprefix(UNET_PREFIX)
    for pattern, ours in _RULES:
        name = pattern.sub(ours, name)
    return name


def released_name(name: str, *, causal: bool) -> str:
    """The released name (without prefix) of one of our U-Net parameters.

    ``causal`` gives the names of Vid2World, whose causal convolutions have a wrapper;
    DynamiCrafter's have none.
    """
    name = name.replace(".temporal_conv.", ".temopral_conv.").replace("action_embed.", "", 1)
    name = re.sub(r"^(time_embed|fps_embedding)\.mlp\.", r"\1.", name)
    if causal:
        name = _TEMPORAL_CONV.sub(r"\1.conv3d.", name)
        name = re.sub(r"^out\.2\.", "out.2.conv2d.", name)
    return name
