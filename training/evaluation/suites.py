"""Suites of goals, drawn from the simulator itself: no recordings are needed.

Each goal follows from the suite, the kind and the set of worlds, the seed and its number alone, so
that a longer list begins with the shorter one. Before each start an exploring robot drives for a
while, which is the history that a model gets.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluation.goals import REACHED_M, GoalCase, Pose, as_pose, is_reached
from training.evaluation.world_sets import WORLD_SETS
from v2w_core.errors import V2WError
from v2w_core.files import write_text
from v2w_core.progress import progress

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv
    from training.envs.explore import Explorer

#: What a step of the shortest way is worth: a robot that cruises.
STEP_M = 0.4
#: By how much the shortest way around a wall is longer than the straight line, at least.
DETOUR_M = 1.0
#: Frames of the drive before the start: the longest history that a model can have.
MAX_HISTORY = 16
#: How many starts are tried for one goal, and how many goals for one start.
STARTS, GOALS_A_START = 60, 20


@dataclass(frozen=True)
class Suite:
    """One kind of goals.

    Attributes:
        number: of the suite, for its random numbers.
        steps: smallest and largest number of steps to the goal.
        text: what a goal is, for reports.
        extra_steps: a drive may take this many steps,
        steps_factor: and this many times the steps of the goal.
    """

    number: int
    steps: tuple[int, int]
    text: str
    extra_steps: int
    steps_factor: int

    def max_steps(self, case: GoalCase) -> int:
        """How many steps a drive to the goal may have."""
        return self.extra_steps + self.steps_factor * case.steps


SUITES = {
    "near": Suite(0, (4, 8), "where an exploring robot is 4 to 8 steps later", 16, 0),
    "far": Suite(1, (12, 30), "12 to 30 steps of 0.4 m along the shortest way", 16, 2),
    "walls": Suite(2, (6, 16), "6 to 16 steps of 0.4 m along the shortest way, a detour of 1 m or "
                   "more; a robot that heads straight for the goal fails", 16, 2),
}  # fmt: skip


def draw_goals(
    env: DoomMazeEnv, suite: str, worlds: str, num_goals: int, seed: int
) -> list[GoalCase]:
    """The goals of a suite, spread evenly over the worlds of a set.

    Args:
        env: a simulator in a world of the kind that is asked for; it is moved to other seeds.

    Raises:
        V2WError: no goal is asked for, or the worlds have no such goals.
    """
    if num_goals < 1:
        raise V2WError("--goals", "at least 1", num_goals)
    seeds = WORLD_SETS[worlds].seeds
    cases = []
    for index in progress(range(num_goals), desc="draw goals", unit="goal", transient=True):
        world_seed = seeds[index % len(seeds)]
        if env.world.seed != world_seed:
            env.enter(world_seed)
        rng = np.random.default_rng([seed, SUITES[suite].number, index])
        cases.append(_draw(env, suite, rng))
    return cases


def _draw(env: DoomMazeEnv, name: str, rng: np.random.Generator) -> GoalCase:
    from training.envs.explore import Explorer

    for _ in range(STARTS):
        env.teleport(*env.sample_free_pose(rng))
        explorer = Explorer(env, rng)
        poses, commands, motion = _explore(env, explorer, MAX_HISTORY - 1)
        if not all(env.is_free(x, y) for x, y, _ in poses):
            continue
        found = FINDERS[name](env, explorer, poses[-1], rng)
        if found is not None:
            goal, steps = found
            return GoalCase(
                env.world.seed, steps, env.shortest_path_m(poses[-1], goal),
                np.array(poses), np.array(commands), np.array(motion), goal,
            )  # fmt: skip
    world = f"{env.world.name} {env.world.seed}"
    raise V2WError("--suite", f"one that the world {world} has goals for", name)


def _explore(
    env: DoomMazeEnv, explorer: Explorer, num_steps: int
) -> tuple[list[Pose], list[Any], list[Any]]:
    """Poses [num_steps + 1], commands and displacements [num_steps] of an exploring robot."""
    poses, commands, motion = [env.pose], [], []
    for _ in range(num_steps):
        info = env.step(explorer.act())[4]
        poses.append(env.pose)
        commands.append(info["command"])
        motion.append(info["motion"])
    return poses, commands, motion


Found = tuple[Pose, int] | None


def _near(env: DoomMazeEnv, explorer: Explorer, start: Pose, rng: np.random.Generator) -> Found:
    """Where the robot that explores on is some steps later, unless that is where it was."""
    low, high = SUITES["near"].steps
    steps = int(rng.integers(low, high + 1))
    goal = _explore(env, explorer, steps)[0][-1]
    if is_reached(start, goal) or not env.is_free(goal[0], goal[1]):
        return None
    return goal, steps


def _far(env: DoomMazeEnv, explorer: Explorer, start: Pose, rng: np.random.Generator) -> Found:
    """A random place, far away along the shortest way."""
    return _elsewhere(env, start, rng, "far")


def _walls(env: DoomMazeEnv, explorer: Explorer, start: Pose, rng: np.random.Generator) -> Found:
    """A random place behind a wall."""
    return behind_wall(env, start, rng)


def behind_wall(env: DoomMazeEnv, start: Pose, rng: np.random.Generator) -> Found:
    """A goal of the suite walls from this start, and its steps; None: a few draws found none.

    The shortest way is a detour, and a robot that heads straight for the goal fails. The simulator
    is driven for that.
    """
    found = _elsewhere(env, start, rng, "walls")
    return None if found is None or straight_drive(env, start, found[0]) else found


def _elsewhere(env: DoomMazeEnv, start: Pose, rng: np.random.Generator, name: str) -> Found:
    low, high = SUITES[name].steps
    for _ in range(GOALS_A_START):
        goal = as_pose(env.sample_free_pose(rng))
        straight_m = math.hypot(goal[0] - start[0], goal[1] - start[1])
        least_m = max(low * STEP_M, straight_m + (DETOUR_M if name == "walls" else 0.0))
        # ways from cell to cell tell at once what is out of the question
        rough_m = float(env.paths.distances(np.array(goal[:2]), start))
        if not least_m - 0.5 <= rough_m <= 1.1 * high * STEP_M + 0.5:
            continue
        way_m = env.shortest_path_m(start, goal)
        if way_m < least_m:
            continue
        steps = way_m / STEP_M
        if low <= steps <= high:
            return goal, math.ceil(steps)
    return None


FINDERS: dict[str, Callable[..., Found]] = {"near": _near, "far": _far, "walls": _walls}


def straight_drive(env: DoomMazeEnv, start: Pose, goal: Pose) -> bool:
    """Whether a robot that heads for the goal gets within 0.4 m of it.

    It slides along what it meets, and has twice the steps of the shortest way.
    """
    env.teleport(start[0], start[1], math.atan2(goal[1] - start[1], goal[0] - start[0]))
    for _ in range(round(2 * env.shortest_path_m(start, goal) / STEP_M)):
        x, y, yaw = env.pose
        dx, dy = goal[0] - x, goal[1] - y
        if math.hypot(dx, dy) < REACHED_M:
            return True
        ahead = dx * math.cos(yaw) + dy * math.sin(yaw)
        left = -dx * math.sin(yaw) + dy * math.cos(yaw)
        env.step(env.action_spec.clip([ahead, left, math.atan2(left, ahead)]))
    return False


def list_goals(path: Path, cases: Sequence[GoalCase], about: dict[str, Any]) -> str:
    """Writes the goals to a JSON file, with their hash; returns that.

    Args:
        path: of the file; a list that is there already must begin with the same goals, or be the
            beginning of these.
        about: what they were drawn for (suite, worlds, seed).

    Raises:
        V2WError: the file lists other goals.
    """
    goals = json.loads(json.dumps([case.to_json() for case in cases]))
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["goals"]
            same = known[: len(goals)] == goals[: len(known)]
        except (ValueError, TypeError, KeyError):
            known, same = [], False
        if not same:
            rule = "the goals that this version of v2w draws; choose another --out"
            raise V2WError(str(path), rule, "a file with others")
        if len(known) > len(goals):
            return _hash(goals)
    content = about | {"num_goals": len(goals), "sha256": _hash(goals), "goals": goals}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return _hash(goals)


def _hash(goals: list[Any]) -> str:
    return hashlib.sha256(json.dumps(goals).encode()).hexdigest()
