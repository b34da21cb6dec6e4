"""One denoising step of the U-Net as an ONNX graph, the cache as plain inputs and outputs.

The same function as :class:`v2w_core.models.unet.UNet` on one or two newest frames, the first of
which joins the cache, and with guidance a sibling of the newest, written in another form:

* Feature maps are matrices [T * B * H * W, C], frames of the same time side by side.
* A temporal convolution keeps no past inputs. Of the past, it needs what it adds to the coming
  ``kernel - 1`` frames; these sums are its state. Each frame is multiplied by each tap once.
* A convolution over an image of at most nine pixels is one dense matrix product: most of its
  taps would lie in the padding.
* A GroupNorm's statistics come from column means; the step's embedding is added to them, not to
  the feature map.
* Of the velocity, only the newest frame's (and its sibling's) is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from v2w_core.backends.onnx_writer import BOOL, FLOAT, INT64, GraphWriter, Shape, WeightFile
from v2w_core.backends.past import NOT_SEEN
from v2w_core.models.attention import SpatialTransformer
from v2w_core.models.blocks import ResBlock
from v2w_core.models.conditioning import MultiHotActionEmbedding
from v2w_core.models.layers import Conv, Downsample, Norm, Upsample
from v2w_core.models.stage import Stage
from v2w_core.models.temporal import TemporalConv, TemporalTransformer
from v2w_core.models.unet import UNet

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


class StepGraph:
    """Writes the graph of a step.

    Args:
        num_frames: newest frames, 1 or 2.
        keep: the first of them joins the past, which is an output.
        guided: one frame more, the sibling of the newest (see :class:`v2w_core.cache.CacheWalk`).
        precision: "fp32", "fp16" or "bf16"; statistics of norms are float32 in any. Latents,
            actions and velocities are float32, keys, values and sums are in the precision.
        num_slots: None, or the shapes that TensorRT wants, of which only the batch is open: keys
            and values of the history and of own frames have so many slots each, and ``seen``
            is added to the scores of all slots; see :class:`~v2w_core.backends.past.PaddedPast`.
    """

    def __init__(
        self,
        unet: UNet,
        num_frames: int,
        weights: WeightFile,
        *,
        keep: bool,
        guided: bool,
        precision: str = "fp32",
        num_slots: int | None = None,
    ) -> None:
        assert num_frames == 1 or keep
        self.unet: Layer = unet
        self.num_frames = num_frames + guided
        self.num_velocities = 1 + guided
        self.keep = keep
        self.guided = guided
        self.num_slots = num_slots
        self.g = GraphWriter(weights, precision)
        self._num_convs = self._num_attentions = 0
        self._common: dict[str, str] = {}

    @torch.inference_mode()
    def write(self, latent_shape: tuple[int, int, int]) -> GraphWriter:
        """The whole network for latents of this shape (C, H, W)."""
        g, (channels, height, width) = self.g, latent_shape
        time = self.num_frames
        x = g.cast(g.input("latents", ["batch", time, channels, height, width]), g.dtype)
        if time > 1:
            x = g.transpose(x, 1, 0, 2, 3, 4)
        x = g.transpose(g.reshape(x, -1, channels, height, width), 0, 2, 3, 1)
        h = Map(g.reshape(x, -1, channels), channels, height, width)
        embedding = g.silu(self._embedding())
        skips = []
        for index, stage in enumerate(self.unet.input_blocks):
            h = self._stage(h, stage, embedding)
            if index == 0 and self.unet.config.init_attention:
                h = self._stage(h, self.unet.init_attn, embedding)
            skips.append(h)
        h = self._stage(h, self.unet.middle_block, embedding)
        for stage in self.unet.output_blocks:
            skip = skips.pop()
            joined = g.op("Concat", h.name, skip.name, axis=1)
            h = replace(h, name=joined, channels=h.channels + skip.channels)
            h = self._stage(h, stage, embedding)
        norm, _, conv = self.unet.out
        h = self._conv(self._norm_silu(self._newest(h), norm), conv, conv.bias)
        wanted = self.num_velocities
        v = g.transpose(g.reshape(h.name, wanted, -1, height, width, h.channels), 1, 0, 4, 2, 3)
        g.output("velocity", g.cast(v, FLOAT), ["batch", wanted, h.channels, height, width])
        return g

    def _embedding(self) -> str:
        """[T * B, E] of noise levels and actions."""
        g, unet = self.g, self.unet
        level = self._per_frame("level", [], INT64)
        level = g.op("Cast", g.reshape(level, -1, 1), to=FLOAT)
        embed = unet.time_embed
        half = embed.channels // 2
        steps = torch.arange(half, dtype=torch.float32)
        with g.precise():
            angle = g.op("Mul", level, g.weight(torch.exp(-math.log(10000.0) * steps / half)))
        waves = g.cast(g.op("Concat", g.op("Cos", angle), g.op("Sin", angle), axis=1), g.dtype)
        first, _, second = embed.mlp
        weight = first.weight[:, : 2 * half]  # an odd width is padded by a zero
        bias = second.bias
        if unet.config.frame_stride is not None:
            stride = torch.tensor([unet.config.frame_stride], device=bias.device)
            bias = bias + unet.fps_embedding(stride)[0]
        embedding = g.linear(g.silu(g.linear(waves, weight, first.bias)), second.weight, bias)
        dim = unet.config.action_dim
        assert dim is not None
        actions = g.cast(g.reshape(self._per_frame("actions", [dim]), -1, dim), g.dtype)
        layers = list(unet.action_embed.action_emb_proj)
        if isinstance(unet.action_embed, MultiHotActionEmbedding):
            actions = g.linear(actions, unet.action_embed.action_emb_preprocess.weight.t())
        for layer in layers:
            if isinstance(layer, nn.Linear):
                actions = g.linear(actions, layer.weight, layer.bias)
            else:
                actions = g.silu(actions)
        known = g.op("Cast", g.reshape(self._per_frame("mask", [], BOOL), -1, 1), to=g.dtype)
        return g.op("Add", embedding, g.op("Mul", actions, known))

    def _per_frame(self, name: str, shape: Shape, dtype: int = FLOAT) -> str:
        """An input [B, T, ...] as [T, B, ...]."""
        value = self.g.input(name, ["batch", self.num_frames, *shape], dtype)
        return self.g.transpose(value, 1, 0, *range(2, 2 + len(shape)))

    def _stage(self, h: Map, stage: nn.Module, embedding: str) -> Map:
        assert isinstance(stage, Stage)
        for layer in stage:
            if isinstance(layer, ResBlock):
                h = self._res(h, layer, embedding)
            elif isinstance(layer, SpatialTransformer):
                h = self._spatial(h, layer)
            elif isinstance(layer, TemporalTransformer):
                h = self._temporal(h, layer)
            else:
                assert isinstance(layer, Conv | Downsample | Upsample)
                h = self._conv(h, layer, _kernel(layer).bias)
        return h

    def _res(self, x: Map, layer: Layer, embedding: str) -> Map:
        g = self.g
        norm, _, conv = layer.in_layers
        h = self._conv(self._norm_silu(x, norm), conv, None)
        linear = layer.emb_layers[1]
        told = g.linear(embedding, linear.weight, linear.bias + conv.bias)
        norm, _, _, conv = layer.out_layers
        h = self._norm_silu(h, norm, told)
        if isinstance(layer.skip_connection, Conv):
            skip = layer.skip_connection
            h = self._conv(h, conv, conv.bias + skip.bias)
            h = replace(h, name=g.linear(x.name, skip.weight.flatten(1), h.name))
        else:
            h = self._conv(h, conv, conv.bias)
            h = replace(h, name=g.op("Add", x.name, h.name))
        block = layer.temporal_conv
        inner = h
        for index in range(1, block.num_convs + 1):
            norm, *_, temporal = getattr(block, f"conv{index}")
            inner = self._temporal_conv(self._norm_silu(inner, norm), temporal)
        return replace(h, name=g.op("Add", h.name, inner.name))

    def _norm_silu(self, x: Map, norm: Norm, told: str | None = None) -> Map:
        """SiLU(GroupNorm(x + told)), told [T * B, C]."""
        g = self.g
        scaled = self._normalised(x, norm, told, norm.weight)
        bias = norm.bias.repeat(x.pixels)
        shifted = g.op("Add", g.reshape(scaled, -1, x.pixels * x.channels), g.weight(bias))
        return replace(x, name=g.silu(g.reshape(shifted, -1, x.channels)))

    def _normalised(self, x: Map, norm: Norm, told: str | None, scale: Tensor | None) -> str:
        """(x + told - mean) / deviation [* scale] by groups, [T * B, pixels / n, n * C]."""
        g, channels, groups = self.g, x.channels, norm.num_groups
        tile = _tile(x)
        shape = (-1, x.pixels // tile, tile * channels)
        of_group = torch.eye(groups).repeat_interleave(channels // groups, dim=0)  # [C, groups]
        average = (of_group * (groups / channels)).t()
        spread = of_group.repeat(tile, 1)
        x = replace(x, name=g.cast(x.name, FLOAT))
        with g.precise():
            if told is None:
                centre = g.linear(self._group_means(x, average), spread)
            else:
                told = g.cast(told, FLOAT)
                mean = self._group_means(x, average, g.linear(told, average))
                moved = told if tile == 1 else g.op("Concat", *[told] * tile, axis=1)
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

    def _conv(self, x: Map, layer: Conv | Downsample | Upsample, bias: Tensor | None) -> Map:
        """The layer's convolution, with another bias."""
        if x.pixels <= MAX_DENSE_PIXELS:
            return self._dense_conv(x, layer, bias)
        g, conv = self.g, _kernel(layer)
        image = g.transpose(g.reshape(x.name, -1, x.height, x.width, x.channels), 0, 3, 1, 2)
        height, width = x.height, x.width
        if isinstance(layer, Upsample):
            height, width = 2 * height, 2 * width
            with g.precise():
                twice = g.weight(torch.tensor([1.0, 1.0, 2.0, 2.0]))
            image = g.op(
                "Resize", image, "", twice,
                mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
        rows, columns = conv.kernel_size
        above = rows - 1 if conv.height_causal else rows // 2
        pads = [above, columns // 2, rows - 1 - above, columns // 2]
        inputs = [image, g.weight(conv.weight)] + ([] if bias is None else [g.weight(bias)])
        out = g.op("Conv", *inputs, pads=pads, strides=list(conv.stride))
        channels, stride = conv.out_channels, conv.stride[0]
        name = g.reshape(g.transpose(out, 0, 2, 3, 1), -1, channels)
        return Map(name, channels, -(-height // stride), -(-width // stride))

    def _dense_conv(self, x: Map, layer: Conv | Downsample | Upsample, bias: Tensor | None) -> Map:
        """The layer's matrix is what it makes of every unit image."""
        size, own_bias = x.pixels * x.channels, _kernel(layer).bias
        assert own_bias is not None
        unit = torch.eye(size, device=own_bias.device, dtype=own_bias.dtype)
        images = layer(unit.view(size, 1, x.height, x.width, x.channels)) - own_bias
        height, width, channels = images.shape[2:]
        plus = None if bias is None else bias.repeat(height * width)
        out = self.g.linear(self.g.reshape(x.name, -1, size), images.flatten(1).t(), plus)
        return Map(self.g.reshape(out, -1, channels), channels, height, width)

    def _temporal_conv(self, u: Map, layer: TemporalConv) -> Map:
        """State s_1..s_{k-1}: what the past adds to the next frames, the bias included."""
        g, index = self.g, self._num_convs
        self._num_convs += 1
        taps = layer.weight[..., 0, 0].unbind(-1)  # the last one is of the frame itself
        assert layer.bias is not None
        shape: Shape = [f"batch_{u.pixels}", layer.out_channels]
        names = [f"conv_{index}_{j}" for j in range(len(taps) - 1)]
        past: list[Tensor | str] = [*(g.input(n, shape, g.dtype) for n in names), layer.bias]
        before = added = past[0]  # of the newest frame, of all
        if self.keep and names:
            first = self._at(u, 0).name
            terms = zip(names, taps[-2::-1], past[1:], strict=True)
            coming = {name: g.linear(first, tap, plus) for name, tap, plus in terms}
            for name, value in coming.items():
                g.output(f"new_{name}", value, shape, g.dtype)
            if self.num_frames - self.guided > 1:
                before = coming[names[0]]
                added = g.op("Concat", names[0], before, axis=0)
        if self.guided and names:
            added = g.op("Concat", str(added), str(before), axis=0)
        return replace(u, name=g.linear(u.name, taps[-1], added), channels=layer.out_channels)

    def _at(self, x: Map, frame: int) -> Map:
        """One of the newest frames."""
        if self.num_frames == 1:
            return x
        by_time = self.g.reshape(x.name, self.num_frames, -1, x.channels)
        return replace(x, name=self.g.op("Gather", by_time, self.g.index(frame), axis=0))

    def _newest(self, x: Map) -> Map:
        """The frames whose velocity is asked for."""
        g, before = self.g, self.num_frames - self.num_velocities
        if before == 0:
            return x
        by_time = g.reshape(x.name, self.num_frames, -1, x.channels)
        newest = g.op("Slice", by_time, g.ints(before), g.ints(self.num_frames), g.ints(0))
        return replace(x, name=g.reshape(newest, -1, x.channels))

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
        """The newest frames see the shared history, the candidates' own frames and themselves.

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
            num_own, num_shared = self.num_slots or "own", self.num_slots or "shared"
            own = g.input(f"{name}_{index}", [num_own, "batch", tokens, dim], g.dtype)
            history: Shape = [num_shared, 1, tokens, dim]
            shared = g.input(f"shared_{name}_{index}", history, g.dtype)
            if self.keep:
                first = g.op("Gather", new, g.index(0), axis=0)
                g.output(f"new_{name}_{index}", first, ["batch", tokens, dim], g.dtype)
            shared = g.op("Expand", shared, self._once("batch", self._for_each))
            seen.append(g.op("Concat", shared, own, new, axis=0))
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
        """[T, frames seen], minus infinity where a new frame would see a later one or its
        sibling."""
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


def _kernel(layer: Conv | Downsample | Upsample) -> Conv:
    if isinstance(layer, Downsample):
        return layer.op
    return layer.conv if isinstance(layer, Upsample) else layer


def _tile(x: Map) -> int:
    """Pixels that lie side by side when something is broadcast over a frame."""
    tile = 1
    while 2 * tile * x.channels <= SPAN and x.pixels % (2 * tile) == 0:
        tile *= 2
    return tile
