"""Limits of an action sequence: bounds from the ActionSpec and, optionally, rates of change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planners.protocols import FloatArray
from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec


@dataclass(frozen=True)
class Bounds:
    """Box and rate limits in physical units; every array has shape [A].

    Attributes:
        low, high: inclusive bounds of one action.
        max_change: largest change of each entry from one step to the next; None is no limit.
        previous_action: the action that is being executed now; with ``max_change`` it limits the
            first step too.
    """

    low: FloatArray
    high: FloatArray
    max_change: FloatArray | None = None
    previous_action: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "max_change", "previous_action"):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=np.float32)
            if array.ndim != 1 or array.shape != np.shape(self.low):
                raise V2WError(f"Bounds.{name}", f"shape {np.shape(self.low)}", array.shape)
            if not np.isfinite(array).all():
                raise V2WError(f"Bounds.{name}", "finite numbers", array.tolist())
            object.__setattr__(self, name, array)
        if (self.low >= self.high).any():
            raise V2WError("Bounds.low", "each below its high", (self.low, self.high))
        if self.max_change is not None and (self.max_change <= 0).any():
            raise V2WError("Bounds.max_change", "positive numbers", self.max_change.tolist())

    @classmethod
    def from_spec(
        cls,
        spec: ActionSpec,
        *,
        max_change: Sequence[float] | None = None,
        previous_action: ArrayLike | None = None,
    ) -> Bounds:
        """The bounds of a robot's action space."""
        return cls(
            np.asarray(spec.low, dtype=np.float32),
            np.asarray(spec.high, dtype=np.float32),
            None if max_change is None else np.asarray(max_change, dtype=np.float32),
            None if previous_action is None else spec.clip(previous_action),
        )

    @property
    def dim(self) -> int:
        return int(self.low.shape[0])

    @property
    def centre(self) -> FloatArray:
        return np.asarray((self.low + self.high) / 2, dtype=np.float32)

    @property
    def half_range(self) -> FloatArray:
        return np.asarray((self.high - self.low) / 2, dtype=np.float32)

    @property
    def rest(self) -> FloatArray:
        """The action nearest to zero (standing still, for displacements and velocities)."""
        return np.clip(np.zeros_like(self.low), self.low, self.high)

    def apply(self, candidates: ArrayLike) -> FloatArray:
        """Candidates [..., horizon, A] moved into the bounds and the rate limits, float32."""
        array = np.clip(np.asarray(candidates, dtype=np.float32), self.low, self.high)
        if self.max_change is None:
            return array
        before = self.previous_action
        for step in range(array.shape[-2]):
            if before is not None:
                lowest = np.maximum(before - self.max_change, self.low)
                highest = np.minimum(before + self.max_change, self.high)
                array[..., step, :] = np.clip(array[..., step, :], lowest, highest)
            before = array[..., step, :]
        return array

    def contains(self, candidates: ArrayLike, *, slack: float = 1e-6) -> bool:
        """True when every candidate [..., horizon, A] keeps all limits (to ``slack``)."""
        array = np.asarray(candidates, dtype=np.float32)
        if (array < self.low - slack).any() or (array > self.high + slack).any():
            return False
        if self.max_change is None:
            return True
        if self.previous_action is not None:
            first = np.broadcast_to(self.previous_action, array[..., :1, :].shape)
            array = np.concatenate([first, array], axis=-2)
        return bool((np.abs(np.diff(array, axis=-2)) <= self.max_change + slack).all())
