"""ONNX Runtime: the step as graphs (:mod:`step_graph`), on the CPU or any other provider.

Inputs and outputs are bound to PyTorch's memory; nothing is copied in between. On a CPU, a batch is
cut into lanes, one for each core, if that leaves enough to each: a step has some thousand
operators, and cores that work through a lane each need not wait for one another after every one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2w_core.backends.base import DTYPES, BackendOptions, not_cacheable, unknown_precision
from v2w_core.backends.engine_cache import (
    device_name,
    engines_folder,
    find_or_build,
    network_hash,
    read_manifest,
    source_hash,
    weights_hash,
)
from v2w_core.backends.onnx_step.graph_cache import (
    GraphCache,
    PaddedGraphCache,
    conv_states,
    prefix_part,
    selected,
)
from v2w_core.backends.onnx_step.sessions import PROVIDERS, load, providers
from v2w_core.backends.onnx_step.torch_threads import ONE_THREAD
from v2w_core.backends.parity import measure, validate_and_time
from v2w_core.device import device_errors
from v2w_core.models.temporal_cache import Cache
from v2w_core.rollout.interfaces import Dynamics, NoisyFrames, with_unconditional

log = logging.getLogger(__name__)

#: The past of each lane of a batch.
Pasts = tuple[GraphCache | PaddedGraphCache, ...]

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
#: Precisions that a provider has kernels for; any other has float32 only.
PROVIDER_PRECISIONS = {
    "CUDAExecutionProvider": ("fp32", "fp16"),
    TENSORRT: ("fp32", "fp16", "bf16"),
}
#: Candidates that are worth a lane.
LEAST_IN_LANE = 8


class OnnxRuntime:
    """Steps of one model. Graphs are loaded when they are first needed."""

    name = "onnx"
    max_batch_size: int | None = None

    def __init__(self, model: Dynamics, folder: Path, options: BackendOptions) -> None:
        self._folder = folder
        self._model = model
        self._options = options
        self._dtype = DTYPES[options.precision]
        self._num_slots = self._slots_of(model, options)
        self._num_threads = torch.get_num_threads()
        self._sessions: dict[tuple[str, int], Any] = {}
        self._loading = Lock()
        self._lanes = ThreadPoolExecutor(self._num_threads, "lane")

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
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
    def build(cls, model: Dynamics, options: BackendOptions) -> OnnxRuntime:
        def build(folder: Path) -> dict[str, Any]:
            log.info("writing the step's graphs")
            write_graphs(model, folder, options.precision, cls._slots_of(model, options))
            engine = cls(model, folder, options)
            return validate_and_time(model, engine, options.precision)

        root = engines_folder(options.engines)
        return cls(model, find_or_build(root, built_from(model, options), build), options)

    def warm_up(self, batch_size: int) -> None:
        """Loads the graphs of this model's rollouts and lets them allocate what they need."""
        measure(self._model, self, batch_size, horizon=2)

    @contextmanager
    def rollout_context(self) -> Iterator[None]:
        """Changes PyTorch's number of threads meanwhile, see :mod:`one_thread`."""
        with ONE_THREAD, device_errors(self.name):
            yield

    def start(self, history: Cache, batch_size: int, num_suffix: int) -> Pasts:
        prefix = prefix_part(history, self._dtype)
        room = self._model.config.num_frames - history.num_frames
        capacity = max(1, min(num_suffix, room))
        sums = conv_states(self._model.unet, history, self._dtype)
        lanes = self._in_lanes(torch.arange(batch_size))
        pasts = [GraphCache.start(prefix, sums, capacity, len(lane)) for lane in lanes]
        if self._num_slots is None:
            return tuple(pasts)
        return tuple(PaddedGraphCache.of(past, self._num_slots) for past in pasts)

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Pasts,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Pasts]:
        def lane(
            frames: NoisyFrames, past: GraphCache | PaddedGraphCache
        ) -> tuple[Tensor, GraphCache | PaddedGraphCache]:
            return self._step(*frames, past, keep, guided, num_threads)

        # two layouts only, since each has sessions, and so copies of the weights, of its own
        num_threads = self._num_threads if len(past) == 1 else 1
        frames = NoisyFrames(latents, level, actions, mask)
        if len(past) == 1:
            v, after = lane(frames, past[0])
            return v, (after,)
        sizes = [one.batch_size for one in past]
        parts = map(NoisyFrames, *(value.split(sizes) for value in frames))
        velocities, afters = zip(*self._lanes.map(lane, parts, past), strict=True)
        return torch.cat(velocities), afters

    @torch.inference_mode()
    def _step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: GraphCache | PaddedGraphCache,
        keep: bool,
        guided: bool,
        num_threads: int,
    ) -> tuple[Tensor, GraphCache | PaddedGraphCache]:
        """One lane of a step."""
        batch_size, num_frames = latents.shape[:2]
        session = self._session(GRAPHS[num_frames, keep, guided], num_threads)
        binding = session.io_binding()
        frames = [latents, level, actions, mask]
        if guided:
            frames = with_unconditional(*frames)
        names = ("latents", "level", "actions", "mask")
        given = {name: value.contiguous() for name, value in zip(names, frames, strict=True)}
        past = past.with_room() if keep else past
        given |= past.prefix | past.sums | past.suffix  # referenced until the run is over
        for name, value in given.items():
            binding.bind_input(**_bound(name, value))
        v = latents.new_empty(batch_size, 1 + guided, *self._model.config.output_shape)
        made = {"velocity": v}
        sums = {name: torch.empty_like(value) for name, value in past.sums.items()} if keep else {}
        if keep:
            made |= {f"new_{name}": value for name, value in (sums | past.next_slot).items()}
        for name, value in made.items():
            binding.bind_output(**_bound(name, value))
        self._run(session, binding)
        return v, past.joined(sums) if keep else past

    def evict(self, past: Pasts, index: int) -> Pasts:
        return tuple(lane.evict(index) for lane in past)

    def select(self, past: Pasts, indices: Tensor) -> Pasts:
        return tuple(selected(past, lane) for lane in self._in_lanes(indices))

    def _in_lanes(self, candidates: Tensor) -> tuple[Tensor, ...]:
        """The candidates of each lane."""
        on_cpu = self._model.device.type == "cpu"
        worth_it = on_cpu and len(candidates) >= self._num_threads * LEAST_IN_LANE
        return candidates.tensor_split(self._num_threads if worth_it else 1)

    def info(self) -> dict[str, Any]:
        return {"backend": self.name, "folder": str(self._folder), **read_manifest(self._folder)}

    @classmethod
    def _slots_of(cls, model: Dynamics, options: BackendOptions) -> int | None:
        """``num_slots`` of the graphs: TensorRT wants fixed shapes."""
        return model.config.num_frames if providers(model, options)[0] == TENSORRT else None

    def _session(self, file: str, num_threads: int) -> Any:
        with self._loading:
            if (file, num_threads) not in self._sessions:
                self._sessions[file, num_threads] = self._load(file, num_threads)
        return self._sessions[file, num_threads]

    def _load(self, file: str, num_threads: int) -> Any:
        wanted = providers(self._model, self._options)
        return load(self._folder / file, wanted, num_threads)

    def _run(self, session: Any, binding: Any) -> None:
        if self._model.device.type == "cuda":  # the session has a stream of its own
            torch.cuda.current_stream().synchronize()
        session.run_with_iobinding(binding)


