"""Do walls matter in generated worlds? Straight lines between random places, on paper and driven.

    python benchmarks/worlds.py
    python benchmarks/worlds.py --world maze

Pairs of places are 12 to 30 steps of 0.4 m apart along the shortest way. A line is blocked where
the robot would touch something; a drive heads for the goal, slides along what it meets, and fails
if it never comes within 0.4 m.
"""

from __future__ import annotations

import argparse

import numpy as np

from training.envs.doom import DoomMazeEnv, Pose
from training.evaluation.suites import STEP_M, SUITES, straight_drive
from v2w_core.metrics.intervals import wilson
from v2w_core.progress import progress


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
    low, high = SUITES["far"].steps
    while True:
        start, goal = env.sample_free_pose(rng), env.sample_free_pose(rng)
        if low <= env.shortest_path_m(start, goal) / STEP_M <= high:
            return start, goal


if __name__ == "__main__":
    main()
