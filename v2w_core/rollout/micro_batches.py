"""Candidates in micro-batches that fit into memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from v2w_core.device import out_of_memory
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Dynamics
from v2w_core.rollout.memory_budget import candidate_bytes, device_budget

#: More candidates at once than this are no faster on a CPU (benchmarks/memory.py).
MOST_ON_CPU = 64
MIB = 2**20

log = logging.getLogger(__name__)


def micro_batch(
    model: Dynamics,
    num_candidates: int,
    num_own: int,
    *,
    guided: bool,
    most_at_once: int | None = None,
) -> int:
    """How many of the candidates to compute at once, in parts of nearly the same size.

    Args:
        num_own: most frames that a candidate has of its own.
        most_at_once: candidates that the back end takes; None: any number.

    Raises:
        V2WError: MODEL_ERROR; not even one fits into the budget.
    """
    budget = model.memory_budget
    if budget is None:
        budget = device_budget(model.device)
    needed = candidate_bytes(model, num_own, guided=guided)
    fits = budget // needed
    if fits == 0:
        rule = f"at least {math.ceil(needed / MIB)} MiB, what one candidate needs"
        raise V2WError("memory budget", rule, f"{budget / MIB:.1f} MiB", code="MODEL_ERROR")
    if model.device.type == "cpu":
        fits = min(fits, MOST_ON_CPU)
    if most_at_once is not None:
        fits = min(fits, most_at_once)
    num_parts = math.ceil(num_candidates / fits)
    return math.ceil(num_candidates / num_parts)


def in_micro_batches(actions: Tensor, size: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute`` of [K, horizon, A], ``size`` of the K at a time.

    Where memory runs out all the same (others use it too), half as many are tried.
    """
    parts: list[Tensor] = []
    done = 0
    while done < len(actions):
        try:
            parts.append(compute(actions[done : done + size]))
        except Exception as error:  # each back end has one of its own
            if not out_of_memory(error):
                raise
            if size == 1:
                rule = "memory for one candidate"
                said = str(error).partition("\n")[0] or type(error).__name__
                raise V2WError("memory budget", rule, said, code="MODEL_ERROR") from error
            size //= 2
        else:
            done += len(parts[-1])
            continue
        # outside the handler, whose traceback keeps what the failed attempt had allocated
        torch.cuda.empty_cache()
        log.warning("out of memory: going on with %d candidates at once", size)
    return torch.cat(parts)
