"""``v2w export``: builds a back end's engine, checks its parity with eager float32, times it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_core.backends.names import BACKENDS, PRECISIONS

if TYPE_CHECKING:
    from v2w_core.world_model import WorldModel

HELP = "build a fast engine of a checkpoint for this machine"
DESCRIPTION = """\
Writes the model's step as an engine of a back end, checks on the same noise that it imagines what
PyTorch in float32 imagines (and refuses it otherwise), and times it. The engine is stored where
--backend of the other commands, the nodes and WorldModel.use_backend look for it; they also build
it themselves when it is missing. Its manifest.json says what it was built from.
"""
EPILOG = """\
examples:
  v2w export                                       the shipped checkpoint, for ONNX Runtime
  v2w export runs/train/mine/checkpoint --out engines      then: V2W_ENGINES=engines v2w plan ...
  v2w export --device cuda --backend torch --precision bf16
  v2w export --backend tensorrt-rtx --build-only build     without a GPU: does it build?
"""
EXPORTED = tuple(name for name in BACKENDS if name != "eager")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w export``."""
    add = parser.add_argument
    add("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT",
        help="checkpoint folder (default: the shipped one)")  # fmt: skip
    add("--backend", choices=EXPORTED, default="onnx",
        help="back end to build (default: %(default)s)")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="fp32",
        help="precision of the arithmetic (default: %(default)s)")  # fmt: skip
    add("--provider", action="append", metavar="NAME",
        help="execution provider of ONNX Runtime, in order of preference; the first one must "
             "work (default: that of the device)")  # fmt: skip
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--out", type=Path, metavar="DIR",
        help="folder of engines (default: $V2W_ENGINES or ~/.cache/v2w/engines)")  # fmt: skip
    add("--build-only", type=Path, metavar="DIR",
        help="for tensorrt-rtx, which builds without a GPU: write graphs and engines there. They "
             "are neither compared nor timed, so that nothing ever uses them")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write the manifest there")


def run(args: argparse.Namespace) -> int:
    """Builds the engine and prints its figures.

    Raises:
        V2WError: the engine cannot be built, or fails the parity check.
    """
    from v2w_core.backends.base import BackendOptions
    from v2w_core.backends.registry import make_backend
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.errors import V2WError
    from v2w_core.files import write_text
    from v2w_core.world_model import WorldModel

    progress = logging.getLogger("v2w_core.backends")
    progress.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    progress.addHandler(handler)
    try:
        model = WorldModel.from_pretrained(args.checkpoint or default_checkpoint(), args.device)
        providers = tuple(args.provider) if args.provider else None
        options = BackendOptions(args.precision, providers, args.out)
        if args.build_only is not None:
            if args.backend != "tensorrt-rtx":
                raise V2WError("--build-only", "with --backend tensorrt-rtx only", args.backend)
            return build_only(model, args.build_only, args.precision)
        info = make_backend(model, args.backend, options).info()
    finally:
        progress.removeHandler(handler)
    print_figures(info)
    if args.json is not None:
        write_text(args.json, json.dumps(info, indent=2) + "\n")
    return 0


def build_only(model: WorldModel, folder: Path, precision: str) -> int:
    """Writes the step's graphs and engines for any GPU, without running them."""
    from v2w_core.backends.onnx_step.tensorrt_rtx import build_engines

    folder.mkdir(parents=True, exist_ok=True)
    for path in build_engines(model, folder, precision):
        print(f"{path}  {path.stat().st_size / 2**20:.0f} MiB")
    print("built, not tried: parity and latency need a GPU (v2w export --device cuda there)")
    return 0


def print_figures(info: dict[str, Any]) -> None:
    """Prints the parity and latency in a manifest."""
    parity = info["parity"]
    worst = max(value for name, value in parity.items() if name != "tolerance")
    print(f"parity with eager float32: largest difference {worst:.1e} of imagined latents "
          f"(tolerance {parity['tolerance']:g})")  # fmt: skip
    print(f"latency on {info['num_threads']} threads of {info['built_from']['device']}")
    print(f"{'candidates':>10} {'ms a step, p50':>15} {'p95':>8} {'frames a second':>16}")
    for batch_size, figures in info["latency"].items():
        rate = 1e3 * int(batch_size) / figures["step_ms_p50"]
        print(f"{batch_size:>10} {figures['step_ms_p50']:>15.1f} {figures['step_ms_p95']:>8.1f} "
              f"{rate:>16.0f}")  # fmt: skip
    print(f"engine: {info['folder']}")
