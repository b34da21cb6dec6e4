"""Back ends against eager PyTorch: milliseconds a step, imagined frames a second, ratio.

The back ends take turns, rollout by rollout, so that all of them see the same load of the machine.
A step is one call of the network: at one sampling step a frame, the held previous frame and the
newest one of every candidate.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_core.backends.base import BackendOptions, make_backend
from v2w_core.backends.trial import measure
from v2w_core.media import write_text
from v2w_core.world_model import WorldModel, default_checkpoint


def main() -> None:
    """Prints one line a back end and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backends", nargs="+", default=["onnx:fp32"],
                        metavar="NAME:PRECISION", help="compared with eager")  # fmt: skip
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's)")
    parser.add_argument("--repeats", type=int, default=8, help="rollouts of each")
    parser.add_argument("--engines", type=Path, help="folder of engines")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = WorldModel.from_pretrained(args.checkpoint or default_checkpoint(), args.device)
    backends = {}
    for which in ("eager:fp32", *args.backends):
        name, _, precision = which.partition(":")
        options = BackendOptions(precision or "fp32", engines=args.engines)
        backends[which] = make_backend(model, name, options)
    result: dict[str, Any] = {"num_threads": torch.get_num_threads(), "device": args.device}
    print(f"{torch.get_num_threads()} threads, {args.device}")
    print(
        f"{'batch':>5} {'back end':>9} {'step ms p50':>12} {'p95':>7} {'frames/s':>9} {'ratio':>6}"
    )
    for batch_size in args.batch_sizes:
        for backend in backends.values():
            backend.warm_up(batch_size)
        seconds: dict[str, list[Any]] = {name: [] for name in backends}
        for _ in range(args.repeats):
            for name, backend in backends.items():
                seconds[name].append(measure(model, backend, batch_size))
        eager_s = np.median(np.sum(seconds["eager:fp32"], axis=1))
        for name, taken in seconds.items():
            p50, p95 = 1e3 * np.percentile(taken, (50, 95))
            rollout_s = float(np.median(np.sum(taken, axis=1)))
            rate = batch_size * len(taken[0]) / rollout_s
            figures = {
                "step_ms_p50": float(p50),
                "step_ms_p95": float(p95),
                "frames_per_s": rate,
                "ratio_to_eager": float(eager_s / rollout_s),
            }
            result[f"{name}, batch {batch_size}"] = figures
            print(f"{batch_size:>5} {name:>11} {p50:>11.1f} {p95:>11.1f} {rate:>11.0f} "
                  f"{figures['ratio_to_eager']:>11.2f}")  # fmt: skip
    if args.json:
        write_text(args.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
