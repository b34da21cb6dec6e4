"""Norms and attention of a step's graph; see :mod:`step_graph`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from v2w_core.backends.onnx_step.graph_cache import NOT_SEEN
from v2w_core.backends.onnx_step.graph_writer import FLOAT, GraphWriter, Shape, WeightFile
from v2w_core.models.layers import Norm

MAX_DENSE_PIXELS = 9
#: A network's layer, whose attributes type checkers take for Tensor | Module.
Layer = Any
HEADS_FIRST = (0, 2, 1, 3)  # [B, pixels, heads, dim] -> [B, heads, pixels, dim], and back
SPAN = 256  # floats that a broadcast should have in a row


@dataclass(frozen=True)
class Map:
    """A feature map: ``name`` is a matrix [T * B * height * width, channels]."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


class LayerGraph:
    """Writes layers one after the other into one graph.

    Args:
        num_frames: newest frames, the unconditional branch included.
        keep, guided, precision, num_slots: of :class:`StepGraph`.
    """

    def __init__(
        self,
        weights: WeightFile,
        num_frames: int,
        *,
        keep: bool,
        guided: bool,
        precision: str,
        num_slots: int | None,
    ) -> None:
        self.g = GraphWriter(weights, precision)
        self.num_frames = num_frames
        self.keep = keep
        self.guided = guided
        self.num_slots = num_slots
        self._num_attentions = 0
        self._common: dict[str, str] = {}

    def _norm_silu(self, x: Map, norm: Norm, added: str | None = None) -> Map:
        """SiLU(GroupNorm(x + added)), added [T * B, C]."""
        g = self.g
        scaled = self._normalised(x, norm, added, norm.weight)
        bias = norm.bias.repeat(x.pixels)
        shifted = g.op("Add", g.reshape(scaled, -1, x.pixels * x.channels), g.weight(bias))
        return replace(x, name=g.silu(g.reshape(shifted, -1, x.channels)))

    def _normalised(self, x: Map, norm: Norm, added: str | None, scale: Tensor | None) -> str:
        """(x + added - mean) / deviation [* scale] by groups, [T * B, pixels / n, n * C]."""
        g, channels, groups = self.g, x.channels, norm.num_groups
        tile = _tile(x)
        shape = (-1, x.pixels // tile, tile * channels)
        of_group = torch.eye(groups).repeat_interleave(channels // groups, dim=0)  # [C, groups]
        average = (of_group * (groups / channels)).t()
        spread = of_group.repeat(tile, 1)
        x = replace(x, name=g.cast(x.name, FLOAT))
        with g.precise():
            if added is None:
                centre = g.linear(self._group_means(x, average), spread)
            else:
                added = g.cast(added, FLOAT)
                mean = self._group_means(x, average, g.linear(added, average))
                moved = added if tile == 1 else g.op("Concat", *[added] * tile, axis=1)
                centre = g.op("Sub", g.linear(mean, spread), moved)
            centre = g.reshape(centre, -1, 1, tile * channels)
            away = g.op("Sub", g.reshape(x.name, *shape), centre)
            variance = self._group_means(replace(x, name=g.op("Mul", away, away)), average)
            deviation = g.op("Sqrt", g.op("Add", variance, g.weight(torch.tensor(norm.eps))))
            if scale is not None:
                spread = spread * scale.cpu().repeat(tile)[:, None]
            by = g.linear(g.op("Reciprocal", deviation), spread)
        scaled = g.op("Mul", away, g.reshape(by, -1, 1, tile * channels))
        return g.cast(scaled, g.dtype)

    def _group_means(self, x: Map, average: Tensor, plus: str | None = None) -> str:
        """Means over the pixels and channels of each group, [T * B, groups]."""
        g = self.g
        if x.pixels <= MAX_DENSE_PIXELS:
            whole = average.repeat(1, x.pixels) / x.pixels
            return g.linear(g.reshape(x.name, -1, x.pixels * x.channels), whole, plus)
        pixels = g.reshape(x.name, -1, x.pixels, x.channels)
        return g.linear(g.op("ReduceMean", pixels, g.ints(1), keepdims=0), average, plus)

    def _spatial(self, x: Map, layer: Layer) -> Map:
        g, h = self.g, self._projected(x, layer.norm, layer.proj_in)
        for block in layer.transformer_blocks:
            attention = block.attn1
            normed = self._layer_norm(h, block.norm1)
            weights = [to.weight for to in (attention.to_q, attention.to_k, attention.to_v)]
            if self.num_slots is not None:
                weights[0] = weights[0] * (len(weights[0]) // attention.num_heads) ** -0.5
            query, key, value = [
                g.reshape(g.linear(normed, weight), -1, x.pixels, len(weight)) for weight in weights
            ]
            out = self._attention(query, key, value, x.pixels, attention.num_heads)
            linear = attention.to_out[0]
            out = g.linear(g.reshape(out, -1, linear.in_features), linear.weight, linear.bias)
            h = g.op("Add", h, out)
            h = self._feed_forward(h, block.norm3, block.ff)
        out = g.linear(h, layer.proj_out.weight, layer.proj_out.bias)
        return replace(x, name=g.op("Add", x.name, out))

    def _attention(self, query: str, key: str, value: str, pixels: int, heads: int) -> str:
        """Tokens [T * B, pixels, heads * dim], the same shape again."""
        g = self.g
        if self.num_slots is None:
            return g.op("Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads)
        split = [
            g.transpose(g.op("Reshape", tokens, g.ints(0, pixels, heads, -1)), *order)
            for tokens, order in ((query, HEADS_FIRST), (key, (0, 2, 3, 1)), (value, HEADS_FIRST))
        ]
        scores = g.op("Softmax", g.op("MatMul", split[0], split[1]), axis=-1)
        return g.transpose(g.op("MatMul", scores, split[2]), *HEADS_FIRST)

    def _temporal(self, x: Map, layer: Layer) -> Map:
        g, h = self.g, self._projected(x, layer.norm, layer.proj_in)
        for block in layer.transformer_blocks:
            for attention, norm in ((block.attn1, block.norm1), (block.attn2, block.norm2)):
                if attention is not None:
                    out = self._temporal_attention(x, self._layer_norm(h, norm), attention)
                    h = g.op("Add", h, out)
            h = self._feed_forward(h, block.norm3, block.ff)
        out = g.linear(h, layer.proj_out.weight.flatten(1), layer.proj_out.bias)
        return replace(x, name=g.op("Add", x.name, out))

    def _projected(self, x: Map, norm: Norm, layer: Layer) -> str:
        """layer(GroupNorm(x)); the norm's scale and bias are part of the projection."""
        normal = self.g.reshape(self._normalised(x, norm, None, None), -1, x.channels)
        weight = layer.weight.flatten(1)
        return self.g.linear(normal, weight * norm.weight, layer.bias + weight @ norm.bias)

    def _layer_norm(self, h: str, norm: nn.LayerNorm) -> str:
        weights = self.g.weight(norm.weight), self.g.weight(norm.bias)
        return self.g.op("LayerNormalization", h, *weights, axis=-1, epsilon=norm.eps)

    def _feed_forward(self, h: str, norm: nn.LayerNorm, layer: Layer) -> str:
        g, normed = self.g, self._layer_norm(h, norm)
        gated, _, linear = layer.net
        value_weight, gate_weight = gated.proj.weight.chunk(2)
        value_bias, gate_bias = gated.proj.bias.chunk(2)
        value = g.linear(normed, value_weight, value_bias)
        gate = g.op("Gelu", g.linear(normed, gate_weight, gate_bias))
        out = g.linear(g.op("Mul", value, gate), linear.weight, linear.bias)
        return g.op("Add", h, out)

    def _temporal_attention(self, x: Map, h: str, layer: Layer) -> str:
        """The newest frames see the history, the candidates' earlier frames and themselves.

        For the time of this layer, the history is repeated for each candidate: one product of
        everything is faster than one of the history and one of the rest.
        """
        g, index, time = self.g, self._num_attentions, self.num_frames
        self._num_attentions += 1
        inner = layer.to_q.out_features
        dim = inner // layer.num_heads
        tokens = x.pixels * layer.num_heads
        to_batch = (1, 2, 0, 3)  # [time, B, tokens, dim] -> [B, tokens, time, dim]

        query = g.reshape(g.linear(h, layer.to_q.weight * dim**-0.5), time, -1, tokens, dim)
        seen = []
        for name, to in (("key", layer.to_k), ("value", layer.to_v)):
            new = g.reshape(g.linear(h, to.weight), time, -1, tokens, dim)
            num_suffix, num_prefix = self.num_slots or "suffix", self.num_slots or "prefix"
            suffix = g.input(f"{name}_{index}", [num_suffix, "batch", tokens, dim], g.dtype)
            history: Shape = [num_prefix, 1, tokens, dim]
            prefix = g.input(f"prefix_{name}_{index}", history, g.dtype)
            if self.keep:
                first = g.op("Gather", new, g.index(0), axis=0)
                g.output(f"new_{name}_{index}", first, ["batch", tokens, dim], g.dtype)
            prefix = g.op("Expand", prefix, self._once("batch", self._for_each))
            seen.append(g.op("Concat", prefix, suffix, new, axis=0))
        key, value = seen
        scores = g.op("MatMul", g.transpose(query, *to_batch), g.transpose(key, 1, 2, 3, 0))
        if self.num_slots is not None:
            scores = g.op("Add", scores, self._once("mask", self._slot_mask))
        elif time > 1:
            scores = g.op("Add", scores, self._once("mask", lambda: self._causal_mask(key)))
        out = g.op("MatMul", g.op("Softmax", scores, axis=-1), g.transpose(value, *to_batch))
        rows = g.reshape(g.transpose(out, 2, 0, 1, 3), -1, inner)
        return g.linear(rows, layer.to_out[0].weight, layer.to_out[0].bias)

    def _once(self, name: str, make: Callable[[], str]) -> str:
        """A value that all layers share."""
        if name not in self._common:
            self._common[name] = make()
        return self._common[name]

    def _for_each(self) -> str:
        """The shape that repeats a history [n, 1, tokens, dim] for each candidate."""
        g = self.g
        batch = g.op("Shape", "latents", start=0, end=1)
        return g.op("Concat", g.ints(1), batch, g.ints(1, 1), axis=0)

    def _causal_mask(self, seen: str) -> str:
        """[T, frames seen], minus infinity where a new frame would see a later one, or the other
        branch of guidance."""
        g, time = self.g, self.num_frames
        before = g.op("Sub", g.op("Shape", seen, start=0, end=1), g.ints(time))
        pads = g.op("Concat", g.ints(0), before, g.ints(0, 0), axis=0)
        return g.op("Pad", g.weight(self._among_newest(float("-inf"))), pads)

    def _slot_mask(self) -> str:
        """[T, slots + T]: the slots as the caller says, the newest frames as in any graph."""
        g = self.g
        assert self.num_slots is not None
        slots = g.input("seen", [1, 2 * self.num_slots], g.dtype)
        rows = g.op("Concat", *[slots] * self.num_frames, axis=0)
        return g.op("Concat", rows, g.weight(self._among_newest(NOT_SEEN)), axis=1)

    def _among_newest(self, hidden: float) -> Tensor:
        """[T, T], what is added to the score of a new frame (row) for a new frame (column)."""
        newest = torch.full((self.num_frames, self.num_frames), hidden).triu(1)
        if self.guided:
            newest[-1, -2] = hidden
        return newest


def _tile(x: Map) -> int:
    """Pixels that lie side by side when something is broadcast over a frame."""
    tile = 1
    while 2 * tile * x.channels <= SPAN and x.pixels % (2 * tile) == 0:
        tile *= 2
    return tile
