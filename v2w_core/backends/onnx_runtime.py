"""ONNX Runtime: the step as graphs (:mod:`step_graph`), on the CPU or any other provider.

Inputs and outputs are bound to PyTorch's memory; nothing is copied in between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from v2w_core.backends.base import PRECISIONS, BackendOptions, with_sibling
from v2w_core.backends.trial import check_parity, latency, measure
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
ELEMENT_TYPES = {torch.float32: np.float32, torch.int64: np.int64, torch.bool: np.bool_}


@dataclass(frozen=True)
class Past:
    """What a graph is told of earlier frames, by the names of its inputs.

    A step writes the keys and values of the frame that joins into the next free slot of the
    buffers, so that nothing is copied; of two steps from the same past, the later one counts.

    Attributes:
        shared: keys and values of the history [n, 1, N, d].
        sums: what the past adds to coming frames in temporal convolutions, [B * pixels, C].
        buffers: keys and values of the candidates' own frames [capacity, B, N, d].
        first, num_own: slots in use; those before the first are of frames that were forgotten.
    """

    shared: dict[str, Tensor]
    sums: dict[str, Tensor]
    buffers: dict[str, Tensor]
    first: int = 0
    num_own: int = 0

    @property
    def own(self) -> dict[str, Tensor]:
        used = slice(self.first, self.first + self.num_own)
        return {name: buffer[used] for name, buffer in self.buffers.items()}

    @property
    def next_slot(self) -> dict[str, Tensor]:
        free = self.first + self.num_own
        return {name: buffer[free] for name, buffer in self.buffers.items()}

    def with_room(self) -> Past:
        """With a free slot: where all are used, the frames still seen move to the front of new
        buffers, twice as many as they are."""
        capacity = len(next(iter(self.buffers.values())))
        if self.first + self.num_own < capacity:
            return self
        buffers = {}
        for name, value in self.own.items():
            buffers[name] = value.new_empty(2 * max(1, self.num_own), *value.shape[1:])
            buffers[name][: self.num_own] = value
        return replace(self, buffers=buffers, first=0)


class OnnxRuntime:
    """Steps of one model. Graphs are loaded when they are first needed."""

    name = "onnx"

    def __init__(self, model: WorldModel, folder: Path, options: BackendOptions) -> None:
        self._folder = folder
        self._model = model
        self._options = options
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
        if options.precision not in PRECISIONS:
            return f"knows the precisions {', '.join(PRECISIONS)}, not {options.precision}"
        if not model.config.action_guided or not model.config.cacheable:
            return "needs a causal model with actions and statistics of each frame alone"
        import onnxruntime

        wanted, available = providers(model, options), onnxruntime.get_available_providers()
        missing = [name for name in wanted if name not in available]
        if missing:
            return f"this onnxruntime has no {missing[0]}, only {', '.join(available)}"
        return None

    @classmethod
    def build(cls, model: WorldModel, options: BackendOptions) -> OnnxRuntime:
        def build(folder: Path) -> dict[str, Any]:
            log.info("writing the step's graphs")
            write_graphs(model, folder, options.precision)
            engine = cls(model, folder, options)
            log.info("comparing rollouts with eager float32")
            parity = check_parity(model, engine, options.precision)
            log.info("timing steps")
            figures = {"num_threads": torch.get_num_threads(), "latency": latency(model, engine)}
            return {"parity": parity, **figures}

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
            yield
        finally:
            torch.set_num_threads(before)

    def begin(self, history: Cache, batch_size: int) -> Past:
        sums, shared, buffers = {}, {}, {}
        convs = [m for m in self._model.unet.modules() if isinstance(m, TemporalConv)]
        for index, (conv, tail) in enumerate(zip(convs, history.conv, strict=True)):
            for j, added in enumerate(_what_the_past_adds(conv, tail)):
                sums[f"conv_{index}_{j}"] = added.flatten(0, 3).repeat(batch_size, 1)
        capacity = max(1, self._model.config.num_frames - history.num_frames)
        for index, pair in enumerate(history.shared):
            assert pair is not None
            for name, value in zip(("key", "value"), pair, strict=True):
                shared[f"shared_{name}_{index}"] = value.permute(2, 0, 1, 3).contiguous()
                buffers[f"{name}_{index}"] = value.new_empty(
                    capacity, batch_size, value.shape[1], value.shape[3]
                )
        return Past(shared, sums, buffers)

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Past,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Past]:
        batch_size, num_frames = latents.shape[:2]
        session = self._session(GRAPHS[num_frames, keep, guided])
        binding = session.io_binding()
        frames = [latents, level, actions, mask]
        if guided:
            frames = with_sibling(*frames)
        names = ("latents", "level", "actions", "mask")
        given = {name: value.contiguous() for name, value in zip(names, frames, strict=True)}
        past = past.with_room() if keep else past
        for name, value in (given | past.shared | past.sums | past.own).items():
            binding.bind_input(**_bound(name, value))
        v = latents.new_empty(batch_size, 1 + guided, *latents.shape[2:])
        made = {"velocity": v}
        sums = {name: torch.empty_like(value) for name, value in past.sums.items()} if keep else {}
        if keep:
            made |= {f"new_{name}": value for name, value in (sums | past.next_slot).items()}
        for name, value in made.items():
            binding.bind_output(**_bound(name, value))
        session.run_with_iobinding(binding)
        return v, replace(past, sums=sums, num_own=past.num_own + 1) if keep else past

    def forget(self, past: Past, index: int) -> Past:
        num_shared = len(next(iter(past.shared.values())))
        if index >= num_shared:
            assert index == num_shared and past.num_own > 0
            return replace(past, first=past.first + 1, num_own=past.num_own - 1)
        shared = {
            name: torch.cat([value[:index], value[index + 1 :]])
            for name, value in past.shared.items()
        }
        return replace(past, shared=shared)

    def info(self) -> dict[str, Any]:
        return {"backend": self.name, "folder": str(self._folder), **read_manifest(self._folder)}

    def _session(self, file: str) -> Any:
        if file not in self._sessions:
            wanted = providers(self._model, self._options)
            self._sessions[file] = load(self._folder / file, wanted, self._num_threads)
        return self._sessions[file]


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
        session = onnxruntime.InferenceSession(str(graph), settings, providers=list(wanted))
    except Exception as error:  # its exceptions have no common base class of their own
        raise V2WError(
            field, "a graph that can be loaded", str(error), code="MODEL_ERROR"
        ) from error
    running = session.get_providers()
    if running[0] != wanted[0]:
        rule = f"runs on {wanted[0]}; this machine cannot load it"
        raise V2WError(field, rule, ", ".join(running), code="MODEL_ERROR")
    return session


def write_graphs(model: WorldModel, folder: Path, precision: str) -> None:
    """The step's graphs and their weights."""
    from v2w_core.backends.onnx_writer import WeightFile
    from v2w_core.backends.step_graph import StepGraph

    weights = WeightFile()
    for (num_frames, keep, guided), file in GRAPHS.items():
        graph = StepGraph(
            model.unet, num_frames, weights, keep=keep, guided=guided, int8=precision == "int8"
        )
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
