"""The layers that mix frames: temporal convolution and temporal attention.

Both can be causal (a frame depends on itself and earlier frames) or not (the pre-trained base
model). Both work on ``x [B, T, H, W, C]``. With a :class:`CachePass` the state of earlier frames
comes from a cache instead of from ``x``; the result is the same.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_core.models.layers import FeedForward, Norm, zero_init
from v2w_core.models.prepacked import Linear
from v2w_core.models.temporal_cache import Attended, CachePass, weighted_sum

NormScope = Literal["frame", "clip"]


class TemporalConv(nn.Conv3d):
    """Convolution over time, kernel (k, 1, 1), on [B, T, H, W, C].

    Causal: y_t = sum_i W_i x_{t-k+1+i}, zeros before frame 0 (Vid2World section 4.1).
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, *, causal: bool) -> None:
        super().__init__(channels, out_channels, (kernel, 1, 1))
        self.kernel = kernel
        self.causal = causal
        # memory layout [out, kernel, in], the order in which forward reads the weight
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, x: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        weight = self.weight[..., 0, 0].transpose(1, 2)  # [out, kernel, in]
        if self.causal:
            return (cache_pass or CachePass()).conv(x, weight, self.bias)
        half = self.kernel // 2
        extended = F.pad(x, (0, 0, 0, 0, 0, 0, half, half))
        around = [extended[:, i : i + x.shape[1]] for i in range(self.kernel)]
        return weighted_sum(around, weight, self.bias)


class TemporalConvBlock(nn.Module):
    """x + f4(f3(f2(f1(x)))), f = GroupNorm - SiLU - (dropout) - TemporalConv."""

    def __init__(
        self,
        channels: int,
        *,
        kernel: int,
        causal: bool,
        norm_scope: NormScope,
        norm_groups: int,
        dropout: float,
        num_convs: int = 4,
    ) -> None:
        super().__init__()
        self.num_convs = num_convs
        for index in range(1, num_convs + 1):
            layers: list[nn.Module] = [Norm(norm_groups, channels, scope=norm_scope), nn.SiLU()]
            if index > 1:
                layers.append(nn.Dropout(dropout))
            conv = TemporalConv(channels, channels, kernel, causal=causal)
            layers.append(zero_init(conv) if index == num_convs else conv)
            setattr(self, f"conv{index}", nn.Sequential(*layers))

    def forward(self, x: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        h = x
        for index in range(1, self.num_convs + 1):
            *before, conv = getattr(self, f"conv{index}")
            for layer in before:
                h = layer(h)
            h = conv(h, cache_pass)
        return x + h


class TemporalAttention(nn.Module):
    """Self-attention over the frames of each pixel: tokens [B, T, P, C]."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, *, causal: bool) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.causal = causal
        self.to_q = Linear(channels, inner, bias=False)
        self.to_k = Linear(channels, inner, bias=False)
        self.to_v = Linear(channels, inner, bias=False)
        self.to_out = nn.Sequential(Linear(inner, channels))

    def forward(self, x: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        query, key, value = (self._split(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        if self.causal:
            attended = (cache_pass or CachePass()).attention(key, value)
        else:
            attended = Attended(None, (key, value), None)
        out = attend(query, attended)
        batch, num_frames, num_pixels = x.shape[:3]
        out = out.reshape(batch, num_pixels, self.num_heads, num_frames, -1)
        return self.to_out(out.permute(0, 3, 1, 2, 4).flatten(3))

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, P, heads * d] -> [B, P * heads, T, d]"""
        split = x.unflatten(-1, (self.num_heads, -1))
        return split.permute(0, 2, 3, 1, 4).flatten(1, 2)


def attend(query: Tensor, attended: Attended) -> Tensor:
    """Attention of the newest frames to the shared prefix and to their own suffix.

    The keys and values of the prefix are not expanded to the batch size: the scores of the two
    parts are concatenated before the softmax.

    Args:
        query: [B, N, Tq, d], queries of the newest Tq frames.
        attended: keys and values.

    Returns:
        [B, N, Tq, d].
    """
    prefix, (key, value), mask = attended
    if prefix is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    batch, num_heads, num_queries, dim = query.shape
    scaled = query * dim**-0.5
    flat = scaled.transpose(0, 1).reshape(num_heads, batch * num_queries, dim)
    prefix_key, prefix_value = prefix[0][0], prefix[1][0]
    prefix_scores = flat @ prefix_key.transpose(1, 2)  # [N, B * Tq, Ts]
    prefix_scores = prefix_scores.unflatten(1, (batch, num_queries)).transpose(0, 1)
    suffix_scores = scaled @ key.transpose(2, 3)
    if mask is not None:
        suffix_scores = suffix_scores.masked_fill(~mask, float("-inf"))
    weights = torch.cat([prefix_scores, suffix_scores], dim=-1).softmax(dim=-1)
    num_prefix = prefix_key.shape[1]
    flat = weights[..., :num_prefix].transpose(0, 1)
    flat = flat.reshape(num_heads, batch * num_queries, num_prefix)
    from_prefix = (flat @ prefix_value).unflatten(1, (batch, num_queries)).transpose(0, 1)
    return from_prefix + weights[..., num_prefix:] @ value


class TemporalBlock(nn.Module):
    """Pre-norm transformer block over time: one or two self-attentions, then feed-forward."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool,
        ff_mult: int,
        two_attentions: bool,
    ) -> None:
        super().__init__()
        self.attn1 = TemporalAttention(channels, num_heads, head_dim, causal=causal)
        self.attn2 = (
            TemporalAttention(channels, num_heads, head_dim, causal=causal)
            if two_attentions
            else None
        )
        self.ff = FeedForward(channels, ff_mult)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels) if two_attentions else None
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x), cache_pass)
        if self.attn2 is not None and self.norm2 is not None:
            x = x + self.attn2(self.norm2(x), cache_pass)
        return x + self.ff(self.norm3(x))


class TemporalTransformer(nn.Module):
    """GroupNorm - project in - temporal block - project out, plus the input."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool,
        norm_scope: NormScope,
        norm_groups: int,
        ff_mult: int = 4,
        two_attentions: bool = True,
        conv_projection: bool = False,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.norm = Norm(norm_groups, channels, scope=norm_scope, eps=1e-6)
        if conv_projection:  # the base model's first transformer: same function, other shapes
            self.proj_in: nn.Module = nn.Conv1d(channels, inner, 1)
            self.proj_out: nn.Module = zero_init(nn.Conv1d(inner, channels, 1))
        else:
            self.proj_in = Linear(channels, inner)
            self.proj_out = zero_init(Linear(inner, channels))
        block = TemporalBlock(
            inner,
            num_heads,
            head_dim,
            causal=causal,
            ff_mult=ff_mult,
            two_attentions=two_attentions,
        )
        self.transformer_blocks = nn.ModuleList([block])

    def forward(self, x: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        height = x.shape[2]
        h = _project(self.proj_in, self.norm(x).flatten(2, 3))
        for block in self.transformer_blocks:
            h = block(h, cache_pass)
        return x + _project(self.proj_out, h).unflatten(2, (height, -1))


def _project(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, Linear):
        return layer(x)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return F.linear(x, weight.flatten(1), layer.bias)  # type: ignore[arg-type]
