"""``v2w convert-norm``: conversion of an imported model to a strictly causal one."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make an imported model strictly causal (then fine-tune it)"
DESCRIPTION = """\
The released models normalise over all frames of a clip, so that a frame sees a little of its
future. This writes the same weights with statistics of each frame: nothing leaks any more, but the
function changes, so fine-tune it before use. A past that is cached needs this, and more: models
that are shown an image or their first frame (all imported ones) compute whole windows as before.
"""
EPILOG = """\
example:
  v2w convert-norm runs/recon runs/recon_causal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="checkpoint folder (of v2w import)")
    parser.add_argument("dest", type=Path, help="checkpoint folder to write")


def run(args: argparse.Namespace) -> int:
    from v2w_core.transfer.frame_norms import convert_folder

    print(f"checkpoint: {convert_folder(args.source, args.dest)}")
    return 0
