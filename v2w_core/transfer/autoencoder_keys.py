"""Key map from the released autoencoder's parameters to diffusers' AutoencoderKL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

AUTOENCODER_PREFIX = "first_stage_model."
#: Factor by which the released models scale latents before diffusion.
LATENT_SCALE = 0.18215

_RULES = (
    (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"^decoder\.up\.(\d+)\.block\.", r"decoder.up_blocks.\1.resnets."),
    (r"^decoder\.up\.(\d+)\.upsample\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)
_COMPILED = tuple((re.compile(pattern), theirs) for pattern, theirs in _RULES)
_LEVEL = re.compile(r"decoder\.up\.(\d+)\.")
_UP = re.compile(r"^decoder\.up_blocks\.(\d+)\.")


def autoencoder_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict for AutoencoderKL from the released one (prefixed or not)."""
    stripped = {name.removeprefix(AUTOENCODER_PREFIX): value for name, value in weights.items()}
    levels = (_LEVEL.match(name) for name in stripped)
    last = max((int(match.group(1)) for match in levels if match), default=0)
    out = {}
    for name, value in stripped.items():
        for pattern, theirs in _COMPILED:
            name = pattern.sub(theirs, name)
        # the released decoder numbers its levels from the image, diffusers' from the latents
        name = _UP.sub(lambda m: f"decoder.up_blocks.{last - int(m.group(1))}.", name)
        if ".attentions.0.to_" in name and value.ndim == 4:
            value = value[..., 0, 0]  # a 1x1 convolution as a linear layer
        out[name] = value
    return out
