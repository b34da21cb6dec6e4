"""The checkpoint folder: weights, configuration and model card, read and written as one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError
from v2w_core.files import replaced_folder, restore_folder
from v2w_core.weights_file import no_larger_than, require_fit, weights_shapes
from v2w_core.yaml_files import YAMLError, read_yaml

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"


def load_config(path: str | os.PathLike[str]) -> WorldModelConfig:
    """The configuration of a checkpoint folder, without its weights.

    Raises:
        CheckpointError: no such folder, no valid or too large a YAML, a newer format version,
            values out of range.
    """
    folder = Path(path)
    restore_folder(folder)
    file = folder / CONFIG
    if not file.is_file():
        rule = f"a checkpoint folder with {CONFIG} and {WEIGHTS}"
        raise CheckpointError("checkpoint", rule, str(path))
    try:
        data: Any = read_yaml(file)
    except (YAMLError, OSError) as error:
        raise CheckpointError(str(file), str(error)) from error
    if not isinstance(data, dict):
        raise CheckpointError(str(file), "a mapping", data)
    return WorldModelConfig.from_dict(data)


@contextmanager
def sized_by_weights(path: str | os.PathLike[str]) -> Iterator[None]:
    """A context manager in which the model of a checkpoint folder is built.

    Raises:
        CheckpointError: the weights file is missing or damaged, or the model would be larger than
            its weights: found before any memory is filled.
    """
    file = Path(path) / WEIGHTS
    with no_larger_than(file, weights_shapes(file)):
        yield


def load_weights(path: str | os.PathLike[str], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint folder, by name.

    Args:
        expected: a state dict of the same names and shapes, e.g. of the model that they are for.

    Raises:
        CheckpointError: a missing, damaged or truncated file, weights of other names or shapes,
            NaN or infinity.
    """
    weights = Path(path) / WEIGHTS
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    require_fit(weights, weights_shapes(weights), shapes)
    try:
        state = load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            str(weights), "a complete safetensors file; it is damaged or truncated", str(error)
        ) from error
    require_fit(weights, {name: tuple(value.shape) for name, value in state.items()}, shapes)
    bad = not_finite(state)
    if bad is not None:
        raise CheckpointError(str(weights), "finite weights", f"NaN or infinity in {bad}")
    return state


def save_checkpoint(
    path: str | os.PathLike[str], state: Mapping[str, Tensor], config: WorldModelConfig, card: str
) -> Path:
    """Writes a checkpoint folder; it appears whole or not at all, and replaces an earlier one.

    Args:
        state: weights by name; copied to the CPU.
        card: Markdown of the model card.
    """
    folder = Path(path)
    with replaced_folder(folder) as temporary:
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / WEIGHTS).chmod(0o644)
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
    return folder


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The first name of a tensor with NaN or infinity; None where all are finite."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


def default_checkpoint() -> Path:
    """The checkpoint used when none is named: $V2W_CHECKPOINT, or the one that ships with v2w.

    Raises:
        CheckpointError: neither is there.
    """
    named = os.environ.get("V2W_CHECKPOINT")
    if named:
        return Path(named)
    shipped = Path(__file__).resolve().parent / "checkpoints" / "doom_maze"
    if not shipped.is_dir():
        rule = "train one (v2w train) and name it with --checkpoint or $V2W_CHECKPOINT"
        raise CheckpointError("checkpoint", rule, str(shipped))
    return shipped
