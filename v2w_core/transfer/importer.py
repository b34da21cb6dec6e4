"""Import of a released .ckpt file into a checkpoint folder, tensor by tensor.

Nothing in the file is executed (``weights_only``). It is memory-mapped, and its noise schedule is
ignored: the released files hold one that their code overwrites.
"""

from __future__ import annotations

import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor

from v2w_core.checkpoint import CARD, CONFIG, WEIGHTS
from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError
from v2w_core.transfer.autoencoder_keys import (
    AUTOENCODER_PREFIX,
    LATENT_SCALE,
    autoencoder_weights,
)
from v2w_core.transfer.clip_keys import (
    TEXT_PREFIX,
    UNUSED,
    VISION_PREFIX,
    text_weights,
    vision_weights,
)
from v2w_core.transfer.released import SCHEDULE_BUFFERS
from v2w_core.transfer.streamed_writer import Entry, new_folder, release, write_safetensors
from v2w_core.transfer.text_tower import (
    VIT_H,
    TextTowerConfig,
    empty_text_tokens,
    text_tower,
)
from v2w_core.transfer.unet_keys import UNET_PREFIX, unet_name
from v2w_core.world_model import WorldModel

RESAMPLER_PREFIX = "image_proj_model."
TEXT_TOWER = "text_tower."
#: Buffers of the model that no released file holds.
_CONSTANTS = {"autoencoder.latent_mean", "autoencoder.latent_std", "image_context.text_tokens"}
_DEEPSPEED_PREFIX = "_forward_module."
#: First bytes of files that torch.save wrote before its zip format.
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
Track = Callable[[Iterable[str]], Iterable[str]]


