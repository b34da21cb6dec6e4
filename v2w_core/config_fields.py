"""Types and ranges of the numbers in a configuration that is read from a file.

Every number is checked by its field's name before it is used for anything: a size of 10^9, a
negative number of blocks or NaN must not reach a network. The ranges are wide; the weights file is
the measure of what is built (:mod:`v2w_core.weights_file`).
"""

from __future__ import annotations

import math
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from v2w_core.errors import V2WError

Range = tuple[float, float]
#: Largest number of entries of a list, and of characters of a text.
MAX_ENTRIES, MAX_CHARACTERS = 1024, 4096
_WIDTH: Range = (1, 65536)
_FACTOR: Range = (1, 64)
_BLOCKS: Range = (1, 16)
_TOKENS: Range = (1, 4096)
_LEVELS: Range = (2, 100_000)
_SHARE: Range = (0, 1)
_UNIT: Range = (1e-6, 1e6)
_MOTION: Range = (-1e6, 1e6)
#: Any number that is not in the table.
_ANY: Range = (-1e12, 1e12)
#: The longest lists, which are as long as a network is deep.
_LENGTHS = {"channel_mult": 8, "block_channels": 8, "attention_levels": 8, "planes": 8}

#: Smallest and largest value of a field, by the name of its dataclass; of each entry, for a list.
RANGES: dict[str, dict[str, Range]] = {
    "WorldModelConfig": {"num_history": (1, 1024), "num_frames": (2, 1024)},
    "ActionSpec": {"rate_hz": (1e-4, 1e5), "scale": _UNIT, "offset": _MOTION, "low": _MOTION,
                   "high": _MOTION},
    "ObservationSpec": {"height": (8, 8192), "width": (8, 8192), "inner_size": (8, 8192),
                        "crop_aspect": (0.01, 100), "fov_rad": (0.01, 3.14)},
    "ConditionConfig": {"planes": (0.01, 1e4)},
    "AutoencoderConfig": {"latent_channels": _WIDTH, "block_channels": _WIDTH,
                          "layers_per_block": _BLOCKS, "patch_size": _FACTOR,
                          "norm_groups": _WIDTH},
    "UNetConfig": {"in_channels": _WIDTH, "out_channels": _WIDTH, "model_channels": _WIDTH,
                   "channel_mult": _FACTOR, "num_res_blocks": _BLOCKS, "attention_levels": (0, 8),
                   "head_dim": _WIDTH, "ff_mult": _FACTOR, "norm_groups": _WIDTH,
                   "temporal_kernel": _FACTOR, "num_temporal_convs": _BLOCKS, "dropout": _SHARE,
                   "action_dim": _TOKENS, "context_dim": _WIDTH, "frame_stride": (0, 100_000),
                   "condition_channels": (0, 65536)},
    "DiffusionConfig": {"num_levels": _LEVELS, "beta_start": _SHARE, "beta_end": _SHARE,
                        "base_scale": _SHARE, "turning_level": (1, 100_000)},
    "SamplingConfig": {"num_steps": (1, 100_000), "guidance_scale": (0, 1000),
                       "guidance_rescale": _SHARE, "history_level": (0, 100_000), "eta": _SHARE,
                       "num_sinks": (0, 1024)},
    "GoalDistanceConfig": {"channels": _WIDTH, "metres": _UNIT, "radians": _UNIT},
    "ImageContextConfig": {"num_text": _TOKENS},
    "VisionTowerConfig": {"width": _WIDTH, "depth": (1, 256), "num_heads": _TOKENS,
                          "mlp_width": _WIDTH, "patch_size": (1, 224)},
    "ResamplerConfig": {"in_dim": _WIDTH, "dim": _WIDTH, "out_dim": _WIDTH, "depth": (1, 256),
                        "num_heads": _TOKENS, "head_dim": _WIDTH, "num_queries": _TOKENS,
                        "num_frames": (1, 1024), "ff_mult": _FACTOR},
}  # fmt: skip


def checked_field(owner: str, name: str, hint: Any, value: Any, where: str) -> Any:
    """The value of a field, with lists as tuples and whole numbers as float where those are meant.

    Args:
        owner: name of the dataclass.
        name: name of the field.
        hint: its type; of other types than numbers, texts, choices, tuples of them and None the
            value is returned as it is.
        value: plain data.
        where: what errors call the field, e.g. "config.yaml.unet.model_channels".

    Raises:
        V2WError: a value of another type or out of range, or too long a list or text.
    """
    limits = RANGES.get(owner, {}).get(name, _ANY)
    return _checked(hint, value, where, limits, _LENGTHS.get(name, MAX_ENTRIES))


def _checked(hint: Any, value: Any, where: str, limits: Range, longest: int) -> Any:
    choices = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in choices if kind is not type(None)]
        if value is None and len(kinds) < len(choices):
            return None
        return _checked(kinds[0], value, where, limits, longest) if len(kinds) == 1 else value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise V2WError(where, "a list", value)
        if len(value) > longest:
            raise V2WError(where, f"at most {longest} entries", len(value))
        item = choices[0]
        return tuple(
            _checked(item, entry, f"{where}[{index}]", limits, longest)
            for index, entry in enumerate(value)
        )
    if get_origin(hint) is Literal or hint is str:
        if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
            raise V2WError(where, f"a text of at most {MAX_CHARACTERS} characters", value)
    elif hint is bool:
        if not isinstance(value, bool):
            raise V2WError(where, "true or false", value)
    elif hint in (int, float):
        return _number(hint, value, where, limits)
    return tuple(value) if isinstance(value, list) else value


def _number(kind: type, value: Any, where: str, limits: Range) -> int | float:
    low, high = limits
    sound = type(value) is int or (kind is float and type(value) is float and math.isfinite(value))
    if not sound or not low <= value <= high:
        rule = f"a {'whole ' if kind is int else ''}number from {low:g} to {high:g}"
        raise V2WError(where, rule, _shown(value))
    return value if kind is int else float(value)


def _shown(value: Any) -> Any:
    """The value, unless writing it down is itself a lot of work."""
    return "a very large number" if isinstance(value, int) and abs(value) > 10**30 else value
