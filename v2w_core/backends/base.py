"""The back ends that compute a model's denoising steps, behind one small interface.

A rollout asks a back end for one thing: the velocity of the newest frame of every candidate, given
what the frames before it left behind (``StepBackend.step``). Guidance asks for a second velocity of
the same frame in the same step. The history is always encoded by the PyTorch network; it is one
pass of batch 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from v2w_core.rollout.interfaces import Dynamics, StepBackend


@dataclass(frozen=True)
class BackendOptions:
    """How a back end is built.

    Attributes:
        precision: of the arithmetic, one of :data:`names.PRECISIONS`; each back end says which of
            them it knows. Latents go in and come out in float32.
        providers: ONNX Runtime's execution providers, first choice first; None: that of the
            model's device. None is ever replaced silently by another.
        engines: folder of built engines; None: $V2W_ENGINES or ~/.cache/v2w/engines.
    """

    precision: str = "fp32"
    providers: tuple[str, ...] | None = None
    engines: Path | None = None


class Backend(StepBackend, Protocol):
    """One way to compute steps: can it, build it, use it, what is it."""

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
        """Why it cannot serve this model on this machine; None when it can. Quick."""

    @classmethod
    def build(cls, model: Dynamics, options: BackendOptions) -> Backend:
        """Ready for steps.

        Raises:
            V2WError: MODEL_ERROR; it cannot be built, or differs from eager float32 by more than
                the tolerance of its precision.
        """

    def warm_up(self, batch_size: int) -> None:
        """Steps of this batch size take no longer than later ones from here on."""

    def info(self) -> dict[str, Any]:
        """Name, device, versions, figures: plain data for reports."""


def unknown_precision(options: BackendOptions, known: Iterable[str]) -> str | None:
    """Part of a probe: why the precision cannot be had, or None."""
    if options.precision in known:
        return None
    return f"knows the precisions {', '.join(known)}, not {options.precision}"


def not_cacheable(model: Dynamics) -> str | None:
    """Part of a probe: why steps cannot be computed one by one, or None."""
    if model.config.action_guided and model.config.cacheable:
        return None
    return "needs a causal model with actions and statistics of each frame alone"


#: PyTorch's type of each precision.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
