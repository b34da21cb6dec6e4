"""A released .ckpt file becomes a checkpoint folder, tensor by tensor.

Nothing in the file is executed (``weights_only``), it is mapped and not read into memory, and its
noise schedule is ignored: the released files hold one that was overwritten.
"""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor

from v2w_core.config import WorldModelConfig
from v2w_core.errors import CheckpointError
from v2w_core.models.image_context import import_transformers
from v2w_core.transfer.autoencoder_names import (
    AUTOENCODER_PREFIX,
    LATENT_SCALE,
    autoencoder_weights,
)
from v2w_core.transfer.clip_names import (
    TEXT_PREFIX,
    UNUSED,
    VISION_PREFIX,
    text_weights,
    vision_weights,
)
from v2w_core.transfer.reference_names import UNET_PREFIX, unet_name
from v2w_core.transfer.released import SCHEDULE_BUFFERS
from v2w_core.transfer.stream import Entry, new_folder, write_safetensors
from v2w_core.world_model import CARD, CONFIG, WEIGHTS, WorldModel

RESAMPLER_PREFIX = "image_proj_model."
_DEEPSPEED_PREFIX = "_forward_module."
Track = Callable[[Iterable[str]], Iterable[str]]


def read_released(path: pathlib.Path) -> dict[str, Tensor]:
    """All tensors of a Lightning or DeepSpeed .ckpt by their released names, mapped not read.

    Raises:
        CheckpointError: no such file, a damaged one, or one that is not a checkpoint.
    """
    if not path.is_file():
        raise CheckpointError("checkpoint", "an original .ckpt file", str(path))
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        rule = "a complete .ckpt of tensors; it is damaged, or holds something else"
        raise CheckpointError(str(path), rule, str(error)) from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        weights = dict(data["state_dict"])
    elif isinstance(data, Mapping) and isinstance(data.get("module"), Mapping):
        weights = {k.removeprefix(_DEEPSPEED_PREFIX): v for k, v in data["module"].items()}
    else:
        shown = sorted(data)[:5] if isinstance(data, Mapping) else type(data).__name__
        rule = "a mapping with 'state_dict' (Lightning) or 'module' (DeepSpeed)"
        raise CheckpointError(str(path), rule, shown)
    wrong = [k for k, v in weights.items() if not isinstance(v, Tensor)]
    if wrong:
        raise CheckpointError(str(path), "tensors only", f"{wrong[0]} is no tensor")
    return weights


def convert_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released tensors by our names; the schedule and what nothing uses are left out.

    The text tower is not among them (see :func:`empty_text_tokens`). Names that are not known
    stay as they are.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        prefix = next((p for p in _CONVERTERS if name.startswith(p)), "")
        if name in SCHEDULE_BUFFERS or UNUSED.match(name) or name.startswith(TEXT_PREFIX):
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
}


@torch.inference_mode()
def empty_text_tokens(weights: Mapping[str, Tensor], num_heads: int = 16) -> Tensor:
    """Tokens [77, D] of the empty text, from the released text tower (penultimate layer).

    Args:
        weights: by released names, ``cond_stage_model.model.*``.
    """
    transformers = import_transformers()
    tower = text_weights({k: v for k, v in weights.items() if k.startswith(TEXT_PREFIX)
                          and not UNUSED.match(k)})  # fmt: skip
    embedding = tower["embeddings.token_embedding.weight"]
    depth = 1 + max(int(k.split(".")[2]) for k in tower if k.startswith("encoder.layers."))
    length = len(tower["embeddings.position_embedding.weight"])
    with torch.device("meta"):
        model = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(embedding),
                hidden_size=embedding.shape[1],
                intermediate_size=len(tower["encoder.layers.0.mlp.fc1.weight"]),
                num_hidden_layers=depth,
                num_attention_heads=num_heads,
                max_position_embeddings=length,
                hidden_act="gelu",
            )
        )
    model.load_state_dict({k: v.float() for k, v in tower.items()}, assign=True)
    for name, buffer in model.named_buffers():
        if buffer.is_meta:  # position ids are not in the file
            owner, _, attribute = name.rpartition(".")
            module = model.get_submodule(owner)
            setattr(module, attribute, torch.arange(buffer.shape[-1]).expand(buffer.shape))
    start, end = len(embedding) - 2, len(embedding) - 1
    ids = torch.tensor([[start, end] + [0] * (length - 2)])
    hidden = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states[-2]
    tokens: Tensor = model.final_layer_norm(hidden)[0]
    return tokens


def import_checkpoint(
    source: pathlib.Path,
    dest: pathlib.Path,
    config: WorldModelConfig,
    card: str,
    *,
    track: Track = iter,
) -> pathlib.Path:
    """Write ``dest``, a checkpoint folder in float16; it appears whole or not at all.

    Args:
        source: the .ckpt file.
        config: what the file holds.
        track: wraps the names of tensors as they are written.

    Raises:
        CheckpointError: names that are missing, unknown or of another shape; NaN; ``dest`` exists.
    """
    if dest.exists():
        raise CheckpointError("dest", "a folder that does not exist yet", str(dest))
    weights = read_released(source)
    converted = convert_weights(weights)
    with torch.device("meta"):
        expected = WorldModel(config).state_dict()
    missing_text = [] if any(k.startswith(TEXT_PREFIX) for k in weights) else [f"{TEXT_PREFIX}*"]
    made = {"autoencoder.latent_mean", "autoencoder.latent_std", "image_context.text_tokens"}
    _compare(source, converted, {k: v for k, v in expected.items() if k not in made}, missing_text)
    channels = config.autoencoder.latent_channels
    constants = {
        "autoencoder.latent_mean": torch.zeros(channels),
        "autoencoder.latent_std": torch.full((channels,), 1 / LATENT_SCALE),
        "image_context.text_tokens": empty_text_tokens(weights),
    }
    entries = {
        name: Entry(tuple(value.shape), torch.float16, lambda k=name, v=value: _finite(k, v))  # type: ignore[misc]
        for name, value in converted.items()
    }
    for name, value in constants.items():
        entries[name] = Entry(tuple(value.shape), torch.float32, lambda v=value: v)  # type: ignore[misc]
    with new_folder(dest) as folder:
        write_safetensors(folder / WEIGHTS, entries, track)
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        (folder / CONFIG).write_text(text, encoding="utf-8")
        (folder / CARD).write_text(card, encoding="utf-8")
    return dest


def _compare(
    source: pathlib.Path,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    missing: list[str],
) -> None:
    missing = missing + sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{k} {tuple(found[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    if missing or unknown or wrong:
        lines = [
            *(f"  missing  {name}" for name in missing),
            *(f"  unknown  {name}" for name in unknown),
            *(f"  shape    {name}" for name in wrong),
        ]
        shown = "\n".join(lines[:40] + ([f"  ... {len(lines) - 40} more"] if lines[40:] else []))
        counts = f"{len(missing)} missing, {len(unknown)} unknown, {len(wrong)} of another shape"
        raise CheckpointError(
            str(source), f"the tensors of this --kind; {counts}; is it another model?\n{shown}"
        )


def _finite(name: str, value: Tensor) -> Tensor:
    half = value.half()
    if not bool(half.isfinite().all()):
        raise CheckpointError(name, "finite numbers within float16's range", "NaN or infinity")
    return half
