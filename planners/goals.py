"""What a robot is sent to: a goal gives the cost of a plan and knows when the robot is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import Cost
from planners.costs.compose import CostTarget, GoalImageTerm, compose, goal_image_term
from planners.costs.settings import IMAGE_GOAL_COSTS, POSE_GOAL_COSTS, Terms
from planners.costs.visited_views import VisitedViews, VisitedViewsMemory, history_poses
from planners.observation import Observation
from planners.planner import PlanResult
from planners.protocols import ImaginationModel, Pose, UInt8Array
from v2w_core.errors import V2WError
from v2w_core.geometry import relative_motion, wrap_angle

#: (arrival_distance, near_distance) of an image goal, in the unit of its distance.
LATENT_ARRIVAL = (0.1, 0.3)
LEARNED_ARRIVAL = (0.05, 0.25)


@dataclass(frozen=True)
class Arrival:
    """Whether the robot believes to be there.

    Attributes:
        distance: to the goal, in the goal's own unit (metres; of views without unit).
        reason: empty, or why it believes to have arrived.
    """

    arrived: bool
    distance: float
    reason: str = ""


class Goal(Protocol):
    """Where to, for the receding-horizon loop. Goals remember nothing themselves.

    ``memory`` holds earlier observations of the drive; None where nothing is remembered.
    """

    def cost(self, observation: Observation, memory: VisitedViewsMemory | None = None) -> Cost:
        """The cost of the next plan."""
        ...

    def arrival(
        self,
        observation: Observation,
        plan: PlanResult | None = None,
        memory: VisitedViewsMemory | None = None,
    ) -> Arrival:
        """Asked before planning (without a plan) and again with the plan that was made."""
        ...

    def observe(self, observation: Observation, memory: VisitedViewsMemory) -> None:
        """Adds what the observation tells to the memory; once a plan, after its cost was made."""
        ...


@dataclass(frozen=True)
class ImageGoal:
    """Go to where the camera sees ``frame``.

    Where the robot has been, its camera knows better than the model: the frames of the history,
    and all that were seen on the way here (the memory, for observations with a pose), correct
    the imagined distances near them (see ``VisitedViews``; planar action spaces only).

    How far a view is from the goal's is what the model has learned (``GoalImageLearned``); with a
    model that has not, the difference of the latents (``GoalImageLatent``).

    The robot believes to have arrived when the camera's view is within ``arrival_distance`` of the
    goal. A plan is a second opinion: when the view is within ``near_distance`` and the
    step of the best plan that looks most like the goal is less than ``near_m`` and ``near_rad``
    away from where the robot stands, or no better than the present view, it need not move either.

    Args:
        model: encodes the goal and what the camera sees.
        frame: uint8 [H, W, 3] RGB; pixels can only be compared in the size of the model's frames.
        arrival_distance, near_distance: in the unit of the distance; None: 0.05 and 0.25 for the
            learned one (see ``GoalDistanceConfig``), 0.1 and 0.3 for latents.
        near_m, near_rad: metres and radians along the plan.
        costs: the terms of a plan's cost.
        revisit_penalty: what a place gets worse by each time the robot has looked around there
            without arriving, so that it does not stand for ever where nothing better is in sight.
    """

    model: ImaginationModel
    frame: UInt8Array
    arrival_distance: float | None = None
    near_distance: float | None = None
    near_m: float = 0.2
    near_rad: float = 0.17
    costs: Terms = field(default_factory=lambda: IMAGE_GOAL_COSTS)
    revisit_penalty: float = 0.2

    def __post_init__(self) -> None:
        if self.frame.ndim != 3 or self.frame.shape[-1] != 3 or self.frame.dtype != np.uint8:
            rule = "an RGB image uint8 [H, W, 3]"
            raise V2WError("goal_image", rule, (self.frame.shape, str(self.frame.dtype)))
        learned = self.model.goal_distance is not None
        defaults = LEARNED_ARRIVAL if learned else LATENT_ARRIVAL
        for name, value in zip(("arrival_distance", "near_distance"), defaults, strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @cached_property
    def term(self) -> GoalImageTerm:
        """The distance to the goal; the goal image is encoded when it is first needed."""
        return goal_image_term(self.model, self.frame)

    def cost(self, observation: Observation, memory: VisitedViewsMemory | None = None) -> Cost:
        visited = self._visited(observation, len(observation.frames), memory)
        return compose(self.costs, CostTarget(self.term, self.frame, visited))

    def arrival(
        self,
        observation: Observation,
        plan: PlanResult | None = None,
        memory: VisitedViewsMemory | None = None,
    ) -> Arrival:
        now = float(self._distances(observation, 1)[0])
        assert self.arrival_distance is not None and self.near_distance is not None
        if now <= self.arrival_distance:
            return Arrival(True, now, "the camera sees the goal image")
        if now <= self.near_distance and plan is not None and plan.latents is not None:
            distances = self.term.distances(plan.latents)
            near = False
            if plan.poses is not None:
                visited = self._visited(observation, 1, memory)
                if visited is not None:
                    distances = visited.correct(distances, plan.poses[1:])
                x, y, yaw = plan.poses[int(distances.argmin()) + 1]
                near = bool(np.hypot(x, y) <= self.near_m and abs(wrap_angle(yaw)) <= self.near_rad)
            if near or distances.min() >= now:
                return Arrival(True, now, "the plan leads no nearer")
        return Arrival(False, now)

    def observe(self, observation: Observation, memory: VisitedViewsMemory) -> None:
        if observation.pose is not None and self.model.config.action.is_planar:
            distances = self._distances(observation, len(observation.frames))
            memory.add(observation.pose, float(distances[-1]))

    def _distances(self, observation: Observation, num_frames: int) -> NDArray[np.float64]:
        """Distances of the newest frames to the goal, float [num_frames]."""
        return self.term.distances(observation.latents(self.model)[-num_frames:])

    def _visited(
        self, observation: Observation, num_frames: int, memory: VisitedViewsMemory | None
    ) -> VisitedViews | None:
        """The memory and the newest frames, in the current body frame; None: not planar."""
        spec = self.model.config.action
        if not spec.is_planar:
            return None
        actions = np.asarray(observation.actions)[:, list(spec.planar_indices())]
        poses = history_poses(actions)[-num_frames:]
        distances = self._distances(observation, num_frames)
        past = None
        if memory is not None and observation.pose is not None:
            past = memory.around(observation.pose, self.revisit_penalty)
        if past is not None:
            poses = np.concatenate([past.poses, poses])
            distances = np.concatenate([past.distances, distances])
        return VisitedViews(poses, distances)


@dataclass(frozen=True)
class PoseGoal:
    """Go to ``pose`` (x m, y m, yaw rad) in a fixed frame; obstacles are not known.

    Args:
        pose: in the frame of ``Observation.pose``.
        tolerance_m, tolerance_rad: within both, the robot believes to have arrived.
        costs: the terms of a plan's cost.
    """

    pose: Pose
    tolerance_m: float = 0.2
    tolerance_rad: float = 0.17
    costs: Terms = field(default_factory=lambda: POSE_GOAL_COSTS)

    def relative(self, observation: Observation) -> NDArray[np.float64]:
        """The goal in the current body frame. Raises V2WError without an observed pose."""
        if observation.pose is None:
            raise V2WError("goal_pose", "needs the robot's pose (odometry)")
        return relative_motion(observation.pose, self.pose)

    def cost(self, observation: Observation, memory: VisitedViewsMemory | None = None) -> Cost:
        x, y, yaw = (float(value) for value in self.relative(observation))
        return compose(self.costs, CostTarget(pose=(x, y, yaw)))

    def arrival(
        self,
        observation: Observation,
        plan: PlanResult | None = None,
        memory: VisitedViewsMemory | None = None,
    ) -> Arrival:
        x, y, yaw = self.relative(observation)
        metres, radians = float(np.hypot(x, y)), float(abs(wrap_angle(yaw)))
        arrived = metres <= self.tolerance_m and radians <= self.tolerance_rad
        return Arrival(arrived, metres, "the pose is reached" if arrived else "")

    def observe(self, observation: Observation, memory: VisitedViewsMemory) -> None:
        """Nothing: where the goal is does not depend on what was seen."""
