"""The step's graph exported by PyTorch against the one written by hand, in ONNX Runtime on a CPU.

    pip install onnxscript
    python benchmarks/exported_step.py --json benchmarks/results/exported_step.json

Exports the static step (static_step.py) in which a frame joins, with the inputs and outputs of the
graph written by hand, so that the same back end runs both. They take turns on one thread; seconds
are of the processor, so that a busy machine matters less (of TensorRT-RTX: of the clock).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.onnx_step.graph_cache import NOT_SEEN
from v2w_core.backends.onnx_step.onnx_runtime import GRAPHS, OnnxRuntime, write_graphs
from v2w_core.backends.onnx_step.step_layers import MAX_DENSE_PIXELS
from v2w_core.backends.onnx_step.tensorrt_rtx import build_engine
from v2w_core.backends.parity import BATCH_SIZES, synthetic_session
from v2w_core.backends.torch_step.static_step import StaticStep, StepVariant
from v2w_core.checkpoint import default_checkpoint
from v2w_core.errors import V2WError
from v2w_core.models.layers import Conv, Upsample
from v2w_core.models.temporal import TemporalConv
from v2w_core.rollout.interfaces import StepBackend
from v2w_core.world_model import WorldModel

STEPS = 6  # of a rollout; a frame joins in each
FILE = GRAPHS[2, True, False]
WRITTEN, ON_SLOTS = "written", "written, slots"  # the first is what a CPU is given
OPSETS = {"opset 18": 18, "opset 23": 23, "rewritten": 20}


class OnSlots(OnnxRuntime):
    """Graphs of fixed shapes, of which only the batch may be open."""

    @classmethod
    def _slots_of(cls, model: WorldModel, options: BackendOptions) -> int | None:
        return model.config.num_frames


class Exported(OnSlots):
    """Exported graphs, which add the biases of temporal convolutions themselves."""

    def start(self, *given: Any) -> Any:
        convs = [m for m in self._model.unet.modules() if isinstance(m, TemporalConv)]
        lanes = []
        for lane in super().start(*given):
            sums = {k: v - convs[int(k.split("_")[1])].bias.detach() for k, v in lane.sums.items()}
            lanes.append(replace(lane, sums=sums))
        return tuple(lanes)


class DropIn(nn.Module):
    """A :class:`StaticStep` with the inputs and outputs of a graph that is written by hand."""

    def __init__(self, model: WorldModel, like: Any) -> None:
        super().__init__()
        self.step = StaticStep(model.unet, StepVariant(2, keep=True, guided=False)).eval()
        self.inputs, self.outputs = ([v.name for v in some] for some in (like.input, like.output))
        self.kept = [name for name in self.inputs if name.startswith(("key", "value"))]
        convs = [name for name in self.inputs if name.startswith("conv")]
        cache = synthetic_session(model, model.backend).history.cache
        sizes = [added.shape[2:4] for sums in cache.conv for added in sums]
        self.sums = dict(zip(convs, sizes, strict=True))  # with the sizes of the images

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        by_name = dict(zip(self.inputs, given, strict=True))
        frames = [by_name[name] for name in ("latents", "level", "actions", "mask")]
        shared = [by_name[f"prefix_{name}"].permute(1, 2, 0, 3) for name in self.kept]
        own = [by_name[name].permute(1, 2, 0, 3) for name in self.kept]
        sums = [by_name[name].unflatten(0, (-1, 1, *size)) for name, size in self.sums.items()]
        v, new, after = self.step(*frames, by_name["seen"][0] > NOT_SEEN / 2, shared, own, sums)
        made = [v, *(value[:, :, 0] for value in new), *(value.flatten(0, 3) for value in after)]
        names = ["velocity", *(f"new_{name}" for name in [*self.kept, *self.sums])]
        by_name = dict(zip(names, made, strict=True))
        return tuple(by_name[name] for name in self.outputs)


def export(model: WorldModel, way: str, batch: int, by_hand: Path, to: Path) -> float:
    """Writes the step as an ONNX file, weights beside it; the seconds that takes. Batch 0: any."""
    like = onnx.load(str(by_hand), load_external_data=False).graph
    given, shapes, dynamic = [], [], torch.export.Dim.DYNAMIC
    for value in like.input:
        dims = [(dim.dim_value, dim.dim_param) for dim in value.type.tensor_type.shape.dim]
        size = [n or (batch or 8) * int(name.partition("_")[2] or 1) for n, name in dims]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        given.append(torch.from_numpy(np.zeros(size, dtype)))
        shapes.append({i: dynamic for i, (_, name) in enumerate(dims) if name and not batch})
    began = time.process_time()
    step = DropIn(model, like)
    with torch.no_grad(), rewritten() if way == "rewritten" else nullcontext():
        program = torch.export.export(step, tuple(given), dynamic_shapes=(tuple(shapes),))
    torch.onnx.export(
        program, f=to, input_names=step.inputs, output_names=step.outputs,
        opset_version=OPSETS[way], dynamo=True, optimize=True, external_data=True, verbose=False,
    )  # fmt: skip
    seconds = time.process_time() - began
    made = onnx.load(str(to), load_external_data=False)
    del made.graph.value_info[:]
    for node in made.graph.node:  # which line of Python it is from: most of the file
        del node.metadata_props[:]
    known = {value.name: value.type for value in [*like.input, *like.output]}
    for value in [] if batch else [*made.graph.input, *made.graph.output]:
        value.type.CopyFrom(known[value.name])  # names of open sizes, for TensorRT-RTX's profile
    to.write_bytes(made.SerializeToString())
    return seconds


@contextmanager
def rewritten() -> Any:
    """Linear layers of matrices, attention spelt out, tiny convolutions as products: as by hand."""
    linear = F.linear

    def of_matrices(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(x.reshape(-1, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], len(weight))

    def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        hidden = 0.0 if attn_mask is None else torch.where(attn_mask, 0.0, NOT_SEEN)
        return (scores + hidden).softmax(dim=-1) @ v

    def as_product(layer: nn.Module, own: Any, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if size[:2].numel() > MAX_DENSE_PIXELS:
            return own(layer, x)
        constant = own(layer, torch.zeros(1, 1, *size))  # constants are folded later
        matrix = own(layer, torch.eye(size.numel()).view(-1, 1, *size)) - constant
        rows = linear(x.reshape(-1, size.numel()), matrix.flatten(1).t(), constant.flatten())
        return rows.reshape(*x.shape[:2], *constant.shape[2:])

    with (
        patch.multiple(F, linear=of_matrices, scaled_dot_product_attention=attention),
        patch.object(Conv, "forward", lambda m, x, own=Conv.forward: as_product(m, own, x)),
        patch.object(Upsample, "forward", lambda m, x, own=Upsample.forward: as_product(m, own, x)),
    ):
        yield


@torch.inference_mode()
def rollout(model: WorldModel, backend: StepBackend, batch: int) -> tuple[Tensor, float]:
    """Velocities of steps in which a frame joins the past, and the frames a second."""
    generator, lead = torch.Generator().manual_seed(0), (STEPS, batch, 2)
    latents = torch.randn(*lead, *model.config.input_shape, generator=generator)
    actions = 2 * torch.rand(*lead, model.config.action.dim, generator=generator) - 1
    level = torch.tensor([model.config.sampling.history_level, 999]).repeat(batch, 1)
    velocities, mask = [], torch.ones(lead[1:], dtype=torch.bool)
    with backend.rollout_context():
        past = backend.start(synthetic_session(model, backend).history.cache, batch, STEPS)
        began = time.process_time()
        for step in range(STEPS):
            v, past = backend.step(latents[step], level, actions[step], mask, past)
            velocities.append(v)
        return torch.stack(velocities), STEPS * batch / (time.process_time() - began)


def figures(backend: OnnxRuntime, seconds: float, weights: str, *, rtx: bool) -> dict[str, Any]:
    """What one graph costs: seconds, sizes, and in TensorRT-RTX."""
    graph, began = backend._folder / FILE, time.process_time()
    backend._session(FILE, 1)
    found = {"write_s": seconds, "session_s": time.process_time() - began}
    found["graph_mib"] = graph.stat().st_size / 2**20
    found["weights_mib"] = (graph.parent / weights).stat().st_size / 2**20
    if rtx:
        began = time.perf_counter()  # it has threads of its own
        found["rtx_engine_mib"] = None
        with suppress(V2WError):  # the reason is on stderr
            found["rtx_engine_mib"] = len(build_engine(graph, "SM89")) / 2**20
        found["rtx_s"] = time.perf_counter() - began
    return {name: value and round(value, 2) for name, value in found.items()}


def compared(model: WorldModel, backends: dict[str, OnnxRuntime], batch: int, rounds: int) -> Any:
    """Frames a second and ratios to the graphs by hand, medians; differences from eager."""
    truth, _ = rollout(model, Eager(model.unet), batch)
    rates, away = {name: [] for name in backends}, {}
    for _ in range(rounds + 1):
        for name, backend in backends.items():
            v, rate = rollout(model, backend, batch)
            away[name] = float((v - truth).abs().max())
            rates[name].append(rate)
    fps, found = {name: np.array(rate[1:]) for name, rate in rates.items()}, {}  # warm
    for name, rate in fps.items():
        of = {f"times {by}": rate / fps[by] for by in (WRITTEN, ON_SLOTS)}
        medians = {what: round(float(np.median(values)), 3) for what, values in of.items()}
        medians["frames_a_second"] = round(float(np.median(rate)), 1)
        found[name] = {"velocity_difference": away[name]} | medians
    return found


def main() -> None:
    """Exports, compares, times; prints what it finds and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if find_spec("onnxscript") is None:
        raise SystemExit("torch.onnx.export needs onnxscript; pip install onnxscript")
    torch.set_num_threads(1)  # graph against graph, not lanes of a batch
    model, options = WorldModel.from_pretrained(default_checkpoint()), BackendOptions()
    result: dict[str, Any] = {"rounds": args.rounds, "builds": {}, "speed": {}}
    common: dict[str, OnnxRuntime] = {}
    with tempfile.TemporaryDirectory() as root:

        def exported(way: str, batch: int) -> OnnxRuntime:
            backend = Exported(model, Path(root, f"{way}, batch {batch or 'open'}"), options)
            place, by_hand = backend._folder, common[ON_SLOTS]._folder
            place.mkdir()
            seconds = export(model, way, batch, by_hand / FILE, place / FILE)
            found = figures(backend, seconds, f"{FILE}.data", rtx=batch in (0, 8))
            result["builds"][place.name] = found
            print(place.name, found, flush=True)
            return backend

        for name, kind in ((WRITTEN, OnnxRuntime), (ON_SLOTS, OnSlots)):
            common[name] = backend = kind(model, Path(root, name), options)
            Path(root, name).mkdir()
            began = time.process_time()
            write_graphs(model, Path(root, name), "fp32", backend._num_slots)
            seconds = time.process_time() - began
            result["builds"][name] = figures(backend, seconds, "weights.bin", rtx=kind is OnSlots)
        common["opset 18, batch open"] = exported("opset 18", 0)
        for batch in BATCH_SIZES:
            ways = [way for way in OPSETS if way != "opset 23" or batch == 8]  # the slowest
            backends = common | {way: exported(way, batch) for way in ways}
            result["speed"][str(batch)] = compared(model, backends, batch, args.rounds)
            print(batch, json.dumps(result["speed"][str(batch)], indent=1), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
