"""Basic layers of the U-Net. Feature maps are [B, T, H, W, C], channels last."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_core.models.prepacked import Conv2d, Linear

Module = TypeVar("Module", bound=nn.Module)


def zero_init(module: Module) -> Module:
    """The module with all parameters set to zero, so that a residual branch starts at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Norm(nn.GroupNorm):
    """GroupNorm on [B, T, H, W, C]; statistics are float32 in any precision.

    ``scope`` is "frame" for statistics of each frame alone (strictly causal), or "clip" for
    statistics over all frames of the clip, as the released checkpoints need (information flows
    back in time through it).

    ``precise`` makes the input contiguous with channels first: PyTorch's channels-last CPU kernel
    computes the variance as E[x^2] - E[x]^2, which loses up to two digits where the mean is large
    (an error of 2e-4 instead of 6e-6 at the output of the parity U-Net). The copy takes a tenth of
    the time of a small model's pass.
    """

    precise = False

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        scope: Literal["frame", "clip"] = "frame",
        eps: float = 1e-5,
    ) -> None:
        super().__init__(num_groups, num_channels, eps=eps)
        self.scope = scope

    def forward(self, x: Tensor) -> Tensor:
        if self.scope == "frame":
            batch = x.shape[0]
            image = x.flatten(0, 1).permute(0, 3, 1, 2)
            return self._norm(image).permute(0, 2, 3, 1).unflatten(0, (batch, -1))
        return self._norm(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)

    def _norm(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if self.precise else x)


class Conv(Conv2d):
    """2-D convolution of every frame, on [B, T, H, W, C].

    ``height_causal`` reproduces a quirk of the released checkpoints' last layer: row r sees rows
    r-2..r (padding above only).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        height_causal: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)
        self.height_causal = height_causal
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        image = x.flatten(0, 1).permute(0, 3, 1, 2)
        if self.height_causal:
            above = self.kernel_size[0] - 1
            beside = self.kernel_size[1] // 2
            image = F.pad(image, (beside, beside, above, 0))
            out = F.conv2d(image, self.weight, self.bias)
        else:
            out = self.convolved(image)
        return out.permute(0, 2, 3, 1).unflatten(0, (batch, -1))


class Downsample(nn.Module):
    """Halves height and width: 3x3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, t, h, w, c = x.shape
        doubled = x[:, :, :, None, :, None].expand(b, t, h, 2, w, 2, c)
        return self.conv(doubled.reshape(b, t, 2 * h, 2 * w, c))


class GEGLU(nn.Module):
    """x * gelu(gate), both from one projection."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward of width ``mult * channels``."""

    def __init__(self, channels: int, mult: int) -> None:
        super().__init__()
        inner = mult * channels
        self.net = nn.Sequential(GEGLU(channels, inner), nn.Identity(), Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def sinusoidal_embedding(position: Tensor, dim: int) -> Tensor:
    """Positions [...] -> float32 [..., dim]: cosines, then sines, of frequencies 1..1/10000."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=position.device)
    frequencies = torch.exp(-math.log(10000.0) * steps / half)
    angle = position.float()[..., None] * frequencies
    embedding = torch.cat([angle.cos(), angle.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))
