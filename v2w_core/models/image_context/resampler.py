"""Resampler: image features to a fixed number of context tokens for each frame of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ResamplerConfig:
    """Sizes of the Resampler; the defaults are those of the released models.

    Attributes:
        in_dim: width of the image features (CLIP ViT-H: 1280).
        out_dim: width of the tokens.
        num_queries: number of tokens per frame.
        num_frames: number of frames that have separate tokens.
    """

    in_dim: int = 1280
    dim: int = 1024
    out_dim: int = 1024
    depth: int = 4
    num_heads: int = 12
    head_dim: int = 64
    num_queries: int = 16
    num_frames: int = 16
    ff_mult: int = 4


class QueryAttention(nn.Module):
    """Learned queries attend to the image features and to themselves."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(config.dim)
        self.norm2 = nn.LayerNorm(config.dim)
        self.to_q = nn.Linear(config.dim, inner, bias=False)
        self.to_kv = nn.Linear(config.dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.dim, bias=False)

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        features, queries = self.norm1(features), self.norm2(queries)
        key, value = self.to_kv(torch.cat([features, queries], dim=1)).chunk(2, dim=-1)
        q, k, v = (self._split(x) for x in (self.to_q(queries), key, value))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(attended)
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Resampler(nn.Module):
    """Image features [B, N, in_dim] -> tokens [B, num_frames * num_queries, out_dim]."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.config = config
        dim, inner = config.dim, config.dim * config.ff_mult
        num_tokens = config.num_frames * config.num_queries
        self.latents = nn.Parameter(torch.empty(1, num_tokens, dim))
        nn.init.normal_(self.latents)
        with torch.no_grad():
            self.latents.div_(dim**0.5)
        self.proj_in = nn.Linear(config.in_dim, dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    QueryAttention(config),
                    nn.Sequential(
                        nn.LayerNorm(dim),
                        nn.Linear(dim, inner, bias=False),
                        nn.GELU(),
                        nn.Linear(inner, dim, bias=False),
                    ),
                ]
            )
            for _ in range(config.depth)
        )
        self.proj_out = nn.Linear(dim, config.out_dim)
        self.norm_out = nn.LayerNorm(config.out_dim)

    def forward(self, features: Tensor) -> Tensor:
        queries: Tensor = self.latents.expand(len(features), -1, -1)
        features = self.proj_in(features)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            queries = queries + attention(features, queries)
            queries = queries + feed_forward(queries)
        tokens: Tensor = self.norm_out(self.proj_out(queries))
        return tokens
