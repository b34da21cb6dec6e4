"""Configuration of a model, as frozen dataclasses and as config.yaml in a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from v2w_core.config_fields import checked_field
from v2w_core.diffusion.compat import CompatConfig
from v2w_core.diffusion.schedule import DiffusionConfig
from v2w_core.errors import CheckpointError, V2WError
from v2w_core.models.autoencoder import AutoencoderConfig
from v2w_core.models.goal_distance import GoalDistanceConfig
from v2w_core.models.image_context.image_context import ImageContextConfig
from v2w_core.models.motion_head import MOTION_CHANNELS, MotionHead
from v2w_core.models.unet import UNetConfig
from v2w_core.models.warped_previous import ConditionConfig, check_geometry
from v2w_core.spec import ActionSpec, ObservationSpec

FORMAT_VERSION = 1
ImaginedHistory = Literal["reencode", "reuse"]
PastWindow = Literal["recompute", "ring"]


@dataclass(frozen=True)
class SamplingConfig:
    """Default sampling settings of a rollout.

    Attributes:
        num_steps: number of DDIM steps per frame.
        guidance_scale: guidance scale of the latest action; 1 turns guidance off.
        guidance_rescale: share (0..1) of the rescaling of the guided prediction to the standard
            deviation of the conditional one.
        history_level: history noise level, the small noise level of all history frames.
        eta: DDIM's eta: 0 is deterministic, 1 adds as much noise as ancestral sampling.
        imagined_history: how an imagined frame becomes history. "reencode": it passes through the
            network once more at the history noise level, like a camera frame. "reuse": the cache
            keeps the state of its last denoising pass, which costs nothing (with one step, later
            frames depend on its action and not on its pixels). Older checkpoints have the names
            "held" and "denoised", which are still read.
        past_window: what happens when the trained window is full. "ring": the oldest frame is
            evicted from the cache; the state of the other frames still depends on it.
            "recompute": the newest num_history frames are encoded again. docs/past_window.md
            compares them.
        num_sinks: number of first frames of the history that the ring never evicts.
    """

    num_steps: int = 1
    guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    history_level: int = 5
    eta: float = 0.0
    imagined_history: ImaginedHistory = "reencode"
    past_window: PastWindow = "ring"
    num_sinks: int = 0

    def __post_init__(self) -> None:
        renamed = {"held": "reencode", "denoised": "reuse"}.get(self.imagined_history)
        if renamed is not None:
            object.__setattr__(self, "imagined_history", renamed)
        if self.imagined_history not in ("reencode", "reuse"):
            rule = "reencode or reuse"
            raise V2WError("sampling.imagined_history", rule, self.imagined_history)
        if self.past_window not in ("recompute", "ring"):
            raise V2WError("sampling.past_window", "recompute or ring", self.past_window)


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes, spaces and defaults of a world model.

    Attributes:
        num_history: number of camera frames that a rollout starts from.
        num_frames: length of the trained window, history and horizon together.
        goal_distance: network that estimates the distance between two views; None without one.
        context: image context of the first frame; None for our models.
        compat: quirks of the released code, for sampling with models that cannot be cached.
        condition: channels beside the latents that say how the action moves the frame before; None
            without them.
        motion_head: whether the U-Net also predicts the displacement that follows a command.
    """

    action: ActionSpec
    observation: ObservationSpec
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    num_history: int = 4
    num_frames: int = 12
    goal_distance: GoalDistanceConfig | None = None
    context: ImageContextConfig | None = None
    compat: CompatConfig = field(default_factory=CompatConfig)
    condition: ConditionConfig | None = None
    motion_head: bool = False

    def __post_init__(self) -> None:
        without_actions = self.action.dim if self.unet.causal else None
        if self.unet.action_dim not in (self.action.dim, without_actions):
            rule = f"the ActionSpec's {self.action.dim} (none only in a model that is not causal)"
            raise V2WError("unet.action_dim", rule, self.unet.action_dim)
        self._check_channels()
        if (self.context is None) != (self.unet.context_dim is None):
            rule = "set exactly when unet.context_dim is"
            raise V2WError("context", rule, self.unet.context_dim)
        for name in ("height", "width"):
            if getattr(self.observation, name) % self.autoencoder.factor:
                rule = f"a multiple of the autoencoder's factor {self.autoencoder.factor}"
                raise V2WError(f"observation.{name}", rule, getattr(self.observation, name))
        levels = self.diffusion.num_levels
        if not 0 <= self.sampling.history_level < levels:
            rule = f"a noise level, 0 to {levels - 1}"
            raise V2WError("sampling.history_level", rule, self.sampling.history_level)
        if not 1 <= self.sampling.num_steps <= levels:
            rule = f"1 to diffusion.num_levels, {levels}"
            raise V2WError("sampling.num_steps", rule, self.sampling.num_steps)
        if not 1 <= self.num_history < self.num_frames:
            raise V2WError("num_history", "1 <= num_history < num_frames", self.num_history)
        most = min(self.num_history, self.num_frames - 2)  # one slot is left for eviction
        if self.sampling.past_window == "ring" and not 0 <= self.sampling.num_sinks <= most:
            rule = f"0 to {most}: frames of the history, with one slot of the window left to evict"
            raise V2WError("sampling.num_sinks", rule, self.sampling.num_sinks)

    def _check_channels(self) -> None:
        """The U-Net's channels are those of the latents, the condition and the motion head."""
        latents = self.autoencoder.latent_channels
        out = latents + (MOTION_CHANNELS if self.motion_head else 0)
        if self.unet.out_channels != out:
            head = f" and {MOTION_CHANNELS} of the motion head" if self.motion_head else ""
            rule = f"the autoencoder's {latents} latent channels{head}"
            raise V2WError("unet.out_channels", rule, self.unet.out_channels)
        condition = 0 if self.condition is None else self.condition.num_channels(latents)
        if self.unet.condition_channels != condition:
            rule = f"the condition's {condition}"
            raise V2WError("unet.condition_channels", rule, self.unet.condition_channels)
        if self.condition is not None:
            check_geometry(self.observation, self.action)
        if self.motion_head:
            MotionHead(self.action)
        if (self.condition is not None or self.motion_head) and not self.cacheable:
            rule = "neither in a model whose frames cannot be cached"
            raise V2WError("condition, motion_head", rule, (self.condition, self.motion_head))

    @property
    def action_guided(self) -> bool:
        """Whether the model is causal and conditioned on actions; False for video diffusion."""
        return self.unet.causal and self.unet.action_dim is not None

    @property
    def cacheable(self) -> bool:
        """Whether earlier frames can be cached: the model is strictly causal, and its frames are
        conditioned on noise levels and actions only (first-frame latents, image context and
        dynamic rescale are not supported)."""
        no_context = self.context is None and not self.first_frame_channels
        strictly_causal = self.unet.causal and self.unet.norm_scope == "frame"
        return strictly_causal and no_context and self.diffusion.base_scale == 1.0

    @property
    def first_frame_channels(self) -> int:
        """Number of input channels of the U-Net for the latents of the first frame."""
        beside = self.unet.in_channels - self.autoencoder.latent_channels
        return beside - self.unet.condition_channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one frame's latents."""
        factor = self.autoencoder.factor
        o = self.observation
        return self.autoencoder.latent_channels, o.height // factor, o.width // factor

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one frame's input of the U-Net."""
        return self.unet.in_channels, *self.latent_shape[1:]

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one frame's output of the U-Net."""
        return self.unet.out_channels, *self.latent_shape[1:]

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the format version, for config.yaml."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return {"format_version": FORMAT_VERSION, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorldModelConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            CheckpointError: a newer format version, unknown or missing keys, or inconsistent
                values.
        """
        version = data.get("format_version")
        if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
            rule = f"1..{FORMAT_VERSION}; a newer checkpoint needs a newer v2w"
            raise CheckpointError("config.yaml: format_version", rule, version)
        rest = {k: v for k, v in data.items() if k != "format_version"}
        try:
            return build_dataclass(cls, rest, "config.yaml")
        except CheckpointError:
            raise
        except V2WError as error:
            raise CheckpointError(f"config.yaml: {error.field}", error.rule, error.value) from error


D = TypeVar("D")


def build_dataclass(cls: type[D], data: Mapping[str, Any], where: str) -> D:
    """A (nested) dataclass from plain data; lists become tuples.

    Raises:
        V2WError: unknown or missing keys, or values that the dataclass refuses.
    """
    if not isinstance(data, Mapping):
        raise V2WError(where, "a mapping", data)
    hints = get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(name) for name in set(data) - names)
    if unknown:
        raise V2WError(f"{where}.{unknown[0]}", f"one of {sorted(names)}", unknown[0])
    values: dict[str, Any] = {}
    for name, value in data.items():
        hint = _without_none(hints[name]) if value is not None else hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[name] = build_dataclass(hint, value, f"{where}.{name}")
        else:
            values[name] = checked_field(cls.__name__, name, hint, value, f"{where}.{name}")
    try:
        return cls(**values)
    except TypeError as error:
        raise V2WError(where, f"{cls.__name__}: {error}", sorted(data)) from error


def _without_none(hint: Any) -> Any:
    """X of ``X | None``; any other type hint unchanged."""
    choices = [item for item in get_args(hint) if item is not type(None)]
    is_optional = isinstance(hint, UnionType) and len(choices) == 1
    return choices[0] if is_optional else hint


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
