"""ONNX Runtime: the step as graphs (:mod:`step_graph`), on the CPU or any other provider.

Inputs and outputs are bound to PyTorch's memory; nothing is copied in between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from v2w_core.backends.artifact import (
    device_name,
    engines_folder,
    find_or_build,
    read_manifest,
    source_hash,
    weights_hash,
)
from v2w_core.backends.base import (
    BackendOptions,
    device_errors,
    not_cacheable,
    unknown_precision,
    with_sibling,
)
from v2w_core.backends.past import PaddedPast, Past
from v2w_core.backends.slot_step import DTYPES
from v2w_core.backends.trial import measure, tried
from v2w_core.cache import Cache, Tail
from v2w_core.errors import V2WError
from v2w_core.models.temporal import TemporalConv

if TYPE_CHECKING:
    from v2w_core.world_model import WorldModel

log = logging.getLogger(__name__)

PROVIDERS = {"cpu": ("CPUExecutionProvider",), "cuda": ("CUDAExecutionProvider",)}
#: Graph files by (newest frames, whether the first of them joins the past, guided).
GRAPHS = {
    (1, False, False): "look.onnx",
    (1, True, False): "join.onnx",
    (2, True, False): "join_and_look.onnx",
    (1, False, True): "look_guided.onnx",
    (1, True, True): "join_guided.onnx",
    (2, True, True): "join_and_look_guided.onnx",
}
BFLOAT16 = 16  # in ONNX's numbering; numpy has none
ELEMENT_TYPES = {
    torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: BFLOAT16,
    torch.int64: np.int64, torch.bool: np.bool_,
}  # fmt: skip
TENSORRT = "TensorrtExecutionProvider"
#: What a provider has kernels for; any other has float32.
PROVIDER_PRECISIONS = {
    "CUDAExecutionProvider": ("fp32", "fp16"),
    TENSORRT: ("fp32", "fp16", "bf16"),
}
#: Float32 means float32: the provider's default rounds it to TF32.
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class OnnxRuntime:
    """Steps of one model. Graphs are loaded when they are first needed."""

    name = "onnx"

    def __init__(self, model: WorldModel, folder: Path, options: BackendOptions) -> None:
        self._folder = folder
        self._model = model
        self._options = options
        self._dtype = DTYPES[options.precision]
        self._num_slots = self._slots_of(model, options)
        self._num_threads = torch.get_num_threads()
        self._sessions: dict[str, Any] = {}

    @classmethod
    def probe(cls, model: WorldModel, options: BackendOptions) -> str | None:
        if model.device.type not in PROVIDERS:
            return f"runs on {', '.join(PROVIDERS)}, not on {model.device.type}"
        for package in ("onnxruntime", "onnx"):
            if find_spec(package) is None:
                extra = "cpu" if model.device.type == "cpu" else "gpu"
                return f"{package} is not installed; pip install 'v2w[{extra}]'"
        refused = not_cacheable(model)
        if refused is not None:
            return refused
        import onnxruntime

        wanted, available = providers(model, options), onnxruntime.get_available_providers()
        refused = unknown_precision(options, PROVIDER_PRECISIONS.get(wanted[0], ("fp32",)))
        if refused is not None:
            return f"on {wanted[0]} {refused}"
        missing = [name for name in wanted if name not in available]
        if missing:
            return f"this onnxruntime has no {missing[0]}, only {', '.join(available)}"
        return None

    @classmethod
    def build(cls, model: WorldModel, options: BackendOptions) -> OnnxRuntime:
        def build(folder: Path) -> dict[str, Any]:
            log.info("writing the step's graphs")
            write_graphs(model, folder, options.precision, cls._slots_of(model, options))
            engine = cls(model, folder, options)
            return tried(model, engine, options.precision)

        root = engines_folder(options.engines)
        return cls(model, find_or_build(root, built_from(model, options), build), options)

    def warm_up(self, batch_size: int) -> None:
        """Loads the graphs of this model's rollouts and lets them allocate what they need."""
        measure(self._model, self, batch_size, horizon=2)

    @contextmanager
    def rolling_out(self) -> Iterator[None]:
        """PyTorch's idle threads would spin on the cores that the graphs need."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with device_errors(self.name):
                yield
        finally:
            torch.set_num_threads(before)

    def begin(self, history: Cache, batch_size: int) -> Past | PaddedPast:
        sums, shared, buffers = {}, {}, {}
        convs = [m for m in self._model.unet.modules() if isinstance(m, TemporalConv)]
        for index, (conv, tail) in enumerate(zip(convs, history.conv, strict=True)):
            for j, added in enumerate(_what_the_past_adds(conv, tail)):
                added = added.flatten(0, 3).to(self._dtype)
                sums[f"conv_{index}_{j}"] = added.repeat(batch_size, 1)
        capacity = max(1, self._model.config.num_frames - history.num_frames)
        for index, pair in enumerate(history.shared):
            assert pair is not None
            for name, exact in zip(("key", "value"), pair, strict=True):
                value = exact.to(self._dtype)
                shared[f"shared_{name}_{index}"] = value.permute(2, 0, 1, 3).contiguous()
                buffers[f"{name}_{index}"] = value.new_empty(
                    capacity, batch_size, value.shape[1], value.shape[3]
                )
        past = Past(shared, sums, buffers)
        return past if self._num_slots is None else PaddedPast.of(past, self._num_slots)

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Past | PaddedPast,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Past | PaddedPast]:
        batch_size, num_frames = latents.shape[:2]
        session = self._session(GRAPHS[num_frames, keep, guided])
        binding = session.io_binding()
        frames = [latents, level, actions, mask]
        if guided:
            frames = with_sibling(*frames)
        names = ("latents", "level", "actions", "mask")
        given = {name: value.contiguous() for name, value in zip(names, frames, strict=True)}
        past = past.with_room() if keep else past
        given |= past.shared | past.sums | past.own  # held until the run is over
        for name, value in given.items():
            binding.bind_input(**_bound(name, value))
        v = latents.new_empty(batch_size, 1 + guided, *latents.shape[2:])
        made = {"velocity": v}
        sums = {name: torch.empty_like(value) for name, value in past.sums.items()} if keep else {}
        if keep:
            made |= {f"new_{name}": value for name, value in (sums | past.next_slot).items()}
        for name, value in made.items():
            binding.bind_output(**_bound(name, value))
        self._run(session, binding)
        return v, past.joined(sums) if keep else past

    def forget(self, past: Past | PaddedPast, index: int) -> Past | PaddedPast:
        return past.forget(index)

    def info(self) -> dict[str, Any]:
        return {"backend": self.name, "folder": str(self._folder), **read_manifest(self._folder)}

    @classmethod
    def _slots_of(cls, model: WorldModel, options: BackendOptions) -> int | None:
        """``num_slots`` of the graphs: TensorRT wants fixed shapes."""
        return model.config.num_frames if providers(model, options)[0] == TENSORRT else None

    def _session(self, file: str) -> Any:
        if file not in self._sessions:
            self._sessions[file] = self._load(file)
        return self._sessions[file]

    def _load(self, file: str) -> Any:
        wanted = providers(self._model, self._options)
        return load(self._folder / file, wanted, self._num_threads)

    def _run(self, session: Any, binding: Any) -> None:
        if self._model.device.type == "cuda":  # the session has a stream of its own
            torch.cuda.current_stream().synchronize()
        session.run_with_iobinding(binding)


def providers(model: WorldModel, options: BackendOptions) -> tuple[str, ...]:
    """The execution providers asked for, first choice first."""
    if options.providers is not None:
        return options.providers
    return PROVIDERS[model.device.type]


def load(graph: Path, wanted: tuple[str, ...], num_threads: int) -> Any:
    """An onnxruntime.InferenceSession that really runs on the first of the wanted providers.

    Raises:
        V2WError: MODEL_ERROR; the graph cannot be loaded, or the provider was replaced (which
            ONNX Runtime does with no more than a line on stderr).
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    settings.log_severity_level = 3
    # between runs, its threads leave the cores to PyTorch and to the other graphs
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    field = f"back end onnx, {graph.name}"
    try:
        how = [(name, PROVIDER_OPTIONS.get(name, {})) for name in wanted]
        session = onnxruntime.InferenceSession(str(graph), settings, providers=how)
    except Exception as error:  # its exceptions have no common base class of their own
        raise V2WError(
            field, "a graph that can be loaded", str(error), code="MODEL_ERROR"
        ) from error
    running = session.get_providers()
    if running[0] != wanted[0]:
        rule = f"runs on {wanted[0]}; this machine cannot load it"
        raise V2WError(field, rule, ", ".join(running), code="MODEL_ERROR")
    return session


