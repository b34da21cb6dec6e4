"""Text tower of the released models, used once at import for the tokens of the empty text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from v2w_core.models.image_context.image_context import import_transformers


@dataclass(frozen=True)
class TextTowerConfig:
    """Sizes of CLIP's text transformer; the defaults are those of OpenCLIP ViT-H-14."""

    vocabulary: int = 49408
    length: int = 77
    width: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_width: int = 4096


VIT_H = TextTowerConfig()


def text_tower(config: TextTowerConfig) -> nn.Module:
    """An untrained text tower; on the meta device only its names and shapes."""
    transformers = import_transformers()
    tower: nn.Module = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            max_position_embeddings=config.length,
            hidden_act="gelu",
            bos_token_id=config.vocabulary - 2,
            eos_token_id=config.vocabulary - 1,
        )
    )
    return tower


@torch.inference_mode()
def empty_text_tokens(config: TextTowerConfig, weights: Mapping[str, Tensor]) -> Tensor:
    """Tokens [length, width] of the empty text: normalised output of the last block but one.

    Args:
        config: sizes of the tower.
        weights: its state dict, float32.
    """
    with torch.device("meta"):
        tower = text_tower(config)
    tower.load_state_dict(dict(weights), assign=True)
    ids = [config.vocabulary - 2, config.vocabulary - 1] + [0] * (config.length - 2)
    embeddings = tower.get_submodule("embeddings")
    embeddings.position_ids = torch.arange(config.length)[None]  # a buffer that no file holds
    hidden = tower.eval()(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    tokens: Tensor = tower.get_submodule("final_layer_norm")(hidden[-2])[0]
    return tokens
