"""``v2w import``: an original Vid2World or DynamiCrafter .ckpt becomes a checkpoint folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from v2w_core.transfer.kinds import KINDS

HELP = "turn an original Vid2World or DynamiCrafter checkpoint into one of ours"
DESCRIPTION = """\
Reads an original .ckpt file (Lightning or DeepSpeed), or downloads one from the Hugging Face hub,
and writes a checkpoint folder that every v2w command takes. The file is mapped, not read into
memory, and nothing in it is executed. Every tensor must be known; what is missing, unknown or of
another shape is listed and refused.
"""
EPILOG = """\
examples:
  v2w import vid2world_recon.ckpt runs/recon --kind vid2world-recon
  v2w import OWNER/REPOSITORY/model.ckpt runs/base --kind dynamicrafter512      from the hub

The released models compute a whole window at every denoising step (their statistics look ahead,
nothing can be cached) and are made for a GPU.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=".ckpt file, or OWNER/REPOSITORY/FILE on the hub")
    parser.add_argument("dest", type=Path, help="checkpoint folder to write")
    parser.add_argument("--kind", required=True, choices=KINDS, help="what the file holds")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from v2w_core.transfer.importer import import_checkpoint
    from v2w_core.transfer.released import released_config

    def track(names: Iterable[str]) -> Iterable[str]:
        return tqdm(list(names), desc="writing", unit="tensor")

    source = find(args.source)
    card = f"# {args.kind}\n\nImported by v2w from `{args.source}`; see there for the licence.\n"
    folder = import_checkpoint(source, args.dest, released_config(args.kind), card, track=track)
    print(f"checkpoint: {folder}")
    return 0


def find(source: str) -> Path:
    """The local file, or the hub's after a download.

    Raises:
        CheckpointError: neither is there.
    """
    from v2w_core.errors import CheckpointError

    path = Path(source)
    owner, _, rest = source.partition("/")
    repository, _, name = rest.partition("/")
    if path.exists() or not name or path.is_absolute() or source.startswith("."):
        return path
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(f"{owner}/{repository}", name))
    except Exception as error:
        rule = "an existing file, or OWNER/REPOSITORY/FILE that the Hugging Face hub has"
        raise CheckpointError("source", rule, f"{source}: {error}") from error
