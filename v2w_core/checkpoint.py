"""The checkpoint folder: weights, configuration and model card."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import yaml

from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"


def _set_aside(folder: pathlib.Path) -> pathlib.Path:
    """Where a checkpoint waits while its successor takes its place."""
    return folder.with_name(f".{folder.name}.old")


def load_config(path: str | os.PathLike[str]) -> WorldModelConfig:
    """The configuration of a checkpoint folder, without its weights."""
    folder = pathlib.Path(path)
    old = _set_aside(folder)
    if not folder.exists() and old.is_dir():
        old.rename(folder)  # a save was killed between its two renames
    file = folder / CONFIG
    if not file.is_file():
        rule = f"a checkpoint folder with {CONFIG} and {WEIGHTS}"
        raise CheckpointError("checkpoint", rule, str(path))
    try:
        data: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(str(file), "valid YAML without Python objects", str(error)) from error
    if not isinstance(data, dict):
        raise CheckpointError(str(file), "a mapping", json.dumps(data)[:80])
    return WorldModelConfig.from_dict(data)


def default_checkpoint() -> pathlib.Path:
    """The checkpoint used when none is named: $V2W_CHECKPOINT, or the one that ships with v2w.

    Raises:
        CheckpointError: neither is there.
    """
    named = os.environ.get("V2W_CHECKPOINT")
    if named:
        return pathlib.Path(named)
    shipped = pathlib.Path(__file__).resolve().parent / "checkpoints" / "doom_maze"
    if not shipped.is_dir():
        rule = "train one (v2w train) and name it with --checkpoint or $V2W_CHECKPOINT"
        raise CheckpointError("checkpoint", rule, str(shipped))
    return shipped
