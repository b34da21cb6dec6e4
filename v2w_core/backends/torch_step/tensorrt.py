"""TensorRT through torch-tensorrt: the step on slots (:mod:`static_step`) as engines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from v2w_core.backends.base import DTYPES, BackendOptions, not_cacheable, unknown_precision
from v2w_core.backends.engine_cache import engines_folder, find_or_build, source_hash
from v2w_core.backends.parity import validate_and_time
from v2w_core.backends.torch_step import cuda_graphs
from v2w_core.backends.torch_step.static_backend import StaticBackend
from v2w_core.backends.torch_step.static_cache import BUCKETS, StepFunction
from v2w_core.backends.torch_step.static_step import (
    STEP_VARIANTS,
    StaticStep,
    StepVariant,
    example_arguments,
    in_precision,
)
from v2w_core.rollout.interfaces import Dynamics

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from v2w_core.models.unet import UNet

log = logging.getLogger(__name__)

#: The batch size that kernels are chosen for; any up to the largest bucket runs.
TYPICAL_BATCH = 8
NUM_LEADING = 5  # arguments before the past: latents, level, actions, mask, seen
SETTINGS = {
    "disable_tf32": True,  # float32 means float32
    "require_full_compilation": True,  # nothing is left to PyTorch behind one's back
    "min_block_size": 1,
    "attn_bias_is_causal": False,  # its default ignores which slots are seen
}


class TensorRt(StaticBackend):
    """Steps of one model. Engines are loaded when they are first needed."""

    name = "tensorrt"

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
        if model.device.type != "cuda":
            return f"engines run on CUDA devices only, not on {model.device.type}"
        if find_spec("torch_tensorrt") is None:
            return "torch_tensorrt is not installed; pip install 'v2w[tensorrt]'"
        return unknown_precision(options, DTYPES) or not_cacheable(model)

    @classmethod
    def build(cls, model: Dynamics, options: BackendOptions) -> TensorRt:
        def build(folder: Path) -> dict[str, Any]:
            unet = in_precision(model, options.precision)
            for variant in STEP_VARIANTS:
                log.info("building an engine of %s", variant)
                _build_engine(model, unet, variant, folder / engine_file(variant))
            engine = cls(model, options, folder)
            return validate_and_time(model, engine, options.precision)

        root = engines_folder(options.engines)
        return cls(model, options, find_or_build(root, built_from(model, options), build))

    def _make_step(self, variant: StepVariant, batch_size: int) -> StepFunction:
        import torch_tensorrt

        assert self._folder is not None
        engine = torch_tensorrt.load(str(self._folder / engine_file(variant))).module()

        def step(*given: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
            v, *kept = engine(*side_by_side(given))
            num_new = len(given[-2])
            return v, kept[:num_new], kept[num_new:]

        return step


class FlatStep(nn.Module):
    """A :class:`StaticStep` without lists, which exporters treat differently.

    Args:
        num_kept: number of key and value tensors of the prefix, and of the suffix.
    """

    def __init__(self, step: StaticStep, num_kept: int) -> None:
        super().__init__()
        self.step = step
        self.num_kept = num_kept

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        frames, past, kept = given[:NUM_LEADING], list(given[NUM_LEADING:]), self.num_kept
        v, new, sums = self.step(*frames, past[:kept], past[kept : 2 * kept], past[2 * kept :])
        return (v, *new, *sums)


def side_by_side(arguments: Sequence[Any]) -> list[Tensor]:
    """Arguments of :meth:`StaticStep.forward` as those of :meth:`FlatStep.forward`."""
    *frames, prefix, suffix, sums = arguments
    return [*frames, *prefix, *suffix, *sums]


def engine_file(variant: StepVariant) -> str:
    """The name of a variant's engine."""
    return f"{variant.num_frames}{'_keep' * variant.keep}{'_guided' * variant.guided}.ep"


def exported(
    model: Dynamics, unet: UNet, variant: StepVariant
) -> tuple[ExportedProgram, list[Tensor]]:
    """The step as operators, for any batch up to the largest bucket; and its arguments."""
    arguments = example_arguments(model, unet, variant, TYPICAL_BATCH)
    *frames, prefix, suffix, sums = arguments
    open_batch = {0: torch.export.Dim("batch", min=1, max=BUCKETS[-1])}
    shapes = [*[open_batch] * (len(frames) - 1), None]  # all but the bits of what is seen
    shapes += [None] * len(prefix) + [open_batch] * (len(suffix) + len(sums))
    step = FlatStep(StaticStep(unet, variant), len(suffix)).eval()
    flat = side_by_side(arguments)
    with torch.no_grad():
        return torch.export.export(step, tuple(flat), dynamic_shapes=(tuple(shapes),)), flat


def _build_engine(model: Dynamics, unet: UNet, variant: StepVariant, path: Path) -> None:
    import torch_tensorrt

    program, arguments = exported(model, unet, variant)
    compiled = torch_tensorrt.dynamo.compile(program, arg_inputs=arguments, **SETTINGS)
    torch_tensorrt.save(compiled, str(path), arg_inputs=arguments, retrace=False)


def built_from(model: Dynamics, options: BackendOptions) -> dict[str, Any]:
    """Everything that the engines and their figures depend on; the key of the artifact."""
    key = cuda_graphs.built_from(model, options)
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