def write_graphs(
    model: Dynamics, folder: Path, precision: str, num_slots: int | None = None
) -> None:
    """The step's graphs and their weights; see :class:`StepGraph`."""
    from v2w_core.backends.onnx_step.graph_writer import WeightFile
    from v2w_core.backends.onnx_step.step_graph import StepGraph

    weights = WeightFile()
    for (num_frames, keep, guided), file in GRAPHS.items():
        graph = StepGraph(
            model.unet, num_frames, weights, keep=keep, guided=guided, precision=precision,
            num_slots=num_slots,
        )  # fmt: skip
        graph.write(model.config.input_shape).save(folder / file, Path(file).stem)
    weights.save(folder)


def built_from(model: Dynamics, options: BackendOptions) -> dict[str, Any]:
    """Everything that the graphs and their figures depend on; the key of the artifact."""
    import onnx
    import onnxruntime

    from v2w_core.backends.onnx_step import graph_writer, step_graph, step_layers

    return {
        "backend": OnnxRuntime.name,
        "weights": weights_hash(model.unet),
        "config": model.config.to_dict(),
        "network": network_hash(),
        "graph": source_hash(
            __file__, graph_writer.__file__, step_graph.__file__, step_layers.__file__
        ),
        "opset": graph_writer.OPSET,
        "precision": options.precision,
        "profile": {"latent_shape": model.config.latent_shape, "batch": "any", "frames": "any"},
        "providers": providers(model, options),
        "device": device_name(model.device),
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _bound(name: str, value: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "device_type": value.device.type,
        "device_id": value.device.index or 0,
        "element_type": ELEMENT_TYPES[value.dtype],
        "shape": tuple(value.shape),
        "buffer_ptr": value.data_ptr(),
    }
