"""TensorRT-RTX: the step's graphs (:mod:`step_graph`) as engines for NVIDIA's GPUs.

Building needs neither GPU nor driver; running does. The bindings speak of ONNX Runtime's methods,
so that :class:`OnnxRuntime` prepares steps for both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from v2w_core.backends.base import DTYPES, BackendOptions, not_cacheable, unknown_precision
from v2w_core.backends.engine_cache import engines_folder, find_or_build, source_hash
from v2w_core.backends.onnx_step import onnx_runtime
from v2w_core.backends.onnx_step.onnx_runtime import OnnxRuntime, write_graphs
from v2w_core.backends.parity import validate_and_time
from v2w_core.device import device_errors
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Dynamics

log = logging.getLogger(__name__)

#: Batch sizes: the smallest, the one that kernels are chosen for, the largest.
PROFILE = (1, 8, 64)


class TensorRtRtx(OnnxRuntime):
    """Steps of one model. Engines are loaded when they are first needed."""

    name = "tensorrt-rtx"
    max_batch_size: int | None = PROFILE[-1]

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
        if model.device.type != "cuda":
            return (
                f"engines run on CUDA devices only, not on {model.device.type}; whether it builds "
                "can be seen without one: v2w export --backend tensorrt-rtx --build-only DIR"
            )
        return not_installed() or unknown_precision(options, DTYPES) or not_cacheable(model)

    @classmethod
    def build(cls, model: Dynamics, options: BackendOptions) -> TensorRtRtx:
        def build(folder: Path) -> dict[str, Any]:
            build_engines(model, folder, options.precision, "CURRENT")
            engine = cls(model, folder, options)
            return validate_and_time(model, engine, options.precision)

        root = engines_folder(options.engines)
        return cls(model, find_or_build(root, built_from(model, options), build), options)

    @contextmanager
    def rollout_context(self) -> Iterator[None]:
        with device_errors(self.name):
            yield

    @classmethod
    def _slots_of(cls, model: Dynamics, options: BackendOptions) -> int | None:
        return model.config.num_frames

    def _load(self, file: str, num_threads: int) -> Any:
        return Engine(self._folder / engine_file(file))

    def _run(self, session: Any, binding: Any) -> None:
        session.run_with_iobinding(binding)


def not_installed() -> str | None:
    """Part of a probe: which package is missing, or None."""
    for package in ("tensorrt_rtx", "onnx"):
        if find_spec(package) is None:
            return f"{package} is not installed; pip install 'v2w[rtx]'"
    return None


class Engine:
    """A built step, on the current CUDA device."""

    def __init__(self, path: Path) -> None:
        import tensorrt_rtx as trt

        self._path = path
        self._runtime = trt.Runtime(_logger())
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise V2WError(str(path), "an engine that this device can load", code="MODEL_ERROR")
        self._context = self._engine.create_execution_context()
        names = (self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors))
        self._names = frozenset(names)

    def io_binding(self) -> EngineBinding:
        return EngineBinding(self._context, self._names)

    def run_with_iobinding(self, binding: EngineBinding) -> None:
        """Runs on PyTorch's stream; what is bound must live until the stream has come by."""
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            rule = "an engine that runs; stderr says why it does not"
            raise V2WError(str(self._path), rule, code="MODEL_ERROR")


class EngineBinding:
    """Inputs and outputs of an engine; of ONNX Runtime's ``IOBinding`` as much as is needed."""

    def __init__(self, context: Any, names: frozenset[str]) -> None:
        self._context = context
        self._names = names

    def bind_input(self, *, name: str, shape: tuple[int, ...], buffer_ptr: int, **_: Any) -> None:
        if name not in self._names:  # an engine has no inputs that nothing depends on
            return
        if not self._context.set_input_shape(name, shape):
            rule = (
                f"a shape that the engine was built for, batches of {PROFILE[0]} to {PROFILE[-1]}"
            )
            raise V2WError(f"input {name}", rule, shape, code="MODEL_ERROR")
        self._bind(name, buffer_ptr)

    def bind_output(self, *, name: str, buffer_ptr: int, **_: Any) -> None:
        self._bind(name, buffer_ptr)

    def _bind(self, name: str, buffer_ptr: int) -> None:
        if not self._context.set_tensor_address(name, buffer_ptr):
            raise V2WError(f"tensor {name}", "one that the engine has", code="MODEL_ERROR")


