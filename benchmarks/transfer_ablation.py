"""Does it matter how a video model is made causal? Vid2World's ablation (Table 2) in small.

    v2w collect runs/episodes/train --episodes 375 --steps 120 --seed 1
    v2w collect runs/episodes/val --episodes 40 --steps 120 --seed 2
    python benchmarks/transfer_ablation.py

Pre-trains a small non-causal, action-free video-diffusion model, makes it causal with shift, masked
and extrapolative weights, fine-tunes each with and without action guidance, and one model from
scratch, with every seed; scores all on held-out episodes. Ctrl-C stops it, the same command
resumes. Writes docs/transfer_ablation.md, its curves in docs/images/ and
benchmarks/results/transfer_ablation.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import sys

import torch

from training.ablation.report import curves, page
from training.ablation.run import Ablation, AblationConfig
from v2w_core.checkpoint import default_checkpoint
from v2w_core.errors import V2WError
from v2w_core.files import replaced, write_text

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: What docs/transfer_ablation.md has (64 minutes of two CPU cores); more of everything on a GPU.
DEFAULTS = {
    "cpu": {"seeds": 3, "pretrain_steps": 3600, "finetune_steps": 250},
    "cuda": {"seeds": 5, "pretrain_steps": 20000, "finetune_steps": 2000},
}
POINTS = 16  # of a curve, after step 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--out", type=pathlib.Path, default=pathlib.Path("runs/transfer_ablation"),
        help="states, checkpoints, parts that are done (default: %(default)s)")  # fmt: skip
    add("--episodes", type=pathlib.Path, default=pathlib.Path("runs/episodes"),
        help="folder with train/ and val/ (default: %(default)s)")  # fmt: skip
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in DEFAULTS["cpu"].items():
        gpu = DEFAULTS["cuda"][name]
        add(f"--{name.replace('_', '-')}", type=int, help=f"default: {value}, on a GPU {gpu}")
    add("--windows", type=int, default=96, help="held-out windows (default: %(default)s)")
    add("--docs", type=pathlib.Path, default=ROOT / "docs", help="where the page goes")
    add("--json", type=pathlib.Path, default=ROOT / "benchmarks/results/transfer_ablation.json")
    return made


def main() -> int:
    args = parser().parse_args()
    for name, value in DEFAULTS["cpu" if args.device == "cpu" else "cuda"].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    try:
        results = ablate(args)
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    except V2WError as error:
        print(error, file=sys.stderr)
        return 2
    images = {"transfer_ablation.png": True, "transfer_ablation_unguided.png": False}
    for name, guided in images.items():
        with replaced(args.docs / "images" / name) as temporary:
            temporary.write_bytes(curves(results, guided=guided))
    write_text(args.json, json.dumps(results, indent=1) + "\n")
    path = write_text(
        args.docs / "transfer_ablation.md", page(results, [f"images/{name}" for name in images])
    )
    print(f"wrote {path}, {args.json}")
    return 0


def ablate(args: argparse.Namespace) -> dict[str, object]:
    if args.seeds < 1:
        raise V2WError("--seeds", "at least 1", args.seeds)
    config = AblationConfig(
        pretrain_steps=args.pretrain_steps,
        finetune_steps=args.finetune_steps,
        curve_every=max(args.finetune_steps // POINTS, 1),
        score_windows=args.windows,
    )
    train, val = args.episodes / "train", args.episodes / "val"
    ablation = Ablation(config, default_checkpoint(), train, val, args.out, args.device)
    results = ablation.run(args.seeds)
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
    if ablation.network.device.type == "cuda":
        machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine,
        "date": datetime.date.today().isoformat(),
        **results,
    }


if __name__ == "__main__":
    sys.exit(main())
