"""Conversion of transferred models to strict causality: statistics of each frame.

Frames of a released model depend on later frames in two ways only: the temporal layers normalise
over all frames of a clip, and the image tokens of a frame depend on the clip's length. Without both
there is no leakage. The function changes, so that the model needs fine-tuning afterwards.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import yaml

from v2w_core.checkpoint import CARD, CONFIG, WEIGHTS, load_config
from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError
from v2w_core.transfer.streamed_writer import new_folder
from v2w_core.weights_file import weights_shapes


def strictly_causal(config: WorldModelConfig) -> WorldModelConfig:
    """Configuration of the strictly causal model with the same weights."""
    return dataclasses.replace(
        config,
        unet=dataclasses.replace(config.unet, norm_scope="frame"),
        compat=dataclasses.replace(config.compat, tokens_by_length=False),
    )


def convert_folder(source: pathlib.Path, dest: pathlib.Path) -> pathlib.Path:
    """Writes a checkpoint folder with the weights of ``source`` and the causal configuration.

    Raises:
        CheckpointError: the model is already strictly causal or not causal at all, ``source`` is
            damaged, or ``dest`` exists.
    """
    config = load_config(source)
    if not config.unet.causal:
        raise CheckpointError("source", "a causal model; transfer it first", str(source))
    causal = strictly_causal(config)
    if causal == config:
        rule = "a model whose frames look ahead; this one is strictly causal already"
        raise CheckpointError("source", rule, str(source))
    weights, card = source / WEIGHTS, source / CARD
    weights_shapes(weights)  # raises where the file is damaged
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
