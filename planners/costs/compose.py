"""A plan's cost, made of terms by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planners.costs.base import Cost, WeightedSum
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_image_learned import GoalImageLearned
from planners.costs.goal_image_pixel import GoalImagePixel
from planners.costs.goal_pose import GoalPose
from planners.costs.settings import (
    GoalImageLatentSettings,
    GoalImagePixelSettings,
    GoalImageSettings,
    GoalPoseSettings,
    SmoothnessSettings,
    Terms,
)
from planners.costs.smoothness import Smoothness
from planners.costs.soft_minimum import SoftMinimum
from planners.costs.visited_views import VisitedViews
from planners.protocols import ImaginationModel, UInt8Array
from v2w_core.errors import V2WError

GoalImageTerm = GoalImageLatent | GoalImageLearned


def goal_image_term(model: ImaginationModel, frame: UInt8Array) -> GoalImageTerm:
    """The best distance to a goal image uint8 [H, W, 3] that the model knows."""
    latents = model.encode(frame[None])[0]
    if model.goal_distance is None:
        return GoalImageLatent(latents)
    return GoalImageLearned(model.goal_distance, latents)


@dataclass(frozen=True)
class CostTarget:
    """What the terms of one plan are about; None where the goal is of another kind.

    Attributes:
        image: the distance to the goal image (see :func:`goal_image_term`).
        frame: the goal image uint8 [H, W, 3] in the size of the model's frames.
        visited: views that are known, in the unit of ``image``; None: none are.
        pose: the goal pose (x m, y m, yaw rad) in the current body frame.
    """

    image: GoalImageTerm | None = None
    frame: UInt8Array | None = None
    visited: VisitedViews | None = None
    pose: tuple[float, float, float] | None = None

    def goal_image(self) -> GoalImageTerm:
        """The distance. Raises V2WError without a goal image."""
        if self.image is None:
            raise V2WError("costs", "terms of goal images only with a goal image")
        return self.image


def _goal_image(target: CostTarget, settings: GoalImageSettings) -> Cost:
    soft_minimum = SoftMinimum(settings.temperature, settings.final_weight)
    return replace(target.goal_image(), soft_minimum=soft_minimum, visited=target.visited)


def _goal_image_latent(target: CostTarget, settings: GoalImageLatentSettings) -> Cost:
    soft_minimum = SoftMinimum(settings.temperature, settings.final_weight)
    return GoalImageLatent(target.goal_image().goal, soft_minimum=soft_minimum)


def _goal_image_pixel(target: CostTarget, settings: GoalImagePixelSettings) -> Cost:
    if target.frame is None:
        raise V2WError("costs", "terms of goal images only with a goal image")
    soft_minimum = SoftMinimum(settings.temperature, settings.final_weight)
    return GoalImagePixel(target.frame, soft_minimum=soft_minimum)


def _goal_pose(target: CostTarget, settings: GoalPoseSettings) -> Cost:
    if target.pose is None:
        raise V2WError("costs", "terms of goal poses only with a goal pose")
    soft_minimum = SoftMinimum(settings.temperature, settings.final_weight)
    return GoalPose(target.pose, settings.yaw_weight_m, soft_minimum)


def _smoothness(target: CostTarget, settings: SmoothnessSettings) -> Cost:
    return Smoothness(settings.effort)


BUILDERS: Mapping[str, Callable[[CostTarget, Any], Cost]] = {
    "goal_image": _goal_image,
    "goal_image_latent": _goal_image_latent,
    "goal_image_pixel": _goal_image_pixel,
    "goal_pose": _goal_pose,
    "smoothness": _smoothness,
}


def compose(terms: Terms, target: CostTarget) -> WeightedSum:
    """The weighted sum of the terms whose weight is not 0.

    Raises:
        V2WError: an unknown name, no term at all, or one that is about another kind of goal.
    """
    for name in terms:
        if name not in BUILDERS:
            raise V2WError("costs", f"some of {', '.join(BUILDERS)}", name)
    chosen = {name: term for name, term in terms.items() if term.weight}
    if not chosen:
        raise V2WError("costs", "at least one term with a weight above 0", dict(terms))
    return WeightedSum(
        {name: (term.weight, BUILDERS[name](target, term)) for name, term in chosen.items()}
    )
