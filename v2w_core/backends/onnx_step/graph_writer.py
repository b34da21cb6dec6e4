"""Writes an ONNX graph node by node; graphs of one artifact share one file of weights.

The generic exporters take a minute for our default model and leave shape arithmetic in the graph.
A network that calls a few dozen kinds of layers is written directly in well under a second, in
the form that inference engines run fastest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 23  # the first with an attention operator
IR_VERSION = 11
WEIGHTS_FILE = "weights.bin"
SMALL_BYTES = 64
ALIGNMENT = 4096  # of a tensor in the file, so that it can be mapped into memory

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
FLOATS = {"fp32": FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
Shape = list[str | int]


class WeightFile:
    """Constants of all graphs of an artifact, each stored once."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._offsets: dict[str, int] = {}
        self._end = 0

    def add(self, array: NDArray[Any]) -> str:
        """The name under which a graph refers to these numbers."""
        content = np.ascontiguousarray(array)
        digest = hashlib.sha256(repr((content.dtype.name, content.shape)).encode())
        digest.update(content.tobytes())
        name = f"w_{digest.hexdigest()[:24]}"
        if name not in self._arrays:
            self._arrays[name] = content
            self._offsets[name] = self._end
            self._end += -(-content.nbytes // ALIGNMENT) * ALIGNMENT
        return name

    def tensor(self, name: str) -> TensorProto:
        """A reference to the numbers in the file."""
        array = self._arrays[name]
        proto = TensorProto(name=name, dims=array.shape)
        proto.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.data_location = TensorProto.EXTERNAL
        where = {"location": WEIGHTS_FILE, "offset": self._offsets[name], "length": array.nbytes}
        for key, value in where.items():
            proto.external_data.add(key=key, value=str(value))
        return proto

    def save(self, folder: Path) -> None:
        with (folder / WEIGHTS_FILE).open("wb") as file:
            for name, array in self._arrays.items():
                file.seek(self._offsets[name])
                file.write(array.tobytes())
            file.truncate(self._end)


class GraphWriter:
    """Values are names; every method returns the name of what it adds.

    Args:
        weights: where constants are stored.
        precision: of the arithmetic and of all values, one of :data:`FLOATS`; what is sensitive
            is put :meth:`precise`.
    """

    def __init__(self, weights: WeightFile, precision: str = "fp32") -> None:
        self.dtype = self._constants = FLOATS[precision]
        self._weights = weights
        self._used: dict[str, None] = {}  # weights that this graph uses, in order
        self._small: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._named: dict[str, str] = {}  # the outputs' names by the values'

    def input(self, name: str, shape: Shape, dtype: int = FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: Shape, dtype: int = FLOAT) -> None:
        self._named[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    @contextmanager
    def precise(self) -> Iterator[None]:
        """Constants are float32 inside. Values must be cast by hand (:meth:`cast`)."""
        self._constants = FLOAT
        yield
        self._constants = self.dtype

    def cast(self, value: str, dtype: int) -> str:
        """From the graph's precision to float32, or back."""
        return value if self.dtype == FLOAT else self.op("Cast", value, to=dtype)

    def weight(self, value: Tensor) -> str:
        """A constant in the graph's precision."""
        array = value.detach().float().cpu().numpy()
        return self.constant(array.astype(helper.tensor_dtype_to_np_dtype(self._constants)))

    def constant(self, array: NDArray[Any]) -> str:
        """A constant; small ones lie in the graph itself, where engines look for sizes."""
        name = self._weights.add(array)
        if array.nbytes <= SMALL_BYTES:
            self._small[name] = numpy_helper.from_array(array, name)
        else:
            self._used[name] = None
        return name

    def ints(self, *values: int) -> str:
        """An int64 vector: shapes, axes, indices."""
        name = "i_" + "_".join(str(v) for v in values)
        if name not in self._small:
            self._small[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def index(self, value: int) -> str:
        """An int64 scalar."""
        name = f"index_{value}"
        if name not in self._small:
            self._small[name] = numpy_helper.from_array(np.array(value, np.int64), name)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.ints(*shape))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def linear(self, x: str, weight: Tensor, plus: Tensor | str | None = None) -> str:
        """x [R, in] @ weight [out, in] transposed, plus a bias [out] or an array [R, out]."""
        inputs = [x, self.weight(weight.detach().t().contiguous())]
        if plus is not None:
            inputs.append(plus if isinstance(plus, str) else self.weight(plus))
        return self.op("Gemm", *inputs)

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def save(self, path: Path, name: str) -> None:
        """The graph file; its weights are in :data:`WEIGHTS_FILE` beside it."""
        for node in self._nodes:
            for values in (node.input, node.output):
                values[:] = [self._named.get(value, value) for value in values]
        initializers = [*self._small.values(), *(self._weights.tensor(w) for w in self._used)]
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        path.write_bytes(model.SerializeToString())
