"""Image goals for closed-loop evaluation, with start and goal pose from recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.envs.worlds import world_of
from v2w_core.data.episode import Episode, read_episode
from v2w_core.errors import DataError, V2WError
from v2w_core.geometry import planar, relative_motion

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

#: Tolerances within which a goal is reached.
REACHED_M = 0.4
REACHED_RAD = math.radians(20.0)

Pose = tuple[float, float, float]


@dataclass(frozen=True)
class GoalCase:
    """A start and a goal.

    Attributes:
        episode: name of the recording.
        start: frame index of the start.
        steps: number of frames from the start to the goal.
        history_poses: [num_history, 3], the last one is the start.
        history_actions: [num_history - 1, 3], recorded displacements between them.
        goal_pose: (x m, y m, yaw rad) in the world.
    """

    episode: str
    start: int
    steps: int
    history_poses: NDArray[np.float64]
    history_actions: NDArray[np.float32]
    goal_pose: Pose

    @property
    def start_pose(self) -> Pose:
        return as_pose(self.history_poses[-1])


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


def world_of_episodes(paths: Sequence[Path]) -> tuple[str, int]:
    """Name and seed of the world in which all episodes were recorded.

    Raises:
        DataError: there is no episode, or they are not of one world.
    """
    if not paths:
        raise DataError("--episodes", "a folder with episodes of v2w collect", "no episode")
    worlds = {world_of(read_episode(path).attributes) for path in paths}
    found = worlds.pop() if len(worlds) == 1 else None
    if found is None:
        shown = [f"{w[0]} {w[1]}" if w else "unknown" for w in sorted(worlds, key=str)]
        raise DataError("--episodes", "episodes of v2w collect, all of one world", shown[:5])
    return found


def select_goals(
    paths: Sequence[Path],
    num_goals: int,
    *,
    env: DoomMazeEnv,
    num_history: int,
    steps: tuple[int, int] = (4, 8),
    seed: int = 0,
) -> list[GoalCase]:
    """Random goals, spread evenly over the episodes; the same seed gives the same goals.

    A goal is a recorded view ``steps`` (minimum, maximum) frames after the start, and more than
    0.4 m or 20 degrees away from it. All poses of a case must be free of collisions.

    Raises:
        DataError: the episodes do not have enough goals.
    """
    if num_goals < 1:
        raise V2WError("--goals", "at least 1", num_goals)
    rng = np.random.default_rng(seed)
    cases: list[GoalCase] = []
    seen: set[tuple[int, int]] = set()
    order = rng.permutation(len(paths))
    episodes: dict[int, Episode] = {}
    for attempt in range(200 * num_goals):
        if len(cases) == num_goals:
            return cases
        index = int(order[attempt % len(paths)])
        if index not in episodes:
            episodes[index] = read_episode(paths[index])
        ahead = int(rng.integers(steps[0], steps[1] + 1))
        last = len(episodes[index]) - 1 - ahead
        if last < num_history - 1:
            continue
        start = int(rng.integers(num_history - 1, last + 1))
        case = _case(episodes[index], start, ahead, num_history)
        if (index, start) in seen or is_reached(case.start_pose, case.goal_pose):
            continue
        places = [*case.history_poses, np.asarray(case.goal_pose)]
        if all(env.is_free(float(pose[0]), float(pose[1])) for pose in places):
            seen.add((index, start))
            cases.append(case)
    rule = f"enough frames for {num_goals} goals {steps[0]} to {steps[1]} steps away"
    raise DataError("--episodes", rule, f"{len(paths)} episodes, {len(cases)} goals")


def _case(episode: Episode, start: int, ahead: int, num_history: int) -> GoalCase:
    first = start - num_history + 1
    poses, motion = planar(episode.poses), episode.motion
    assert motion is not None, "the simulator's actions are planar"
    return GoalCase(
        episode=episode.path.name,
        start=start,
        steps=ahead,
        history_poses=poses[first : start + 1],
        history_actions=motion[first:start],
        goal_pose=as_pose(poses[start + ahead]),
    )
