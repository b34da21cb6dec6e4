"""Key maps from OpenCLIP's parameters to those of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

VISION_PREFIX = "embedder.model."
TEXT_PREFIX = "cond_stage_model.model."

#: Released parameters that are not used: the projections after the tokens, and the text embeddings
#: in the wrapper of the vision tower.
UNUSED = re.compile(
    r"^(embedder|cond_stage_model)\.model\.(text_projection|logit_scale|attn_mask)$"
    r"|^embedder\.model\.(positional_embedding|token_embedding\.weight|ln_final\.\w+)$"
    r"|^embedder\.model\.visual\.proj$"
)

_BLOCK = (
    (r"(?:^|\.)transformer\.resblocks\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_VISION = (
    (r"^visual\.", ""),
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),
    (r"^ln_post\.", "post_layernorm."),
    *_BLOCK,
)
_TEXT = (
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^ln_final\.", "final_layer_norm."),
    *_BLOCK,
)


def vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the vision tower from the released one (prefixed or not)."""
    return _renamed(weights, VISION_PREFIX, _VISION)


def text_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the text tower from the released one (prefixed or not)."""
    return _renamed(weights, TEXT_PREFIX, _TEXT)


def _renamed(
    weights: Mapping[str, Tensor], prefix: str, rules: tuple[tuple[str, str], ...]
) -> dict[str, Tensor]:
    out = {}
    for name, value in weights.items():
        name = name.removeprefix(prefix)
        for pattern, theirs in rules:
            name = re.sub(pattern, theirs, name)
        if ".attn.in_proj_" in name and value.ndim:
            stem, _, kind = name.partition(".attn.in_proj_")
            for part, piece in zip("qkv", value.tensor_split(3), strict=True):
                out[f"{stem}.self_attn.{part}_proj.{kind}"] = piece
        else:
            out[name] = value
    return out
