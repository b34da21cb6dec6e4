"""Do walls matter in generated worlds? Straight lines between random places, on paper and driven.

    python benchmarks/worlds.py
    python benchmarks/worlds.py --world maze

Pairs of places are 12 to 30 steps of 0.4 m apart along the shortest way. A line is blocked where
the robot would touch something; a drive heads for the goal, slides along what it meets, and fails
if it never comes within 0.4 m.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from training.envs.doom import DoomMazeEnv, Pose
from training.evaluation.goals import REACHED_M
from v2w_core.progress import progress

STEP_M, STEPS = 0.4, (12, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--world", default="rooms", help="rooms or maze (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=20, help="lines a world, of 20 worlds")
    parser.add_argument("--drives", type=int, default=15, help="drives a world, of 10 worlds")
    args = parser.parse_args()
    env = DoomMazeEnv(0, (24, 32), world_name=args.world)
    blocked, failed = [], []
    try:
        for seed in progress(range(20), desc="worlds", unit="world"):
            env.enter(seed)
            rng = np.random.default_rng(seed)
            for number in range(args.lines):
                start, goal = far_pair(env, rng)
                blocked.append(env.straight_line_blocked(start, goal))
                if seed < 10 and number < args.drives:
                    failed.append(not straight_drive(env, start, goal))
    finally:
        env.close()
    for name, found in (("lines blocked", blocked), ("drives failed", failed)):
        low, high = wilson(sum(found), len(found))
        print(f"{args.world}: {name} {np.mean(found):.1%} ({sum(found)} of {len(found)}, "
              f"95 % interval {low:.0%} to {high:.0%})")  # fmt: skip


def far_pair(env: DoomMazeEnv, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """Two random free poses, as far apart as asked for."""
    while True:
        start, goal = env.sample_free_pose(rng), env.sample_free_pose(rng)
        if STEPS[0] <= env.shortest_path_m(start, goal) / STEP_M <= STEPS[1]:
            return start, goal


def straight_drive(env: DoomMazeEnv, start: Pose, goal: Pose) -> bool:
    """Whether a robot that heads for the goal reaches it in twice the steps of the shortest way."""
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


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    share, spread = count / total, z**2 / total
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / total + spread / total / 4)
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


if __name__ == "__main__":
    main()
