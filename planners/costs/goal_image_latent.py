"""How far the imagined latents stay from the latents of a goal image; no frame is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from planners.costs.base import CostContext, Costs
from planners.costs.soft_minimum import SoftMinimum
from planners.costs.visited_views import VisitedViews, corrected
from v2w_core.errors import V2WError


def latent_distance(latents: Tensor, goal: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Mean squared difference [...] of latents [..., C, h, w] to goal [C, h, w].

    The mean over several average-pooled ``scales`` (1 is no pooling): coarse ones still fall when
    a view is turned by more than one cell and the fine one tells the last few degrees apart.
    Latents have about unit variance, so that unrelated views are 1 .. 2 apart at scale 1.
    """
    flat = latents.reshape(-1, *latents.shape[-3:]).float()
    target = goal[None].to(flat)
    total = torch.zeros(flat.shape[0], dtype=flat.dtype, device=flat.device)
    for scale in scales:
        here, there = flat, target
        if scale > 1:
            here = functional.avg_pool2d(flat, scale, ceil_mode=True)
            there = functional.avg_pool2d(target, scale, ceil_mode=True)
        total = total + (here - there).square().mean(dim=(1, 2, 3))
    return (total / len(scales)).reshape(latents.shape[:-3])


@dataclass(frozen=True)
class GoalImageLatent:
    """Distance of the imagined latents to a goal image's latents.

    Args:
        goal: latents [C, h, w] of the goal image (``world_model.encode(image[None])[0]``).
        scales: average-pooling sizes in latent cells that are compared.
        soft_minimum: how the distances of the steps become one cost.
        visited: what is known of the views around; needs a planar action space.
    """

    goal: Tensor
    scales: tuple[int, ...] = (1, 2)
    soft_minimum: SoftMinimum = field(default_factory=lambda: SoftMinimum(0.1, final_weight=0.0))
    visited: VisitedViews | None = None

    def __post_init__(self) -> None:
        if self.goal.ndim != 3:
            raise V2WError("GoalImageLatent.goal", "latents [C, h, w]", tuple(self.goal.shape))
        if not self.scales or any(scale < 1 for scale in self.scales):
            raise V2WError("GoalImageLatent.scales", "sizes of at least 1", self.scales)

    def distances(self, latents: Tensor) -> NDArray[np.float64]:
        """Distances [...] of latents [..., C, h, w] to the goal."""
        with torch.inference_mode():
            values = latent_distance(latents, self.goal, self.scales)
        return values.double().cpu().numpy()

    @property
    def needs_rollouts(self) -> bool:
        return True

    def __call__(self, context: CostContext) -> Costs:
        return self.soft_minimum(corrected(self.distances(context.latents), context, self.visited))
