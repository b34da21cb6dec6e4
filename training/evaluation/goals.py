"""Starts and goals of closed-loop evaluation, and when a goal is reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.geometry import relative_motion

#: Tolerances within which a goal is reached.
REACHED_M = 0.4
REACHED_RAD = math.radians(20.0)

Pose = tuple[float, float, float]


@dataclass(frozen=True)
class GoalCase:
    """A start and a goal.

    Attributes:
        world_seed: of the world in which they lie.
        steps: how many steps the goal is away (see :mod:`training.evaluation.suites`).
        way_m: length of the shortest way from start to goal.
        history_poses: [H, 3] of the drive that ends at the start, which is the last one.
        history_commands, history_motion: float32 [H - 1, 3], what the robot was told on that drive
            and the displacements that followed (dx m, dy m, dyaw rad in the body frame).
        goal_pose: (x m, y m, yaw rad) in the world.
    """

    world_seed: int
    steps: int
    way_m: float
    history_poses: NDArray[np.float64]
    history_commands: NDArray[np.float32]
    history_motion: NDArray[np.float32]
    goal_pose: Pose

    @property
    def start_pose(self) -> Pose:
        return as_pose(self.history_poses[-1])

    def to_json(self) -> dict[str, Any]:
        """The case as JSON values; every float is written exactly."""
        return {
            "world_seed": self.world_seed,
            "steps": self.steps,
            "way_m": self.way_m,
            "start": list(self.start_pose),
            "goal": list(self.goal_pose),
            "history_poses": self.history_poses.tolist(),
            "history_commands": self.history_commands.tolist(),
            "history_motion": self.history_motion.tolist(),
        }


def as_pose(values: Sequence[float] | NDArray[np.float64]) -> Pose:
    """The first three values as a tuple of floats."""
    return float(values[0]), float(values[1]), float(values[2])


def errors(pose: Pose, goal: Pose) -> tuple[float, float]:
    """Distance in metres and absolute yaw error in radians."""
    dx, dy, dyaw = relative_motion(pose, goal)
    return float(np.hypot(dx, dy)), float(abs(dyaw))


def is_reached(pose: Pose, goal: Pose) -> bool:
    """Whether the pose is within 0.4 m and 20 degrees of the goal."""
    metres, radians = errors(pose, goal)
    return metres <= REACHED_M and radians <= REACHED_RAD
