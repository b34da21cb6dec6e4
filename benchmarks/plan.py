"""Plan time and imagined frames a second: 64 candidates x 8 steps x 3 iterations, image goal.

The pictures are noise: the time does not depend on what is in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from planners.commands.plan import add_screening_arguments, imagination_settings
from planners.goals import ImageGoal
from planners.observation import Observation
from planners.planner import Planner
from planners.settings import ImaginationSettings
from v2w_core.backends.names import AUTO, BACKENDS, PRECISIONS
from v2w_core.checkpoint import default_checkpoint
from v2w_core.config import ImaginedHistory
from v2w_core.files import write_text
from v2w_core.world_model import WorldModel


def screened(settings: ImaginationSettings) -> str:
    """In words."""
    if not settings.screens:
        return "all to the end"
    return f"{settings.screening_fraction:g} of them on after {settings.screening_horizon} steps"


def main() -> None:
    """Prints the median and the range over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backend", default="eager", choices=(*BACKENDS, AUTO))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's)")
    parser.add_argument("--candidates", type=int, default=64)
    add_screening_arguments(parser)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--sampling-steps", type=int, help="default: the checkpoint's")
    parser.add_argument("--imagined-history", choices=get_args(ImaginedHistory),
                        help="default: the checkpoint's")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    sampling = model.config.sampling
    if args.imagined_history:
        sampling = dataclasses.replace(sampling, imagined_history=args.imagined_history)
        model.config = dataclasses.replace(model.config, sampling=sampling)
    num_steps = args.sampling_steps or sampling.num_steps
    rng = np.random.default_rng(0)
    size = (model.config.observation.height, model.config.observation.width, 3)
    frames = rng.integers(0, 256, (model.config.num_history + 1, *size), dtype=np.uint8)
    spec = model.config.action
    shape = (model.config.num_history - 1, spec.dim)
    seen = Observation(frames[:-1], rng.uniform(spec.low, spec.high, shape).astype(np.float32))
    cost = ImageGoal(model, frames[-1]).cost(seen)
    imagination = imagination_settings(args)
    planner = Planner(spec, args.horizon, imagination=imagination)
    times, rates = [], []
    for repeat in range(args.repeats + 1):
        plan = planner.plan(
            model.start(seen.frames, seen.actions), cost, seed=repeat,
            num_candidates=args.candidates, num_iterations=args.iterations,
        )  # fmt: skip
        if repeat:  # the first one warms up
            times.append(plan.planning_s)
            rates.append(plan.frames_imagined / plan.planning_s)
    result = {
        "plan_s_p50": float(np.median(times)),
        "plan_s_min": min(times),
        "plan_s_max": max(times),
        "frames_per_s": float(np.median(rates)),
        "frames_per_plan": plan.frames_imagined,
        "screening_fraction": imagination.screening_fraction,
        "screening_horizon": imagination.screening_horizon,
        "backend": model.backend.name,
        "precision": args.precision,
        "sampling_steps": num_steps,
        "guidance_scale": sampling.guidance_scale,
        "imagined_history": sampling.imagined_history,
        "num_threads": torch.get_num_threads(),
    }
    print(f"{args.candidates} candidates x {args.horizon} steps x {args.iterations} iterations, "
          f"{screened(imagination)}, "
          f"{torch.get_num_threads()} threads, {args.device}, {model.backend.name}, "
          f"{args.precision}, {num_steps} sampling steps a frame, guidance "
          f"{sampling.guidance_scale:g}, imagined frames {sampling.imagined_history}")  # fmt: skip
    print(f"plan time {result['plan_s_p50']:.2f} s (median of {args.repeats}; "
          f"{result['plan_s_min']:.2f} to {result['plan_s_max']:.2f})")  # fmt: skip
    print(f"{result['frames_per_s']:.0f} frames imagined a second")
    if args.json:
        write_text(args.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
