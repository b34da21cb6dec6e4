"""Layers whose weights are prepacked for the CPU's kernels.

oneDNN reorders the weight of a convolution at every call, and MKL that of a matrix product. With
many pixels the cost is negligible; in a step of one candidate, which applies every weight of the
deep levels to some 40 pixels, it is a fifth (``python benchmarks/packing.py``). Inference therefore
keeps a second copy in oneDNN's layout. The operators are those that torch.compile calls on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Size of the weights that are prepacked, in bytes: smaller ones gain nothing, and models with
#: larger ones have no memory to spare for a copy.
MIN_BYTES, MAX_BYTES = 2**18, 2**24
OPERATORS = (
    "_reorder_convolution_weight", "_convolution_pointwise", "_reorder_linear_weight",
    "_linear_pointwise",
)  # fmt: skip
AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in OPERATORS
)


class Packed:
    """A packed weight, packed again whenever the weight changes. It is not copied or pickled."""

    def __init__(self) -> None:
        self._source: Tensor | None = None  # a reference, so that its memory cannot be reused
        self._version = 0
        self._weight: Tensor | None = None

    def __reduce__(self) -> tuple[type[Packed], tuple[()]]:
        return Packed, ()

    def get(self, x: Tensor, weight: Tensor, pack: Callable[[], Tensor]) -> Tensor | None:
        """The packed weight; None where the layer must use the plain one.

        Args:
            x: input of the layer.
            weight: weight of the layer.
            pack: returns the packed weight.
        """
        if not MIN_BYTES <= weight.nbytes <= MAX_BYTES or not _can_pack(x, weight):
            return None
        same = self._source is not None and self._source.data_ptr() == weight.data_ptr()
        if not same or self._version != weight._version:
            self._source, self._version, self._weight = weight.detach(), weight._version, pack()
        return self._weight


def _can_pack(x: Tensor, weight: Tensor) -> bool:
    """Whether this is float32 inference on a CPU and the weight has a version counter."""
    if not (AVAILABLE and torch.is_inference_mode_enabled()) or torch.compiler.is_compiling():
        return False
    on_cpu = x.device.type == weight.device.type == "cpu"
    return on_cpu and x.dtype == weight.dtype == torch.float32 and not weight.is_inference()


class PackedLayer(nn.Module):
    """Base of layers with a packed weight, which is dropped on a change of device or precision."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._packed = Packed()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._packed = Packed()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class Linear(PackedLayer, nn.Linear):
    """A linear layer with a packed weight."""

    def forward(self, x: Tensor) -> Tensor:
        operators, weight = torch.ops.mkldnn, self.weight
        packed = self._packed.get(
            x, weight, lambda: operators._reorder_linear_weight(weight.detach(), None)
        )
        if packed is None:
            return F.linear(x, weight, self.bias)
        out: Tensor = operators._linear_pointwise(x, packed, self.bias, "none", [], "")
        return out


class Conv2d(PackedLayer, nn.Conv2d):
    """A zero-padded 2-D convolution with a packed weight."""

    def convolved(self, image: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        operators, weight, bias = torch.ops.mkldnn, self.weight, self.bias
        geometry = [2 * [n] for n in (self.padding[0], self.stride[0], 1)]  # dilation 1
        packed = self._packed.get(
            image, weight,
            lambda: operators._reorder_convolution_weight(
                weight.detach(), *geometry, 1, list(image.shape)
            ),
        )  # fmt: skip
        if packed is None:
            return F.conv2d(image, weight, bias, self.stride, self.padding)
        out: Tensor = operators._convolution_pointwise(
            image, packed, bias, *geometry, 1, "none", [], ""
        )
        return out
