"""Optimisers by name; add one here and every command offers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planners.optimizers.base import Optimizer
from planners.optimizers.cem import CEM
from planners.optimizers.cma_es import CMAES
from planners.optimizers.mppi import MPPI
from v2w_core.errors import V2WError

OPTIMIZERS: dict[str, Callable[[], Optimizer[Any]]] = {"cem": CEM, "mppi": MPPI, "cma_es": CMAES}


def make_optimizer(name: str) -> Optimizer[Any]:
    """An optimiser with its default settings. Raises V2WError for an unknown name."""
    if name not in OPTIMIZERS:
        raise V2WError("optimizer", f"one of {', '.join(OPTIMIZERS)}", name)
    return OPTIMIZERS[name]()
