"""Many plans in a row, as planner_node makes them: does memory stay flat?

A robot explores the simulated maze; its pictures and poses are planned from in turn, over and over,
to one goal image that is never reached, with everything that the node remembers of a drive. The
resident memory after the first 100 plans is compared with that at the end. Every back end runs in
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

#: Resident memory may differ by this much between the 100th plan and the last [MiB].
TOLERANCE_MIB = 5.0
EVERY = 100
EPISODE = 60


def explore(model: Any) -> tuple[list[Any], np.ndarray]:
    """Snapshots of an episode in the simulated maze, and a view from elsewhere."""
    from training.envs.doom import DoomMazeEnv
    from training.envs.explore import Explorer
    from v2w.navigation.history import NS, Snapshot
    from v2w_core.geometry import actions_from_poses
    from v2w_core.images import resize_frames

    env = DoomMazeEnv(1)
    try:
        elsewhere, _ = env.reset(seed=1)
        observation, _ = env.reset(seed=0)
        explorer = Explorer(env, np.random.default_rng(0))
        seen = [observation] + [env.step(explorer.act())[0] for _ in range(EPISODE)]
        step_ns = round(NS * env.action_spec.dt_s)
    finally:
        env.close()
    snapshots, num_history = [], model.config.num_history
    for start in range(len(seen) - num_history + 1):
        part = seen[start : start + num_history]
        planar = np.stack([each["pose"] for each in part])
        poses = np.insert(planar, 2, 0.0, axis=1)  # x, y, z, yaw
        frames = np.stack([each["image"] for each in part])
        frames = resize_frames(frames, model.config.observation)
        stamps = (start + np.arange(num_history)) * step_ns
        actions = actions_from_poses(poses).astype(np.float32)
        snapshots.append(Snapshot(frames, actions, stamps, poses))
    return snapshots, elsewhere["image"]


def measure(args: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Memory and time of ``args.plans`` plans with one back end."""
    import psutil
    import torch

    from v2w.inference.model_runtime import ModelRuntime, RuntimeSettings
    from v2w.navigation.planning import PlanningCore, PlanSettings
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.images import encode_image

    if args.threads:
        torch.set_num_threads(args.threads)
    checkpoint = args.checkpoint or default_checkpoint()
    runtime = ModelRuntime(RuntimeSettings(checkpoint, args.device, backend, strict=True), print)
    snapshots, view = explore(runtime)
    picture = encode_image(view, "png")
    runtime.warm_up((args.candidates,), args.horizon)
    core, process = PlanningCore(runtime, 0), psutil.Process()
    settings = PlanSettings(
        horizon=args.horizon, num_iterations=args.iterations, num_candidates=args.candidates,
        time_budget_s=60.0, seed=None, execute_steps=2, drive=True,
    )  # fmt: skip
    resident, seconds = {}, []
    for number in range(1, args.plans + 1):
        snapshot = snapshots[number % len(snapshots)]
        x, y, _, yaw = snapshot.poses[-1]
        began = time.perf_counter()
        core.executed((x, y, yaw))
        outcome = runtime.run(
            lambda: core.plan(snapshot, core.image_goal(picture), "goal", settings)  # noqa: B023
        )
        core.sent((x, y, yaw), outcome.result.action_sequence[: settings.execute_steps])
        seconds.append(time.perf_counter() - began)
        if number % EVERY == 0:
            resident[number] = process.memory_info().rss / 2**20
            spent = np.mean(seconds[-EVERY:])
            print(f"{backend:>6} {number:>6} plans {resident[number]:>8.1f} MiB {spent:>7.3f} s "
                  "a plan", flush=True)  # fmt: skip
    counts, mib = np.array(list(resident)), np.array(list(resident.values()))
    slope = float(np.polyfit(counts, mib, 1)[0]) if len(mib) > 1 else 0.0
    return {
        "resident_mib": {str(n): round(m, 2) for n, m in resident.items()},
        "drift_mib": round(float(mib[-1] - mib[0]), 2),
        "slope_mib_per_1000_plans": round(1000 * slope, 3),
        "tolerance_mib": TOLERANCE_MIB,
        "plan_s_p50_first": round(float(np.median(seconds[:EVERY])), 4),
        "plan_s_p50_last": round(float(np.median(seconds[-EVERY:])), 4),
        "engine_key": runtime.key,
    }


def main() -> None:
    """Prints memory every 100 plans; exit code 1 when it is not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backends", nargs="+", default=["eager", "onnx"], metavar="NAME")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's)")
    parser.add_argument("--plans", type=int, default=1000, help="at least 200")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--horizon", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.plans < 2 * EVERY:
        parser.error(f"--plans: at least {2 * EVERY}")
    from v2w_core.files import write_text

    numbers = ("plans", "candidates", "iterations", "horizon", "threads")
    results: dict[str, Any] = {name: getattr(args, name) for name in numbers}
    spawn = multiprocessing.get_context("spawn")
    for backend in args.backends:
        with spawn.Pool(1) as pool:
            results[backend] = pool.apply(measure, (args, backend))
    flat = True
    for backend in args.backends:
        result = results[backend]
        flat = flat and abs(result["drift_mib"]) < TOLERANCE_MIB
        print(f"{backend}: {result['drift_mib']:+.2f} MiB from plan {EVERY} to {args.plans} "
              f"({result['slope_mib_per_1000_plans']:+.2f} MiB in 1000 plans), plan time "
              f"{result['plan_s_p50_first']:.3f} -> {result['plan_s_p50_last']:.3f} s")  # fmt: skip
    print(f"{'flat' if flat else 'NOT flat'} to {TOLERANCE_MIB:g} MiB")
    if args.json:
        write_text(args.json, json.dumps(results, indent=2) + "\n")
    sys.exit(not flat)


if __name__ == "__main__":
    main()
