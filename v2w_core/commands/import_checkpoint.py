"""``v2w import``: conversion of a Vid2World or DynamiCrafter .ckpt to a checkpoint folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from v2w_core.progress import progress
from v2w_core.transfer.released_names import KINDS

#: Prefix of a source on the Hugging Face hub.
HUB = "hf:"

HELP = "turn an original Vid2World or DynamiCrafter checkpoint into one of ours"
DESCRIPTION = """\
Reads an original .ckpt file (Lightning or DeepSpeed), or downloads one from the Hugging Face hub,
and writes a checkpoint folder that every v2w command takes. The file is mapped, not read into
memory, and nothing in it is executed. Every tensor must be known; what is missing, unknown or of
another shape is listed and refused. Weights are stored in float16 unless --dtype says otherwise
(docs/differences.md has what that changes) and computed in float32.
"""
EPILOG = """\
examples, of a file and of the Hugging Face hub:
  v2w import vid2world_recon.ckpt runs/recon --kind vid2world-recon
  v2w import hf:Doubiiu/DynamiCrafter_512/model.ckpt runs/base --kind dynamicrafter512

The released models compute a whole window at every denoising step (their statistics look ahead,
nothing can be cached) and are made for a GPU.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=".ckpt file, or hf:OWNER/REPOSITORY/FILE on the hub")
    parser.add_argument("dest", type=Path, help="checkpoint folder to write")
    parser.add_argument("--kind", required=True, choices=KINDS, help="kind of the released model")
    parser.add_argument(
        "--dtype",
        default="float16",
        choices=("float16", "float32"),
        help="type of the stored weights (default: %(default)s; float32 is exact, twice as large)",
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from v2w_core.transfer.importer import import_checkpoint
    from v2w_core.transfer.released import released_config

    def track(names: Iterable[str]) -> Iterable[str]:
        return progress(list(names), desc="writing", unit="tensor")

    card = (
        f"# {args.kind}\n\nImported by v2w from `{args.source}`, stored in {args.dtype}; see there "
        "for the licence.\n"
    )
    config, dtype = released_config(args.kind), getattr(torch, args.dtype)
    source = find(args.source)
    folder = import_checkpoint(source, args.dest, config, card, dtype=dtype, track=track)
    print(f"checkpoint: {folder}")
    return 0


def find(source: str) -> Path:
    """Path of the source, which is downloaded first if it starts with ``hf:``.

    Raises:
        CheckpointError: the hub does not have the file, or cannot be reached.
    """
    from v2w_core.errors import CheckpointError

    if not source.startswith(HUB):
        return Path(source)
    owner, _, rest = source.removeprefix(HUB).partition("/")
    repository, _, name = rest.partition("/")
    if not name:
        raise CheckpointError("source", f"{HUB}OWNER/REPOSITORY/FILE", source)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        rule = "huggingface_hub installed: pip install 'v2w[pretrained]'"
        raise CheckpointError(source, rule, str(error)) from error
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", name))
    except (OSError, ValueError) as error:
        rule = "a file that the Hugging Face hub has, and a way to reach it"
        raise CheckpointError(source, rule, str(error)) from error
