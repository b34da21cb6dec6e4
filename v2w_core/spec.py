"""Action and observation spaces: ActionSpec and ObservationSpec, frozen and self-validating.

Checkpoints (config.yaml) store both and episode files the ActionSpec, so that neither a planner nor
a node has to guess a unit, a bound or a rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import V2WError

FloatArray = NDArray[np.float32]
Resize = Literal["stretch", "crop", "pad"]

#: Names of planar body-frame displacements; a spec that has all three can be integrated to a path.
PLANAR_NAMES = ("dx", "dy", "dyaw")


@dataclass(frozen=True)
class ActionSpec:
    """The action space: one row of ``action_sequence [horizon, dim]`` in physical units.

    Attributes:
        names: name of each dimension, e.g. ("dx", "dy", "dyaw").
        units: unit of each dimension, e.g. ("m", "m", "rad").
        low, high: inclusive bounds in physical units.
        rate_hz: steps per second; each action lasts ``dt_s`` = 1 / rate_hz.
        offset, scale: normalisation; the model's input is (action - offset) / scale.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("names", "units"):
            object.__setattr__(self, name, tuple(str(item) for item in getattr(self, name)))
        for name in ("low", "high", "offset", "scale"):
            object.__setattr__(self, name, tuple(float(item) for item in getattr(self, name)))
        dim = len(self.names)
        if dim == 0 or len(set(self.names)) != dim:
            raise V2WError("ActionSpec.names", "at least one name, no name twice", self.names)
        if not self.offset:
            object.__setattr__(self, "offset", (0.0,) * dim)
        if not self.scale:
            spread = tuple(
                max(abs(lo), abs(hi), 1e-6) for lo, hi in zip(self.low, self.high, strict=False)
            )
            object.__setattr__(self, "scale", spread)
        for name in ("units", "low", "high", "offset", "scale"):
            value = getattr(self, name)
            if len(value) != dim:
                raise V2WError(f"ActionSpec.{name}", f"{dim} entries, one for each name", value)
        for name in ("low", "high", "offset", "scale"):
            if not all(math.isfinite(item) for item in getattr(self, name)):
                raise V2WError(f"ActionSpec.{name}", "finite numbers", getattr(self, name))
        if any(lo >= hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise V2WError("ActionSpec.low", "each below its high", (self.low, self.high))
        if any(item <= 0 for item in self.scale):
            raise V2WError("ActionSpec.scale", "positive numbers", self.scale)
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise V2WError(
                "ActionSpec.rate_hz", "a positive number of steps a second", self.rate_hz
            )

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def dt_s(self) -> float:
        return 1.0 / self.rate_hz

    @property
    def is_planar(self) -> bool:
        """Whether dx, dy and dyaw (metres and radians in the body frame) are among the names."""
        return all(name in self.names for name in PLANAR_NAMES)

    def planar_indices(self) -> tuple[int, int, int]:
        """Indices of dx, dy and dyaw.

        Raises:
            V2WError: the spec is not planar.
        """
        if not self.is_planar:
            raise V2WError("ActionSpec.names", f"must contain {PLANAR_NAMES}", self.names)
        x, y, yaw = (self.names.index(name) for name in PLANAR_NAMES)
        return x, y, yaw

    def normalise(self, actions: ArrayLike) -> FloatArray:
        """Physical actions [..., dim] -> normalised actions, float32 [..., dim]."""
        array = np.asarray(actions, dtype=np.float32)
        return (array - np.array(self.offset, np.float32)) / np.array(self.scale, np.float32)  # type: ignore[return-value]

    def denormalise(self, actions: ArrayLike) -> FloatArray:
        """The inverse of :meth:`normalise`."""
        array = np.asarray(actions, dtype=np.float32)
        return array * np.array(self.scale, np.float32) + np.array(self.offset, np.float32)

    def clip(self, actions: ArrayLike) -> FloatArray:
        """Actions clipped to the bounds, float32, same shape."""
        array = np.asarray(actions, dtype=np.float32)
        return np.clip(array, np.array(self.low, np.float32), np.array(self.high, np.float32))

    def validate(
        self,
        actions: ArrayLike,
        *,
        horizon: int | None = None,
        field: str = "action_sequence",
        bounds: bool = True,
    ) -> FloatArray:
        """Checked copy, float32 [..., horizon, dim] in physical units.

        Raises:
            V2WError: wrong rank, width or length, NaN or infinity, or (with ``bounds``) an entry
                outside [low, high] by more than 1e-4 of the range. The message has the index of
                the first such entry.
        """
        try:
            array = np.array(actions, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise V2WError(field, "an array of numbers [horizon, dim]", str(error)) from error
        if array.ndim < 2 or array.shape[-1] != self.dim:
            rule = f"shape [..., horizon, {self.dim}] for {', '.join(self.names)}"
            raise V2WError(field, rule, list(array.shape))
        if horizon is not None and array.shape[-2] != horizon:
            raise V2WError(field, f"exactly {horizon} steps", f"{array.shape[-2]} steps")
        if array.shape[-2] == 0:
            raise V2WError(field, "at least one step", "0 steps")
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise V2WError(f"{field}[{index}]", "finite numbers", float(array[index]))
        if bounds:
            low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
            slack = 1e-4 * (high - low)
            outside = (array < low - slack) | (array > high + slack)
            if outside.any():
                index = tuple(int(i) for i in np.argwhere(outside)[0])
                column = index[-1]
                rule = (
                    f"{self.names[column]} within [{self.low[column]:g}, {self.high[column]:g}] "
                    f"{self.units[column]}"
                )
                raise V2WError(f"{field}[{index}]", rule, float(array[index]))
        return array

    def require_same(self, other: ActionSpec, *, field: str = "ActionSpec") -> None:
        """Raises V2WError unless names, units and rate agree (bounds may differ)."""
        for name in ("names", "units"):
            if getattr(self, name) != getattr(other, name):
                raise V2WError(
                    f"{field}.{name}", f"must be {getattr(self, name)}", getattr(other, name)
                )
        if not math.isclose(self.rate_hz, other.rate_hz, rel_tol=1e-3):
            raise V2WError(f"{field}.rate_hz", f"must be {self.rate_hz:g}", other.rate_hz)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for YAML or JSON."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpec:
        """The inverse of :meth:`to_dict`; unknown or missing keys are errors."""
        return cls(**_checked(cls, data, optional=("offset", "scale")))


@dataclass(frozen=True)
class ObservationSpec:
    """Format of the model's frames, RGB uint8 [height, width, 3], and how images are resized to it.

    Attributes:
        height, width: size in pixels after resizing.
        resize: "stretch" ignores the aspect, "crop" keeps the centre, "pad" adds black bars.
        inner_size: (height, width) of the picture between the black bars of "pad"; None: the
            largest size with the picture's aspect.
        crop_aspect: aspect (width / height) of the centre crop that precedes everything else; None:
            no crop.
        fov_rad: (horizontal, vertical) field of view of the model's frames in radians, black bars
            included, of a camera without distortion; None: not known.
    """

    height: int
    width: int
    resize: Resize = "stretch"
    inner_size: tuple[int, int] | None = None
    crop_aspect: float | None = None
    fov_rad: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 8:
                raise V2WError(f"ObservationSpec.{name}", "an integer of at least 8 pixels", value)
        if self.resize not in ("stretch", "crop", "pad"):
            raise V2WError("ObservationSpec.resize", "one of stretch, crop, pad", self.resize)
        if self.inner_size is not None:
            self._check_inner_size(self.inner_size)
        aspect = self.crop_aspect
        if aspect is not None and not (math.isfinite(aspect) and aspect > 0):
            rule = "a positive number: width / height"
            raise V2WError("ObservationSpec.crop_aspect", rule, aspect)
        if self.fov_rad is not None and not (
            len(self.fov_rad) == 2 and all(0 < angle < math.pi for angle in self.fov_rad)
        ):
            rule = "(horizontal, vertical) in radians, each above 0 and below pi"
            raise V2WError("ObservationSpec.fov_rad", rule, self.fov_rad)

    def _check_inner_size(self, size: tuple[int, int]) -> None:
        if self.resize != "pad":
            raise V2WError("ObservationSpec.inner_size", 'only with resize "pad"', self.resize)
        limits = self.height, self.width
        whole = len(size) == 2 and all(isinstance(item, int) for item in size)
        if not whole or not all(8 <= a <= b for a, b in zip(size, limits, strict=True)):
            rule = f"(height, width) in pixels, from 8 to {limits}"
            raise V2WError("ObservationSpec.inner_size", rule, size)

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ObservationSpec:
        return cls(
            **_checked(cls, data, optional=("resize", "inner_size", "crop_aspect", "fov_rad"))
        )


def _plain(spec: Any) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items()}


def _checked(cls: Any, data: Mapping[str, Any], optional: Sequence[str]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}
    unknown = sorted(set(data) - names)
    missing = sorted(names - set(data) - set(optional))
    if unknown or missing:
        rule = f"keys {sorted(names)}; unknown {unknown}, missing {missing}"
        raise V2WError(cls.__name__, rule, dict(data))
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
