"""Image context of the released models: CLIP features of a clip's first frame as tokens.

The text is always empty, so that its tokens are a constant of the checkpoint and the text tower is
not imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from v2w_core.errors import V2WError
from v2w_core.models.attention import Context
from v2w_core.models.image_context.clip_preprocess import SIZE, clip_images
from v2w_core.models.image_context.resampler import Resampler, ResamplerConfig


@dataclass(frozen=True)
class VisionTowerConfig:
    """Sizes of CLIP's vision transformer; the defaults are those of OpenCLIP ViT-H-14."""

    width: int = 1280
    depth: int = 32
    num_heads: int = 16
    mlp_width: int = 5120
    patch_size: int = 14

    @property
    def num_tokens(self) -> int:
        """Number of patches, plus one for the class token."""
        return (SIZE // self.patch_size) ** 2 + 1


@dataclass(frozen=True)
class ImageContextConfig:
    """Sizes of the image context.

    Attributes:
        vision: CLIP's vision tower.
        resampler: network that turns image features into tokens.
        num_text: number of constant text tokens.
    """

    vision: VisionTowerConfig = field(default_factory=VisionTowerConfig)
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    num_text: int = 77

    def __post_init__(self) -> None:
        if self.resampler.in_dim != self.vision.width:
            rule = f"the vision tower's width {self.vision.width}"
            raise V2WError("context.resampler.in_dim", rule, self.resampler.in_dim)


class ImageContext(nn.Module):
    """Context tokens of images: the constant text tokens, then the Resampler's image tokens."""

    text_tokens: Tensor

    def __init__(self, config: ImageContextConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = _vision_tower(config.vision)
        self.resampler = Resampler(config.resampler)
        shape = config.num_text, config.resampler.out_dim
        self.register_buffer("text_tokens", torch.zeros(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] -> tokens [B, num_text + frames * queries, D]."""
        pixels = clip_images(images.float()).to(self.text_tokens.dtype)
        features = self.vision(pixel_values=pixels).last_hidden_state
        text = self.text_tokens.expand(len(images), -1, -1)
        return torch.cat([text, self.resampler(features)], dim=1)


def _vision_tower(config: VisionTowerConfig) -> nn.Module:
    transformers = import_transformers()
    tower: nn.Module = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            image_size=SIZE,
            patch_size=config.patch_size,
            hidden_act="gelu",
        )
    )
    return tower


def import_transformers() -> Any:
    """The transformers package.

    Raises:
        V2WError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        rule = "the extra 'pretrained' installed: pip install 'v2w[pretrained]'"
        raise V2WError("transformers", rule, str(error)) from error
    return transformers


def frame_tokens(
    tokens: Tensor,
    num_frames: int,
    *,
    by_length: bool,
    num_text: int = 77,
    per_frame: int = 16,
) -> Context:
    """Splits text tokens followed by image tokens, [B, L, D], into the context of a clip.

    Frame f gets the ``per_frame`` image tokens from ``per_frame * f`` on; frames beyond the last
    group get the last group.

    Args:
        tokens: [B, num_text + groups * per_frame, D].
        num_frames: number of frames of the clip.
        by_length: whether every frame gets all image tokens unless there is exactly one group per
            frame (``CompatConfig.tokens_by_length``).
    """
    text, image = tokens[:, :num_text], tokens[:, num_text:]
    if image.shape[1] % per_frame or image.shape[1] == 0:
        rule = f"{num_text} text tokens and {per_frame} image tokens for each frame"
        raise V2WError("tokens", rule, tokens.shape[1])
    groups = image.unflatten(1, (-1, per_frame))
    if not by_length or groups.shape[1] == num_frames:
        index = torch.arange(num_frames, device=tokens.device).clamp(max=groups.shape[1] - 1)
        return Context(text, groups[:, index])
    return Context(text, image[:, None].expand(-1, num_frames, -1, -1))
