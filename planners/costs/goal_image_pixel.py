"""How far the imagined frames stay from a goal image, in pixels; every frame is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import CostContext, Costs
from planners.costs.soft_minimum import SoftMinimum
from planners.protocols import UInt8Array
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class GoalImagePixel:
    """Root mean squared difference of brightness (0 .. 1) to a goal image, after block averaging.

    Args:
        goal: uint8 [H, W, 3] RGB in the size of the model's frames (``world_model.preprocess``).
        block: pixels a side of the blocks that are averaged before comparing; H and W are
            cropped to multiples of it.
        soft_minimum: how the distances of the steps become one cost.
    """

    goal: UInt8Array
    block: int = 4
    soft_minimum: SoftMinimum = field(default_factory=lambda: SoftMinimum(temperature=0.01))

    def __post_init__(self) -> None:
        if self.goal.ndim != 3 or self.goal.shape[-1] != 3 or self.goal.dtype != np.uint8:
            rule = "an RGB image uint8 [H, W, 3]"
            raise V2WError("GoalImagePixel.goal", rule, (self.goal.shape, str(self.goal.dtype)))
        if not 1 <= self.block <= min(self.goal.shape[:2]):
            raise V2WError("GoalImagePixel.block", "from 1 to the image's size", self.block)

    def distances(self, frames: UInt8Array) -> NDArray[np.float64]:
        """Distances [...] of frames uint8 [..., H, W, 3] to the goal."""
        if frames.shape[-3:] != self.goal.shape:
            raise V2WError("GoalImagePixel.goal", f"frames of {self.goal.shape}", frames.shape)
        difference = _blocks(frames, self.block) - _blocks(self.goal, self.block)
        return np.sqrt(np.mean(np.square(difference), axis=(-1, -2, -3), dtype=np.float64))

    @property
    def needs_rollouts(self) -> bool:
        return True

    def __call__(self, context: CostContext) -> Costs:
        return self.soft_minimum(self.distances(context.frames))


def _blocks(frames: UInt8Array, block: int) -> NDArray[np.float32]:
    """Block means float32 [..., H // block, W // block, 3] in 0 .. 1."""
    rows, columns = frames.shape[-3] // block, frames.shape[-2] // block
    cropped = frames[..., : rows * block, : columns * block, :]
    shape = (*frames.shape[:-3], rows, block, columns, block, 3)
    means = cropped.reshape(shape).mean(axis=(-4, -2), dtype=np.float32)
    return np.asarray(means / np.float32(255), dtype=np.float32)
