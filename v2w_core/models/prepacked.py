"""Weights laid out ahead for the CPU's kernels.

oneDNN rearranges the weight of a convolution at every call, and MKL that of a product. With many
pixels that is nothing; of a step of one candidate, which uses every weight of the deep levels for
some 40 pixels, it is a fifth (``python benchmarks/packing.py``). So inference keeps a second copy,
as oneDNN wants it. The operators are those that torch.compile calls on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Bytes of a weight that is worth it: of smaller ones nothing is gained, and models with larger
#: ones have no memory to spare for a copy.
LEAST, MOST = 2**18, 2**24
OPERATORS = (
    "_reorder_convolution_weight", "_convolution_pointwise", "_reorder_linear_weight",
    "_linear_pointwise",
)  # fmt: skip
AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in OPERATORS
)


class Packed:
    """A weight laid out ahead, and again whenever it has changed. Copies begin with nothing."""

    def __init__(self) -> None:
        self._of: Tensor | None = None  # held, so that no other weight can take its place in memory
        self._version = 0
        self._weight: Tensor | None = None

    def __reduce__(self) -> tuple[type[Packed], tuple[()]]:
        return Packed, ()

    def get(self, x: Tensor, weight: Tensor, pack: Callable[[], Tensor]) -> Tensor | None:
        """The packed weight; None where the layer computes as usual.

        Args:
            x: the layer's input.
            pack: lays the weight out.
        """
        if not LEAST <= weight.nbytes <= MOST or not _packs(x, weight):
            return None
        same = self._of is not None and self._of.data_ptr() == weight.data_ptr()
        if not same or self._version != weight._version:
            self._of, self._version, self._weight = weight.detach(), weight._version, pack()
        return self._weight


def _packs(x: Tensor, weight: Tensor) -> bool:
    """Whether this is float32 inference on a CPU, and the weight's changes can be noticed."""
    if not (AVAILABLE and torch.is_inference_mode_enabled()) or torch.compiler.is_compiling():
        return False
    on_cpu = x.device.type == weight.device.type == "cpu"
    return on_cpu and x.dtype == weight.dtype == torch.float32 and not weight.is_inference()


class Packing(nn.Module):
    """A layer that packs its weight. Another device or precision begins with nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._packed = Packed()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._packed = Packed()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class Linear(Packing, nn.Linear):
    """A linear layer; see the module."""

    def forward(self, x: Tensor) -> Tensor:
        operators, weight = torch.ops.mkldnn, self.weight
        packed = self._packed.get(
            x, weight, lambda: operators._reorder_linear_weight(weight.detach(), None)
        )
        if packed is None:
            return F.linear(x, weight, self.bias)
        out: Tensor = operators._linear_pointwise(x, packed, self.bias, "none", [], "")
        return out


class Conv2d(Packing, nn.Conv2d):
    """A 2-D convolution with zeros around; see the module."""

    def convolved(self, image: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        operators, weight, bias = torch.ops.mkldnn, self.weight, self.bias
        how = [2 * [n] for n in (self.padding[0], self.stride[0], 1)]  # dilation 1
        packed = self._packed.get(
            image, weight,
            lambda: operators._reorder_convolution_weight(
                weight.detach(), *how, 1, list(image.shape)
            ),
        )  # fmt: skip
        if packed is None:
            return F.conv2d(image, weight, bias, self.stride, self.padding)
        out: Tensor = operators._convolution_pointwise(image, packed, bias, *how, 1, "none", [], "")
        return out
