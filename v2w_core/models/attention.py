"""Spatial attention within each frame, with optional cross-attention to text and image tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from v2w_core.models.layers import FeedForward, Norm, zero_init
from v2w_core.models.prepacked import Linear


@dataclass(frozen=True)
class Context:
    """Tokens for cross-attention.

    Attributes:
        text: [B, num_text_tokens, D], the same for every frame.
        image: [B, T, num_image_tokens, D], separate tokens for each frame, or None.
    """

    text: Tensor
    image: Tensor | None = None


class SelfAttention(nn.Module):
    """Self-attention over the pixels of each frame: tokens [N, P, C]."""

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.to_q = Linear(channels, inner, bias=False)
        self.to_k = Linear(channels, inner, bias=False)
        self.to_v = Linear(channels, inner, bias=False)
        self.to_out = nn.Sequential(Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        out = _attention(self.to_q(x), self.to_k(x), self.to_v(x), self.num_heads)
        return self.to_out(out)


class CrossAttention(nn.Module):
    """Cross-attention from pixels to the context: A(text) + A(image) with shared queries."""

    def __init__(
        self, channels: int, context_dim: int, num_heads: int, head_dim: int, *, image: bool
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.to_q = Linear(channels, inner, bias=False)
        self.to_k = Linear(context_dim, inner, bias=False)
        self.to_v = Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(Linear(inner, channels))
        if image:
            self.to_k_ip = Linear(context_dim, inner, bias=False)
            self.to_v_ip = Linear(context_dim, inner, bias=False)
        self.image = image

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x [B * T, P, C] -> the same shape."""
        query = self.to_q(x)
        num_frames = x.shape[0] // context.text.shape[0]
        key = self.to_k(context.text).repeat_interleave(num_frames, dim=0)
        value = self.to_v(context.text).repeat_interleave(num_frames, dim=0)
        out = _attention(query, key, value, self.num_heads)
        if self.image and context.image is not None:
            image = context.image.flatten(0, 1)
            key, value = self.to_k_ip(image), self.to_v_ip(image)
            out = out + _attention(query, key, value, self.num_heads)
        return self.to_out(out)


def _attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    q, k, v = (t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SpatialBlock(nn.Module):
    """Pre-norm block: self-attention, cross-attention (if there is context), feed-forward."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        *,
        context_dim: int | None,
        image_context: bool,
        ff_mult: int,
    ) -> None:
        super().__init__()
        self.attn1 = SelfAttention(channels, num_heads, head_dim)
        self.attn2 = (
            CrossAttention(channels, context_dim, num_heads, head_dim, image=image_context)
            if context_dim is not None
            else None
        )
        self.ff = FeedForward(channels, ff_mult)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels) if context_dim is not None else None
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Context | None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        if self.attn2 is not None and self.norm2 is not None and context is not None:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """GroupNorm - project in - spatial block - project out, plus the input."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        *,
        norm_groups: int,
        context_dim: int | None = None,
        image_context: bool = False,
        ff_mult: int = 4,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.norm = Norm(norm_groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, inner)
        block = SpatialBlock(
            inner,
            num_heads,
            head_dim,
            context_dim=context_dim,
            image_context=image_context,
            ff_mult=ff_mult,
        )
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = zero_init(Linear(inner, channels))

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        b, t, height, width, _ = x.shape
        h = self.proj_in(self.norm(x)).reshape(b * t, height * width, -1)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h).reshape(b, t, height, width, -1)
