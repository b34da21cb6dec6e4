"""Strict causality for transferred models: statistics of each frame instead of the clip's.

A released model's frames see their future through two things only: the temporal layers normalise
over all frames of a clip, and a clip of just the right length shows each frame other image tokens
than a shorter one. Without both nothing leaks. The function changes, so fine-tune afterwards.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import yaml
from safetensors import SafetensorError, safe_open

from v2w_core.checkpoint import CARD, CONFIG, WEIGHTS, load_config
from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError
from v2w_core.transfer.streamed_writer import new_folder


def strictly_causal(config: WorldModelConfig) -> WorldModelConfig:
    """The model with the same weights whose frames never look ahead."""
    return dataclasses.replace(
        config,
        unet=dataclasses.replace(config.unet, norm_scope="frame"),
        compat=dataclasses.replace(config.compat, tokens_by_length=False),
    )


def convert_folder(source: pathlib.Path, dest: pathlib.Path) -> pathlib.Path:
    """Write ``dest``: the weights of a checkpoint folder, copied, and the causal configuration.

    Raises:
        CheckpointError: a model that is strictly causal already or not causal at all, a damaged
            folder, ``dest`` exists.
    """
    config = load_config(source)
    if not config.unet.causal:
        raise CheckpointError("source", "a causal model; transfer it first", str(source))
    causal = strictly_causal(config)
    if causal == config:
        rule = "a model whose frames look ahead; this one is strictly causal already"
        raise CheckpointError("source", rule, str(source))
    weights, card = source / WEIGHTS, source / CARD
    try:
        with safe_open(weights, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(str(weights), "a complete safetensors file", str(error)) from error
    text = (
        f"# Strictly causal copy of {source}\n\n"
        "Statistics of each frame in the temporal layers, image tokens by the frame's number. Not\n"
        "fine-tuned yet. The card of what it was made from, licence included:\n\n"
    )
    with new_folder(dest) as folder:
        shutil.copyfile(weights, folder / WEIGHTS)
        plain = yaml.safe_dump(causal.to_dict(), sort_keys=False)
        (folder / CONFIG).write_text(plain, encoding="utf-8")
        theirs = card.read_text(encoding="utf-8") if card.is_file() else "(none)\n"
        (folder / CARD).write_text(text + theirs, encoding="utf-8")
    return dest