def read_released(path: pathlib.Path) -> dict[str, Tensor]:
    """All tensors of a Lightning or DeepSpeed .ckpt by their released names, memory-mapped.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint.
    """
    if not path.is_file():
        raise CheckpointError("checkpoint", "an original .ckpt file", str(path))
    with path.open("rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            rule = "torch's zip format; this is its old one: load the file and torch.save it again"
            raise CheckpointError(str(path), rule)
        file.seek(0)
        if not zipfile.is_zipfile(file):
            file.seek(0)
            rule = "a complete .ckpt written by torch.save; this file is damaged or of another type"
            found = f"{path.stat().st_size} bytes that begin with {file.read(16)!r}"
            raise CheckpointError(str(path), rule, found)
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        rule = "tensors only; it holds Python objects, which are never loaded: save its state_dict"
        raise CheckpointError(str(path), rule, str(error)) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        rule = "a complete .ckpt of tensors; this one is damaged"
        raise CheckpointError(str(path), rule, str(error)) from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        weights = dict(data["state_dict"])
    elif isinstance(data, Mapping) and isinstance(data.get("module"), Mapping):
        weights = {str(k).removeprefix(_DEEPSPEED_PREFIX): v for k, v in data["module"].items()}
    else:
        shown = [str(k) for k in data][:5] if isinstance(data, Mapping) else type(data).__name__
        rule = "a mapping with 'state_dict' (Lightning) or 'module' (DeepSpeed)"
        raise CheckpointError(str(path), rule, shown)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(str(path), "tensors by their names only", f"{name!r}")
    return weights


def convert_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released tensors by our names, without the noise schedule and unused parameters.

    Unknown names are kept.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        prefix = next((p for p in _CONVERTERS if name.startswith(p)), "")
        if name in SCHEDULE_BUFFERS or UNUSED.match(name):
            continue
        parts.setdefault(prefix, {})[name.removeprefix(prefix)] = value
    out = dict(parts.pop("", {}))
    for prefix, group in parts.items():
        ours, convert = _CONVERTERS[prefix]
        out.update({f"{ours}{name}": value for name, value in convert(group).items()})
    return out


_CONVERTERS: dict[str, tuple[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    UNET_PREFIX: ("unet.", lambda group: {unet_name(k): v for k, v in group.items()}),
    AUTOENCODER_PREFIX: ("autoencoder.vae.", autoencoder_weights),
    RESAMPLER_PREFIX: ("image_context.resampler.", dict),
    VISION_PREFIX: ("image_context.vision.", vision_weights),
    TEXT_PREFIX: (TEXT_TOWER, text_weights),
}


def expected_tensors(config: WorldModelConfig, text: TextTowerConfig) -> dict[str, Tensor]:
    """Tensors that a released file must hold, by our names, on the meta device."""
    with torch.device("meta"):
        model = WorldModel(config).state_dict()
        tower = text_tower(text).state_dict()
    found = {name: value for name, value in model.items() if name not in _CONSTANTS}
    return {**found, **{f"{TEXT_TOWER}{name}": value for name, value in tower.items()}}


def import_checkpoint(
    source: pathlib.Path,
    dest: pathlib.Path,
    config: WorldModelConfig,
    card: str,
    *,
    text: TextTowerConfig = VIT_H,
    dtype: torch.dtype = torch.float16,
    track: Track = iter,
) -> pathlib.Path:
    """Writes the checkpoint folder ``dest`` atomically.

    Args:
        source: the .ckpt file.
        config: configuration of the model in the file.
        card: text of the model card.
        text: sizes of the text tower in the file.
        dtype: type of the stored weights; models are computed in float32 in any case.
        track: wraps the names of the tensors as they are written, e.g. in a progress bar.

    Raises:
        CheckpointError: tensors are missing, unknown, of another shape or not finite, or ``dest``
            exists.
    """
    if dest.exists():
        raise CheckpointError("dest", "a folder that does not exist yet", str(dest))
    weights = convert_weights(read_released(source))
    _compare(source, weights, expected_tensors(config, text))
    tower = {
        name.removeprefix(TEXT_TOWER): _checked_copy(name, weights.pop(name), torch.float32)
        for name in sorted(weights)
        if name.startswith(TEXT_TOWER)
    }
    channels = config.autoencoder.latent_channels
    constants = {
        "autoencoder.latent_mean": torch.zeros(channels),
        "autoencoder.latent_std": torch.full((channels,), 1 / LATENT_SCALE),
        "image_context.text_tokens": empty_text_tokens(text, tower),
    }
    del tower
    entries = {
        name: Entry(tuple(v.shape), kind, lambda k=name, v=v, d=kind: _checked_copy(k, v, d))  # type: ignore[misc]
        for part, kind in ((weights, dtype), (constants, torch.float32))
        for name, v in part.items()
    }
    with new_folder(dest) as folder:
        write_safetensors(folder / WEIGHTS, entries, track)
        plain = yaml.safe_dump(config.to_dict(), sort_keys=False)
        (folder / CONFIG).write_text(plain, encoding="utf-8")
        (folder / CARD).write_text(card, encoding="utf-8")
    return dest


def _compare(
    source: pathlib.Path,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> None:
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{k} {tuple(found[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    if missing or unknown or wrong:
        kinds = {"missing": missing, "unknown": unknown, "shape": wrong}
        lines = [line for kind, names in kinds.items() for line in _listed(kind, names)]
        shown = "\n".join(lines)
        counts = f"{len(missing)} missing, {len(unknown)} unknown, {len(wrong)} of another shape"
        raise CheckpointError(
            str(source), f"the tensors of this --kind; {counts}; is it another model?\n{shown}"
        )


def _listed(kind: str, names: list[str], limit: int = 15) -> list[str]:
    more = [f"  {kind:7}  ... and {len(names) - limit} more"] if len(names) > limit else []
    return [*(f"  {kind:7}  {name}" for name in names[:limit]), *more]


def _checked_copy(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of ``value``, which must be finite; frees the mapped pages of ``value``."""
    copied = value.to(dtype, copy=True)
    if not bool(copied.isfinite().all()):
        if bool(value.isfinite().all()):
            rule = (
                f"numbers up to {torch.finfo(dtype).max:g}, the largest of {dtype}; --dtype float32"
            )
            raise CheckpointError(name, rule, f"{float(value.abs().max()):g}")
        raise CheckpointError(name, "finite numbers", "NaN or infinity")
    release(value)
    return copied
