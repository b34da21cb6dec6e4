"""``v2w convert-norm``: a model whose frames look ahead becomes strictly causal."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make an imported model strictly causal (then fine-tune it)"
DESCRIPTION = """\
The released models normalise over all frames of a clip, so that a frame sees a little of its future
and nothing of its past can be cached. This writes the same weights with statistics of each frame:
nothing leaks any more (which a cached past needs), but the function changes: fine-tune it before
use.
"""
EPILOG = """\
example:
  v2w convert-norm runs/recon runs/recon_causal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="checkpoint folder (of v2w import)")
    parser.add_argument("dest", type=Path, help="checkpoint folder to write")


def run(args: argparse.Namespace) -> int:
    from v2w_core.errors import CheckpointError
    from v2w_core.transfer.norms import convert_norms
    from v2w_core.world_model import WorldModel, load_config

    if args.dest.exists():
        raise CheckpointError("dest", "a folder that does not exist yet", str(args.dest))
    unet = load_config(args.source).unet
    if unet.norm_scope == "frame":
        rule = "a model with clip statistics; this one is strictly causal already"
        raise CheckpointError("source", rule, str(args.source))
    if not unet.causal:
        raise CheckpointError("source", "a causal model; transfer it first", str(args.source))
    model = convert_norms(WorldModel.from_pretrained(args.source))
    card = (
        f"# Strictly causal copy of {args.source}\n\n"
        "Per-frame statistics in the temporal layers. Not fine-tuned yet.\n"
    )
    print(f"checkpoint: {model.save_pretrained(args.dest, card, half=True)}")
    return 0