def write_graphs(
    model: WorldModel, folder: Path, precision: str, num_slots: int | None = None
) -> None:
    """The step's graphs and their weights; see :class:`StepGraph`."""
    from v2w_core.backends.onnx_writer import WeightFile
    from v2w_core.backends.step_graph import StepGraph

    weights = WeightFile()
    for (num_frames, keep, guided), file in GRAPHS.items():
        graph = StepGraph(
            model.unet, num_frames, weights, keep=keep, guided=guided, precision=precision,
            num_slots=num_slots,
        )  # fmt: skip
        graph.write(model.config.latent_shape).save(folder / file, Path(file).stem)
    weights.save(folder)


def built_from(model: WorldModel, options: BackendOptions) -> dict[str, Any]:
    """Everything that the graphs and their figures depend on; the key of the artifact."""
    import onnx
    import onnxruntime

    from v2w_core.backends import onnx_writer, step_graph

    return {
        "backend": OnnxRuntime.name,
        "weights": weights_hash(model.unet),
        "config": model.config.to_dict(),
        "graph": source_hash(onnx_writer.__file__, step_graph.__file__),
        "opset": onnx_writer.OPSET,
        "precision": options.precision,
        "profile": {"latent_shape": model.config.latent_shape, "batch": "any", "frames": "any"},
        "providers": providers(model, options),
        "device": device_name(model.device),
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _what_the_past_adds(conv: TemporalConv, tail: Tail) -> list[Tensor]:
    """To the next kernel - 1 frames, the bias included; each [1, 1, H, W, C]."""
    taps = conv.weight[..., 0, 0].unbind(-1)
    assert conv.bias is not None
    added = []
    for ahead in range(len(tail)):
        terms = zip(tail[ahead:], taps, strict=False)
        added.append(sum((frame @ tap.t() for frame, tap in terms), conv.bias))
    return added


def _bound(name: str, value: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "device_type": value.device.type,
        "device_id": value.device.index or 0,
        "element_type": ELEMENT_TYPES[value.dtype],
        "shape": tuple(value.shape),
        "buffer_ptr": value.data_ptr(),
    }
