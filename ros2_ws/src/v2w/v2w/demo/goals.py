"""The goals of the demo: images at the end of a free curve; poses, in buildings behind a wall."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions, relative_motion

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

Pose = tuple[float, float, float]
Kind = Literal["image", "pose"]
KINDS: tuple[Kind, Kind] = ("image", "pose")

#: Ranges of the curve's number of steps, its speed [m a step], and its whole turn [rad].
STEPS = (4, 8)
SPEED_M = (0.25, 0.42)
TURN_RAD = (math.radians(25.0), math.radians(80.0))
#: Goals are at least this far away; walls are this far from the robot along the curve [m].
MIN_DISTANCE_M = 1.0
#: Kinds of worlds with walls that matter, and the longest way around one [steps of 0.4 m].
WALLED = ("rooms",)
MOST_STEPS_AROUND = 10
CLEARANCE_M = 0.1


@dataclass(frozen=True)
class DemoGoal:
    """One goal.

    Attributes:
        kind: whether the robot gets the image or the pose.
        start, pose: (x m, y m, yaw rad) in the world, which is the odometry frame.
        steps: length of the curve that joins them, or of the shortest way around the wall.
        image: what the camera sees at the goal, uint8 [H, W, 3].
        continues: whether the start is the goal before this one.
        behind_wall: whether a robot that heads straight for it fails.
    """

    kind: Kind
    start: Pose
    pose: Pose
    steps: int
    image: NDArray[np.uint8]
    continues: bool
    behind_wall: bool = False

    @property
    def distance_m(self) -> float:
        """Straight distance from start to goal [m]."""
        return math.hypot(self.pose[0] - self.start[0], self.pose[1] - self.start[1])

    @property
    def turn_rad(self) -> float:
        """Angle from the yaw of the start to that of the goal [rad]."""
        return float(relative_motion(self.start, self.pose)[2])


def choose_goals(env: DoomMazeEnv, num_goals: int, seed: int) -> list[DemoGoal]:
    """Choose image and pose goals by turns, each starting at the last one if the world allows it.

    Pose goals lie behind a wall in the kinds of worlds of :data:`WALLED`. The same seed gives the
    same goals.

    Raises:
        V2WError: the world has no room for such goals.
    """
    rng = np.random.default_rng([seed, 11])
    goals: list[DemoGoal] = []
    for index in range(num_goals):
        kind = KINDS[index % 2]
        behind_wall = kind == "pose" and env.world.name in WALLED
        find = _behind_wall if behind_wall else _from
        found = None
        if goals:
            found = find(env, rng, goals[-1].pose, attempts=400)
        continues = found is not None
        start = goals[-1].pose if goals else (0.0, 0.0, 0.0)
        for _ in range(2000):
            if found is not None:
                break
            start = env.sample_free_pose(rng)
            found = find(env, rng, start, attempts=10)
        if found is None:
            raise V2WError("--world-seed", "a world with room to drive", env.world.seed)
        pose, steps = found
        image = env.teleport(*pose)["image"]
        goals.append(DemoGoal(kind, start, pose, steps, image, continues, behind_wall))
    return goals


def _behind_wall(
    env: DoomMazeEnv, rng: np.random.Generator, start: Pose, attempts: int
) -> tuple[Pose, int] | None:
    """A goal behind a wall, and the steps of the shortest way to it; or None."""
    from training.evaluation.suites import behind_wall

    for _ in range(attempts // 10):
        found = behind_wall(env, start, rng)
        if found is not None and found[1] <= MOST_STEPS_AROUND:
            return found
    return None


def _from(
    env: DoomMazeEnv, rng: np.random.Generator, start: Pose, attempts: int
) -> tuple[Pose, int] | None:
    """A goal at the end of a free curve from ``start``, and the steps of the curve; or None."""
    for _ in range(attempts):
        steps = int(rng.integers(STEPS[0], STEPS[1] + 1))
        turn = float(rng.choice([-1.0, 1.0]) * rng.uniform(*TURN_RAD)) / steps
        speed = float(rng.uniform(*SPEED_M))
        path = integrate_actions(np.tile([speed, 0.0, turn], (steps, 1)), start)
        straight = np.linspace(path[0], path[-1], 12)
        pose = (float(path[-1, 0]), float(path[-1, 1]), float(path[-1, 2]))
        far = math.hypot(pose[0] - start[0], pose[1] - start[1]) >= MIN_DISTANCE_M
        places = np.concatenate([path[1:], straight[1:]])
        if far and all(
            env.world.is_free(float(x), float(y), margin_m=CLEARANCE_M) for x, y, _ in places
        ):
            return pose, steps
    return None