def build_engines(
    model: Dynamics, folder: Path, precision: str, target: str | None = None
) -> list[Path]:
    """Writes the step's graphs and an engine of each; the paths of the engines.

    Args:
        target: see :func:`build_engine`.

    Raises:
        V2WError: MODEL_ERROR; not installed, or a graph that TensorRT-RTX cannot build, and why.
    """
    refused = not_installed() or not_cacheable(model)
    if refused is not None:
        raise V2WError("back end tensorrt-rtx", refused, code="MODEL_ERROR")
    log.info("writing the step's graphs")
    write_graphs(model, folder, precision, model.config.num_frames)
    engines = []
    for file in onnx_runtime.GRAPHS.values():
        log.info("building an engine of %s", file)
        path = folder / engine_file(file)
        path.write_bytes(build_engine(folder / file, target))
        engines.append(path)
    return engines


def engine_file(graph_file: str) -> str:
    """The name of a graph's engine."""
    return f"{Path(graph_file).stem}.engine"


def build_engine(graph: Path, target: str | None = None) -> bytes:
    """An engine of a graph of which only the batch is open.

    Args:
        graph: the ONNX file.
        target: a compute capability ("SM89", or "CURRENT": of the GPU that is here); None: all.

    Raises:
        V2WError: MODEL_ERROR; TensorRT-RTX cannot build it.
    """
    import tensorrt_rtx as trt

    builder = trt.Builder(_logger())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, _logger())
    if not parser.parse_from_file(str(graph)):
        errors = (parser.get_error(i) for i in range(parser.num_errors))
        said = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc()}" for e in errors)
        raise V2WError(graph.name, "a graph that TensorRT-RTX knows", said, code="MODEL_ERROR")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    profile = builder.create_optimization_profile()
    sizes = _open_sizes(graph)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tensor.shape:
            shapes = [sizes(tensor.name, batch_size) for batch_size in PROFILE]
            profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        rule = "a graph that TensorRT-RTX can build; stderr says why it cannot"
        raise V2WError(graph.name, rule, code="MODEL_ERROR")
    return bytes(engine)


def _open_sizes(graph: Path) -> Callable[[str, int], tuple[int, ...]]:
    """(input, batch size) -> the shape: ``batch`` in a graph's shapes, or ``batch_64`` for 64
    rows of each of the batch."""
    import onnx

    inputs = onnx.load(str(graph), load_external_data=False).graph.input
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inputs}

    def size(dim: Any, batch_size: int) -> int:
        if not dim.dim_param:
            return int(dim.dim_value)
        return batch_size * int(dim.dim_param.partition("_")[2] or 1)

    return lambda name, batch_size: tuple(size(dim, batch_size) for dim in shapes[name])


def built_from(model: Dynamics, options: BackendOptions) -> dict[str, Any]:
    """Everything that the engines and their figures depend on; the key of the artifact."""
    import tensorrt_rtx

    key = onnx_runtime.built_from(model, options)
    versions = {name: value for name, value in key["versions"].items() if name == "onnx"}
    return {
        **key,
        "backend": TensorRtRtx.name,
        "graph": [key["graph"], source_hash(__file__)],
        "profile": {"latent_shape": model.config.latent_shape, "batch": PROFILE},
        "flags": ["strongly typed", "no TF32"],
        "versions": {**versions, "tensorrt_rtx": tensorrt_rtx.__version__},
    }


@cache
def _logger() -> Any:
    """Errors go to stderr. A logger in Python can deadlock with the builder's threads."""
    import tensorrt_rtx as trt

    return trt.Logger(trt.Logger.ERROR)
