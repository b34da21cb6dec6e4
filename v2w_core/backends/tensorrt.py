"""TensorRT through torch-tensorrt: the step on slots (:mod:`slot_step`) as engines."""

from __future__ import annotations

import logging
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from v2w_core.backends import torch_graphs
from v2w_core.backends.artifact import engines_folder, find_or_build, source_hash
from v2w_core.backends.base import BackendOptions, not_cacheable, unknown_precision
from v2w_core.backends.slot_backend import BUCKETS, SlotBackend, StepFunction
from v2w_core.backends.slot_step import (
    DTYPES,
    KINDS,
    Kind,
    SlotStep,
    example_arguments,
    in_precision,
)
from v2w_core.backends.trial import tried

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from v2w_core.models.unet import UNet
    from v2w_core.world_model import WorldModel

log = logging.getLogger(__name__)

#: The batch size that kernels are chosen for; any up to the largest bucket runs.
TYPICAL_BATCH = 8
SETTINGS = {
    "disable_tf32": True,  # float32 means float32
    "require_full_compilation": True,  # nothing is left to PyTorch behind one's back
    "min_block_size": 1,
    "attn_bias_is_causal": False,  # its default ignores which slots are seen
}


class TensorRt(SlotBackend):
    """Steps of one model. Engines are loaded when they are first needed."""

    name = "tensorrt"

    @classmethod
    def probe(cls, model: WorldModel, options: BackendOptions) -> str | None:
        if model.device.type != "cuda":
            return f"engines run on CUDA devices only, not on {model.device.type}"
        if find_spec("torch_tensorrt") is None:
            return "torch_tensorrt is not installed; pip install 'v2w[tensorrt]'"
        return unknown_precision(options, DTYPES) or not_cacheable(model)

    @classmethod
    def build(cls, model: WorldModel, options: BackendOptions) -> TensorRt:
        def build(folder: Path) -> dict[str, Any]:
            unet = in_precision(model, options.precision)
            for kind in KINDS:
                log.info("building an engine of %s", kind)
                _build_engine(model, unet, kind, folder / engine_file(kind))
            engine = cls(model, options, folder)
            return tried(model, engine, options.precision)

        root = engines_folder(options.engines)
        return cls(model, options, find_or_build(root, built_from(model, options), build))

    def _make_step(self, kind: Kind, batch_size: int) -> StepFunction:
        import torch_tensorrt

        assert self._folder is not None
        program = torch_tensorrt.load(str(self._folder / engine_file(kind)))
        step: StepFunction = program.module()
        return step


def engine_file(kind: Kind) -> str:
    """The name of a kind's engine."""
    return f"{kind.num_frames}{'_keep' * kind.keep}{'_guided' * kind.guided}.ep"


def exported(model: WorldModel, unet: UNet, kind: Kind) -> ExportedProgram:
    """The step as operators, for any batch up to the largest bucket."""
    arguments = example_arguments(model, unet, kind, TYPICAL_BATCH)
    batch = torch.export.Dim("batch", min=1, max=BUCKETS[-1])
    open_batch, fixed = {0: batch}, None
    shapes = (*[open_batch] * 4, fixed, *([how] * len(part) for how, part in zip(
        (fixed, open_batch, open_batch), arguments[5:], strict=True)))  # fmt: skip
    step = SlotStep(unet, kind).eval()
    with torch.no_grad():
        return torch.export.export(step, tuple(arguments), dynamic_shapes=shapes)


def _build_engine(model: WorldModel, unet: UNet, kind: Kind, path: Path) -> None:
    import torch_tensorrt

    arguments = example_arguments(model, unet, kind, TYPICAL_BATCH)
    program = exported(model, unet, kind)
    compiled = torch_tensorrt.dynamo.compile(program, arg_inputs=arguments, **SETTINGS)
    torch_tensorrt.save(compiled, str(path), arg_inputs=arguments, retrace=False)


def built_from(model: WorldModel, options: BackendOptions) -> dict[str, Any]:
    """Everything that the engines and their figures depend on; the key of the artifact."""
    key = torch_graphs.built_from(model, options)
    packages = [d.name for d in metadata.distributions() if "tensorrt" in (d.name or "").lower()]
    versions = {name: metadata.version(name) for name in sorted(set(packages))}
    return {
        **key,
        "backend": TensorRt.name,
        "graph": [key["graph"], source_hash(__file__)],
        "profile": {**key["profile"], "typical_batch": TYPICAL_BATCH},
        "flags": SETTINGS,
        "versions": {**key["versions"], **versions},
    }
