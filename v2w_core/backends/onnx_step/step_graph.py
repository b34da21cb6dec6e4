"""One denoising step of the U-Net as an ONNX graph, the cache as plain inputs and outputs.

The same function as :class:`v2w_core.models.unet.UNet` on one or two newest frames, the first of
which joins the cache, and with guidance the unconditional branch, written in another form:

* Feature maps are matrices [T * B * H * W, C], frames of the same time side by side.
* A temporal convolution keeps no past inputs. Of the past, it needs what it adds to the coming
  ``kernel - 1`` frames; these sums are its state. Each frame is multiplied by each tap once.
* A convolution over an image of at most nine pixels is one dense matrix product: most of its
  taps would lie in the padding.
* A GroupNorm's statistics come from column means; the step's embedding is added to them, not to
  the feature map.
* Of the velocity, only the newest frame's (in both branches of guidance) is computed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from v2w_core.backends.onnx_step.graph_writer import (
    BOOL,
    FLOAT,
    INT64,
    GraphWriter,
    Shape,
    WeightFile,
)
from v2w_core.backends.onnx_step.step_layers import MAX_DENSE_PIXELS, Layer, LayerGraph, Map
from v2w_core.models.attention import SpatialTransformer
from v2w_core.models.blocks import ResBlock
from v2w_core.models.conditioning import MultiHotActionEmbedding
from v2w_core.models.layers import Conv, Downsample, Upsample
from v2w_core.models.stage import Stage
from v2w_core.models.temporal import TemporalConv, TemporalTransformer
from v2w_core.models.unet import UNet


class StepGraph(LayerGraph):
    """Writes the graph of a step.

    Args:
        num_frames: newest frames, 1 or 2.
        keep: the first of them joins the past, which is an output.
        guided: one frame more, the newest in the unconditional branch (see :class:`CachePass`).
        precision: "fp32", "fp16" or "bf16"; statistics of norms are float32 in any. Latents,
            actions and velocities are float32, keys, values and sums are in the precision.
        num_slots: None, or the shapes that TensorRT wants, of which only the batch is open: keys
            and values of the history and of later frames have so many slots each, and ``seen``
            is added to the scores of all slots; see :class:`PaddedGraphCache`.
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
        super().__init__(
            weights, num_frames + guided, keep=keep, guided=guided, precision=precision,
            num_slots=num_slots,
        )  # fmt: skip
        self.unet: Layer = unet
        self.num_velocities = 1 + guided
        self._num_convs = 0

    @torch.inference_mode()
    def write(self, input_shape: tuple[int, int, int]) -> GraphWriter:
        """The whole network for input of this shape (C_in, H, W)."""
        g, (channels, height, width) = self.g, input_shape
        time = self.num_frames
        x = g.cast(g.input("latents", ["batch", time, channels, height, width]), g.dtype)
        if time > 1:
            x = g.transpose(x, 1, 0, 2, 3, 4)
        known = g.op("Cast", g.reshape(self._per_frame("mask", [], BOOL), -1, 1), to=g.dtype)
        x = self._given(g.reshape(x, -1, channels, height, width), known, channels)
        h = Map(g.reshape(g.transpose(x, 0, 2, 3, 1), -1, channels), channels, height, width)
        embedding = g.silu(self._embedding(known))
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

    def _given(self, x: str, known: str, channels: int) -> str:
        """Pictures [T * B, C, H, W] with zeros for the condition where the action is masked."""
        g, num_condition = self.g, self.unet.config.condition_channels
        if num_condition == 0:
            return x
        first = channels - num_condition
        ends = (g.ints(0), g.ints(first)), (g.ints(first), g.ints(channels))
        plain, condition = (g.op("Slice", x, *end, g.ints(1)) for end in ends)
        masked = g.op("Mul", condition, g.reshape(known, -1, 1, 1, 1))
        return g.op("Concat", plain, masked, axis=1)

    def _embedding(self, known: str) -> str:
        """[T * B, E] of noise levels and actions; ``known`` [T * B, 1] masks actions."""
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
        shift = g.linear(embedding, linear.weight, linear.bias + conv.bias)
        norm, _, _, conv = layer.out_layers
        h = self._norm_silu(h, norm, shift)
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
        """The frames whose velocity is computed."""
        g, before = self.g, self.num_frames - self.num_velocities
        if before == 0:
            return x
        by_time = g.reshape(x.name, self.num_frames, -1, x.channels)
        newest = g.op("Slice", by_time, g.ints(before), g.ints(self.num_frames), g.ints(0))
        return replace(x, name=g.reshape(newest, -1, x.channels))


def _kernel(layer: Conv | Downsample | Upsample) -> Conv:
    if isinstance(layer, Downsample):
        return layer.op
    return layer.conv if isinstance(layer, Upsample) else layer
