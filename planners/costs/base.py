"""What a cost may look at (:class:`CostContext`, everything lazily) and how costs are summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from planners.protocols import FloatArray, Rollouts, UInt8Array
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec

Costs = NDArray[np.float64]


class CostContext:
    """K candidates and what follows from them; nothing is imagined or decoded before it is
    needed, and then only once.

    Args:
        candidates: [K, horizon, A] in physical units.
        spec: the action space.
        imagine: makes the rollouts of exactly these candidates; None: a model-free context.
        predicts_motion: whether poses are those of the rollouts; otherwise the commands are
            integrated, as if the robot always moved as it is told.
        previous_action: [A], the action before the first one, where it is known.
    """

    def __init__(
        self,
        candidates: FloatArray,
        spec: ActionSpec,
        imagine: Callable[[FloatArray], Rollouts] | None = None,
        *,
        predicts_motion: bool = False,
        previous_action: FloatArray | None = None,
    ) -> None:
        self.candidates = candidates
        self.spec = spec
        self.previous_action = previous_action
        self._imagine = imagine
        self._predicts_motion = predicts_motion

    @property
    def num_candidates(self) -> int:
        return int(self.candidates.shape[0])

    @property
    def horizon(self) -> int:
        return int(self.candidates.shape[1])

    @property
    def was_imagined(self) -> bool:
        """True once a cost has asked for rollouts."""
        return "rollouts" in self.__dict__

    @cached_property
    def rollouts(self) -> Rollouts:
        """The imagined futures. Raises V2WError when there is no model."""
        if self._imagine is None:
            raise V2WError("cost", "needs a world model's session, none was given")
        return self._imagine(self.candidates)

    @property
    def latents(self) -> Tensor:
        """Imagined latents [K, horizon, C, h, w]."""
        return self.rollouts.latents

    @cached_property
    def frames(self) -> UInt8Array:
        """Imagined RGB frames uint8 [K, horizon, H, W, 3]; decoding is slow."""
        return self.rollouts.frames()

    @cached_property
    def poses(self) -> NDArray[np.float64]:
        """Poses [K, horizon + 1, 3] (x m, y m, yaw rad) in the current body frame.

        Raises V2WError when the action space is not planar.
        """
        if self._predicts_motion:
            imagined = self.rollouts.poses
            return np.concatenate([np.zeros_like(imagined[:, :1]), imagined], axis=1)
        return planar_path(self.candidates, self.spec)


def planar_path(actions: ArrayLike, spec: ActionSpec) -> NDArray[np.float64]:
    """Poses [..., horizon + 1, 3] that actions [..., horizon, A] lead to from (0, 0, 0)."""
    columns = list(spec.planar_indices())
    planar = np.asarray(actions, dtype=np.float64)[..., columns]
    return np.asarray(integrate_actions(planar, (0.0, 0.0, 0.0)), dtype=np.float64)


class Cost(Protocol):
    """One term; lower is better.

    A term says whether it looks at what would happen (``context.rollouts``), so that candidates of
    one that does not are never imagined. A plain function counts as one that does.
    """

    @property
    def needs_rollouts(self) -> bool:
        """Whether the cost asks for ``context.rollouts``, ``latents`` or ``frames``."""
        ...

    def __call__(self, context: CostContext) -> Costs:
        """Costs float64 [K]."""
        ...


@dataclass(frozen=True)
class WeightedSum:
    """The sum of weight * term over named terms.

    Args:
        terms: name -> (weight, cost); a weight of 0 leaves its term out without computing it.
    """

    terms: Mapping[str, tuple[float, Cost]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (weight, _) in self.terms.items():
            if not np.isfinite(weight):
                raise V2WError(f"WeightedSum.{name}", "a finite weight", weight)

    @property
    def needs_rollouts(self) -> bool:
        return any(
            getattr(cost, "needs_rollouts", True) for weight, cost in self.terms.values() if weight
        )

    def breakdown(self, context: CostContext) -> dict[str, Costs]:
        """The weighted terms [K] by name."""
        return {
            name: weight * np.asarray(cost(context), dtype=np.float64)
            for name, (weight, cost) in self.terms.items()
            if weight != 0
        }

    def __call__(self, context: CostContext) -> Costs:
        total: Costs = np.zeros(context.num_candidates)
        for values in self.breakdown(context).values():
            total = total + values
        return total
