"""Peak memory of a large rollout with a memory budget, and frames a second by micro-batch.

Each back end runs in a process of its own: it loads the model, does one small rollout, notes its
resident memory, and then imagines. What is told is the peak above that idle process (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.parity import synthetic_actions, synthetic_session
from v2w_core.backends.registry import make_backend
from v2w_core.checkpoint import default_checkpoint
from v2w_core.files import write_text
from v2w_core.rollout.memory_budget import candidate_bytes
from v2w_core.rollout.session import Session
from v2w_core.world_model import WorldModel

MIB = 2**20


def main() -> None:
    """Prints one line a back end and micro-batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--backends", nargs="+", default=["eager", "onnx"])
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--guidance-scale", type=float, default=1.0)
    parser.add_argument("--budget-mib", type=int, default=1024)
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[],
                        help="micro-batches besides the one that the budget gives")  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "num_candidates": args.candidates,
        "horizon": args.horizon,
        "guidance_scale": args.guidance_scale,
        "budget_mib": args.budget_mib,
    }
    print(f"{args.candidates} candidates x {args.horizon} steps, budget {args.budget_mib} MiB")
    print(f"{'back end':>8} {'at once':>8} {'idle MiB':>9} {'peak above':>11} {'frames/s':>9}")
    context = multiprocessing.get_context("spawn")
    for name in args.backends:
        with context.Pool(1) as pool:  # an engine that is not there yet is built elsewhere
            pool.apply(built, (args, name))
        for batch_size in (None, *args.batch_sizes):
            with context.Pool(1) as pool:
                figures = pool.apply(measured, (args, name, batch_size))
            at_once = "budget" if batch_size is None else str(batch_size)
            result[f"{name}, {at_once}"] = figures
            shown = (figures[key] for key in ("idle_mib", "peak_above_idle_mib", "frames_per_s"))
            print(f"{name:>8} {at_once:>8} {{:>9.0f}} {{:>11.0f}} {{:>9.0f}}".format(*shown))
    print(f"counted for each candidate: {figures['candidate_mib']:.2f} MiB")
    if args.json:
        write_text(args.json, json.dumps(result, indent=2) + "\n")


def started(args: argparse.Namespace, name: str) -> tuple[WorldModel, Session]:
    """The model and a session of it."""
    if args.threads:
        torch.set_num_threads(args.threads)
    model = WorldModel.from_pretrained(args.checkpoint or default_checkpoint())
    model.memory_budget = args.budget_mib * MIB
    return model, synthetic_session(model, make_backend(model, name, BackendOptions()))


def built(args: argparse.Namespace, name: str) -> None:
    """The back end's engine is in the user's cache from here on."""
    started(args, name)


def measured(args: argparse.Namespace, name: str, batch_size: int | None) -> dict[str, float]:
    """Figures of one rollout in this process."""
    model, session = started(args, name)
    sampling = {"guidance_scale": args.guidance_scale, "batch_size": batch_size}
    session.imagine(synthetic_actions(model, 2, 2), guidance_scale=args.guidance_scale)
    actions = synthetic_actions(model, args.candidates, args.horizon)
    needed = candidate_bytes(model, args.horizon, guided=args.guidance_scale != 1.0)
    idle = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.perf_counter()
    rollouts = session.imagine(actions, **sampling)
    elapsed = time.perf_counter() - began
    return {
        "idle_mib": idle,
        "peak_above_idle_mib": _resident("VmHWM") - idle,
        "candidate_mib": needed / MIB,
        "frames_per_s": rollouts.frames_imagined / elapsed,
    }


def _resident(name: str) -> float:
    """MiB of VmRSS (now) or VmHWM (the peak)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
