"""How far the imagined views are from where a goal image was taken, as the model has learned it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from planners.costs.base import CostContext, Costs
from planners.costs.soft_minimum import SoftMinimum
from planners.costs.visited_views import VisitedViews, corrected
from v2w_core.errors import V2WError


@dataclass(frozen=True)
class GoalImageLearned:
    """Expected distance of the imagined latents to a goal image (``WorldModel.goal_distance``).

    Args:
        network: views [N, C, h, w], goal [1, C, h, w] -> distance [N].
        goal: latents [C, h, w] of the goal image.
        soft_minimum, visited: as in ``GoalImageLatent``.
    """

    network: nn.Module
    goal: Tensor
    soft_minimum: SoftMinimum = field(default_factory=lambda: SoftMinimum(0.1, final_weight=0.0))
    visited: VisitedViews | None = None

    def __post_init__(self) -> None:
        if self.goal.ndim != 3:
            raise V2WError("GoalImageLearned.goal", "latents [C, h, w]", tuple(self.goal.shape))

    def distances(self, latents: Tensor) -> NDArray[np.float64]:
        """Distances [...] of latents [..., C, h, w] to the goal."""
        with torch.inference_mode():
            flat = latents.reshape(-1, *latents.shape[-3:])
            values = self.network(flat, self.goal[None].to(flat)).reshape(latents.shape[:-3])
        return values.double().cpu().numpy()

    @property
    def needs_rollouts(self) -> bool:
        return True

    def __call__(self, context: CostContext) -> Costs:
        return self.soft_minimum(corrected(self.distances(context.latents), context, self.visited))
