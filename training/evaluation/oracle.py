"""The upper bound: a planner that knows the goal's pose and the map.

In free space the simulated robot moves as it is told to a millimetre, and where it fits is known
exactly; so the map alone says what a plan leads to, much faster than the simulator does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planners.costs.base import Cost, CostContext, Costs
from planners.costs.soft_minimum import SoftMinimum
from planners.costs.visited_views import VisitedViewsMemory
from planners.goals import Arrival, PoseGoal
from planners.observation import Observation
from planners.planner import PlanResult
from training.envs.paths import Paths
from training.evaluation.goals import Pose
from v2w_core.geometry import wrap_angle

#: Places along a step at which the map is asked.
PLACES_A_STEP = 6
#: Metres that a radian of yaw error counts as at the goal; less from far away.
YAW_WEIGHT_M = 0.5
#: Metres that a step which hits a wall counts as.
HIT_M = 0.5
#: How the steps' costs become one, as for goal poses [m].
SOFT_MINIMUM = SoftMinimum(temperature=0.2)


def drive_on_map(
    paths: Paths, start: Pose, candidates: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where candidates lead; in a step that hits a wall the robot stops there.

    Args:
        paths: of the world.
        start: (x m, y m, yaw rad).
        candidates: displacements [K, horizon, 3] in the body frame.

    Returns:
        poses [K, horizon, 3] after each step, and which steps [K, horizon] hit a wall.
    """
    moves = np.asarray(candidates, np.float64)
    poses, hits = np.empty(moves.shape), np.empty(moves.shape[:2], np.bool_)
    here, yaw = np.tile(start[:2], (len(moves), 1)), np.full(len(moves), start[2])
    parts = np.linspace(0.0, 1.0, PLACES_A_STEP + 1)[1:]
    for step in range(moves.shape[1]):
        dx, dy = moves[:, step, 0], moves[:, step, 1]
        cos, sin = np.cos(yaw), np.sin(yaw)
        way = np.stack([cos * dx - sin * dy, sin * dx + cos * dy], axis=-1)
        free = paths.fits(here[:, None] + parts[:, None] * way[:, None])
        num_free = np.logical_and.accumulate(free, axis=1).sum(axis=1)
        here = here + np.concatenate([[0.0], parts])[num_free, None] * way
        yaw = wrap_angle(yaw + moves[:, step, 2])
        hits[:, step] = num_free < PLACES_A_STEP
        poses[:, step] = np.concatenate([here, yaw[:, None]], axis=1)
    return poses, hits


@dataclass(frozen=True)
class MapCost:
    """What is left of the shortest way, near the goal the yaw error, and steps that hit walls."""

    paths: Paths
    start: Pose
    goal: Pose
    needs_rollouts: bool = False

    def __call__(self, context: CostContext) -> Costs:
        poses, hits = drive_on_map(self.paths, self.start, context.candidates)
        metres = self.paths.distances(poses[..., :2], self.goal)
        radians = np.abs(wrap_angle(poses[..., 2] - self.goal[2]))
        away = metres + YAW_WEIGHT_M * radians * np.exp(-metres)
        return SOFT_MINIMUM(away) + HIT_M * hits.sum(axis=1)


@dataclass(frozen=True)
class OracleGoal:
    """A goal pose in a world whose map is known."""

    paths: Paths
    goal: PoseGoal

    def cost(self, observation: Observation, memory: VisitedViewsMemory | None = None) -> Cost:
        assert observation.pose is not None
        return MapCost(self.paths, observation.pose, self.goal.pose)

    def arrival(
        self,
        observation: Observation,
        plan: PlanResult | None = None,
        memory: VisitedViewsMemory | None = None,
    ) -> Arrival:
        return self.goal.arrival(observation, plan)

    def observe(self, observation: Observation, memory: VisitedViewsMemory) -> None:
        """Does nothing: the map has the walls."""
