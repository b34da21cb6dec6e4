"""Back ends whose steps work on static caches (:mod:`static_step`): who keeps them and how.

A batch is padded to one of a few sizes, its bucket. Every bucket has its own slots, which lie where
they are for good; the history's are common to all. So there is one past at a time: a rollout that
begins ends the one before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.engine_cache import read_manifest
from v2w_core.backends.parity import measure
from v2w_core.backends.torch_step.static_cache import (
    BUCKETS,
    StaticCachePool,
    StaticCacheView,
    StepFunction,
)
from v2w_core.backends.torch_step.static_step import StepVariant
from v2w_core.device import device_errors, exact_float32
from v2w_core.models.temporal_cache import Cache
from v2w_core.rollout.interfaces import Dynamics


class StaticBackend(ABC):
    """A back end on slots; what computes the steps is up to the class derived from it."""

    name: str
    max_batch_size: int | None = BUCKETS[-1]

    def __init__(
        self,
        model: Dynamics,
        options: BackendOptions,
        folder: Path | None,
        *,
        captured: bool = False,
    ) -> None:
        self._model = model
        self._folder = folder
        self._slots = StaticCachePool(
            model.config.num_frames, options.precision, self._make_step, captured=captured
        )

    @abstractmethod
    def _make_step(self, variant: StepVariant, batch_size: int) -> StepFunction:
        """The step of the runtime for one variant of pass and this batch size."""

    def warm_up(self, batch_size: int) -> None:
        """Compiles, loads and records what this model's rollouts need."""
        measure(self._model, self, batch_size, horizon=2)

    def rollout_context(self) -> AbstractContextManager[None]:
        return device_errors(self.name)

    def start(self, history: Cache, batch_size: int, num_suffix: int) -> StaticCacheView:
        return self._slots.start(history, batch_size)

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: StaticCacheView,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, StaticCacheView]:
        given = [latents, level, actions, mask]
        with exact_float32(fixed_shapes=True):
            return self._slots.step(given, past, keep=keep, guided=guided)

    def evict(self, past: StaticCacheView, index: int) -> StaticCacheView:
        return self._slots.evict(past, index)

    def select(self, past: StaticCacheView, indices: Tensor) -> StaticCacheView:
        return self._slots.select(past, indices)

    def info(self) -> dict[str, Any]:
        if self._folder is None:
            return {"backend": self.name, "device": str(self._model.device)}
        return {"backend": self.name, "folder": str(self._folder), **read_manifest(self._folder)}
