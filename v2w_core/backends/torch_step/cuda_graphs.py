"""The step compiled by PyTorch (inductor), one CUDA graph for each batch size.

For a GPU, where a step of a small model is hundreds of kernels that each take less time than
their launch. What inductor compiled is kept as an engine.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_core.backends.base import DTYPES, BackendOptions, not_cacheable, unknown_precision
from v2w_core.backends.engine_cache import (
    device_name,
    engines_folder,
    find_or_build,
    network_hash,
    source_hash,
    weights_hash,
)
from v2w_core.backends.parity import validate_and_time
from v2w_core.backends.torch_step.static_backend import StaticBackend
from v2w_core.backends.torch_step.static_cache import BUCKETS, StepFunction
from v2w_core.backends.torch_step.static_step import StaticStep, StepVariant, in_precision
from v2w_core.rollout.interfaces import Dynamics

log = logging.getLogger(__name__)

COMPILED = "inductor.bin"
#: Variants of one function that are compiled before PyTorch gives up: kinds x buckets x models.
RECOMPILE_LIMIT = 256


class TorchGraphs(StaticBackend):
    """Steps of one model, compiled when they are first needed.

    Args:
        compiler: makes a step's function fast; None: runs it as it stands.
        captured: in CUDA graphs.
    """

    name = "torch"

    def __init__(
        self,
        model: Dynamics,
        options: BackendOptions,
        folder: Path | None = None,
        *,
        compiler: Callable[[StaticStep], StepFunction] | None = None,
        captured: bool = False,
    ) -> None:
        self._unet = in_precision(model, options.precision)
        self._compiler = compiler
        super().__init__(model, options, folder, captured=captured)

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
        if model.device.type != "cuda":
            return f"CUDA graphs need a CUDA device, not {model.device.type}"
        if not hasattr(torch.compiler, "save_cache_artifacts"):
            return f"needs torch 2.7 or newer, not {torch.__version__}"
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed; pip install triton"
        return unknown_precision(options, DTYPES) or not_cacheable(model)

    @classmethod
    def build(cls, model: Dynamics, options: BackendOptions) -> TorchGraphs:
        def build(folder: Path) -> dict[str, Any]:
            log.info("compiling the step; minutes the first time")
            engine = cls(model, options, compiler=inductor, captured=True)
            figures = validate_and_time(model, engine, options.precision)
            saved = torch.compiler.save_cache_artifacts()
            if saved is not None:
                (folder / COMPILED).write_bytes(saved[0])
            return figures

        folder = find_or_build(engines_folder(options.engines), built_from(model, options), build)
        if (folder / COMPILED).exists():
            torch.compiler.load_cache_artifacts((folder / COMPILED).read_bytes())
        return cls(model, options, folder, compiler=inductor, captured=True)

    def _make_step(self, variant: StepVariant, batch_size: int) -> StepFunction:
        step = StaticStep(self._unet, variant).eval()
        return self._compiler(step) if self._compiler else step


def inductor(step: StaticStep) -> StepFunction:
    """The step in as few kernels as PyTorch's compiler makes of it; never in parts."""
    compiled = torch.compile(step, fullgraph=True, dynamic=False)

    def run(*given: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        with torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
            result: tuple[Tensor, list[Tensor], list[Tensor]] = compiled(*given)
        return result

    return run


def built_from(model: Dynamics, options: BackendOptions) -> dict[str, Any]:
    """Everything that the compiled step and its figures depend on; the key of the artifact."""
    from v2w_core.backends.torch_step import static_backend, static_cache, static_step

    return {
        "backend": TorchGraphs.name,
        "weights": weights_hash(model.unet),
        "config": model.config.to_dict(),
        "network": network_hash(),
        "graph": source_hash(
            __file__, static_step.__file__, static_cache.__file__, static_backend.__file__
        ),
        "precision": options.precision,
        "profile": {"latent_shape": model.config.latent_shape, "batch": BUCKETS},
        "device": device_name(model.device),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
    }
