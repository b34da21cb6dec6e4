"""What a rollout needs at least: FLOPs and bytes counted, a machine's rates measured, the floor.

FLOPs are twice the multiply-adds of matrix products, convolutions and attention; a convolution's
products with the zeros around an image can be avoided and are left out unless asked for (they are
a fifth of the default model's, whose smallest feature maps have 2x2 pixels). Bytes are those
that no implementation can avoid to move in each pass of the network: the weights once, the cache
once, latents in, velocity out. Feature maps are not counted: they may stay on the chip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from v2w_core.models.temporal_cache import Cache
from v2w_core.models.unet import UNet, UNetConfig

META = torch.device("meta")
PRODUCT_SIZES = (1024, 2048)  # of square matrices; the fastest one counts
COPIED_BYTES = 2**28


@dataclass(frozen=True)
class Rates:
    """Dense matrix products [FLOP/s] and memory traffic, read and written [byte/s]."""

    flops_per_s: float
    bytes_per_s: float

    def best(self, other: Rates) -> Rates:
        return Rates(
            max(self.flops_per_s, other.flops_per_s), max(self.bytes_per_s, other.bytes_per_s)
        )


@dataclass(frozen=True)
class Work:
    """The work of one pass of a network."""

    flops: float
    bytes: float

    def times(self, number: float) -> Work:
        return Work(number * self.flops, number * self.bytes)

    def floor_s(self, rates: Rates) -> float:
        """Seconds below which no machine of these rates can be."""
        return max(self.flops / rates.flops_per_s, self.bytes / rates.bytes_per_s)

    def bound_by(self, rates: Rates) -> str:
        """What takes the longer."""
        arithmetic = self.flops / rates.flops_per_s >= self.bytes / rates.bytes_per_s
        return "arithmetic" if arithmetic else "memory"


def total(passes: Iterable[Work]) -> Work:
    together = list(passes)
    return Work(sum(w.flops for w in together), sum(w.bytes for w in together))


def floor_s(passes: Iterable[Work], rates: Rates) -> float:
    """The work of passes that wait for each other."""
    return sum(work.floor_s(rates) for work in passes)


class CountedUNet:
    """Stands in for a U-Net: computes nothing (zeros), notes the work of every pass.

    Args:
        padding: count products with the zeros around images too, as published figures do.

    Attributes:
        passes: the work of every call so far.
    """

    def __init__(
        self, config: UNetConfig, dtype: torch.dtype = torch.float32, *, padding: bool = False
    ) -> None:
        with META:
            self.unet = UNet(config).eval().to(dtype)
        self.weight_bytes = sum(_bytes(p) for p in self.unet.parameters())
        self.passes: list[Work] = []
        self._counts = {} if padding else {torch.ops.aten.convolution: _without_padding}

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.unet.parameters())

    def parameters(self) -> Iterable[Tensor]:
        return self.unet.parameters()

    @torch.inference_mode()
    def __call__(
        self, x: Tensor, *given: Tensor | None, cache: Cache | None = None, **options: Any
    ) -> tuple[Tensor, Cache]:
        """As :meth:`UNet.forward`; the returned cache has shapes only."""
        past = None if cache is None else _on_meta(cache)
        on_meta = (None if value is None else value.to(META) for value in given)
        with FlopCounterMode(display=False, custom_mapping=self._counts) as counter:
            v, after = self.unet(x.to(META), *on_meta, cache=past, **options)
        moved = self.weight_bytes + _bytes(x) + _bytes(v) + (past.nbytes() if past else 0)
        self.passes.append(Work(counter.get_total_flops(), moved))
        return torch.zeros(v.shape, dtype=v.dtype, device=x.device), after


def _without_padding(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    bias_shape: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    *rest: object,
    out_shape: Sequence[int],
    **options: object,
) -> int:
    """FLOPs of an image convolution (arguments as PyTorch's counter passes them)."""
    batch, out_channels = out_shape[:2]
    taps = 1  # pairs of an output pixel and an input pixel inside the image
    for axis in range(2):
        size, kernel = x_shape[2 + axis], weight_shape[2 + axis]
        first = (out * stride[axis] - padding[axis] for out in range(out_shape[2 + axis]))
        taps *= sum(0 <= start + tap < size for start in first for tap in range(kernel))
    return 2 * batch * out_channels * weight_shape[1] * taps


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _on_meta(cache: Cache) -> Cache:
    def moved(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(moved(item) for item in value)
        return None if value is None else value.to(META)

    parts = {name: moved(getattr(cache, name)) for name in ("conv", "suffix", "prefix")}
    return replace(cache, **parts)


def measured_rates(
    device: torch.device, dtype: torch.dtype = torch.float32, *, repeats: int = 5
) -> Rates:
    """What PyTorch reaches on this machine at this moment."""
    fastest = 0.0
    for size in PRODUCT_SIZES:
        a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
        fastest = max(fastest, 2 * size**3 / _shortest(lambda a=a, b=b: a @ b, device, repeats))
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    seconds = _shortest(lambda: target.copy_(source), device, repeats)
    return Rates(fastest, 2 * COPIED_BYTES / seconds)


def _shortest(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of several calls, after one that does not count."""
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
