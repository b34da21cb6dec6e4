"""What a planner needs from a world model: three small protocols.

``v2w_core.world_model.WorldModel`` and its sessions fulfil them; so do the simulator (the oracle
of ``v2w evaluate planning``) and the known toy worlds of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_core.spec import ActionSpec

FloatArray = NDArray[np.float32]
UInt8Array = NDArray[np.uint8]
#: (x m, y m, yaw rad) in a fixed frame.
Pose = tuple[float, float, float]


class Rollouts(Protocol):
    """Imagined futures of K candidates."""

    @property
    def latents(self) -> Tensor:
        """[K, horizon, C, h, w]."""
        ...

    @property
    def poses(self) -> NDArray[np.float64]:
        """(x m, y m, yaw rad) [K, horizon, 3] after each step, from (0, 0, 0); asked for only
        where the session ``predicts_motion``."""
        ...

    @property
    def frames_imagined(self) -> int: ...

    def frames(self, indices: Any = None) -> UInt8Array:
        """Decoded RGB frames uint8 [K', horizon, H, W, 3] of the chosen candidates."""
        ...


class CandidateRollout(Protocol):
    """A rollout in progress: the candidates can be advanced together, and some of them given up."""

    def advance(self, num_frames: int) -> Rollouts:
        """Imagines ``num_frames`` more frames; the rollouts of all frames so far."""
        ...

    def select(self, indices: NDArray[np.intp]) -> None:
        """Only these candidates go on, in ascending order."""
        ...


class Session(Protocol):
    """One observed history, shared by all candidates."""

    @property
    def predicts_motion(self) -> bool:
        """Whether rollouts know what the robot's motion under its commands will really be."""
        ...

    def rollout(
        self,
        candidates: FloatArray,
        *,
        num_sampling_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
        interrupt: Callable[[], bool] | None = None,
    ) -> CandidateRollout:
        """Begins to imagine what follows each of the candidates [K, horizon, A] (physical units).

        ``interrupt`` is asked now and then; where it says True, ``Interrupted`` is raised.
        """
        ...


class ModelConfig(Protocol):
    """What a planner reads of a model's configuration."""

    @property
    def action(self) -> ActionSpec: ...


class ImaginationModel(Protocol):
    """A world model as the receding-horizon loop uses it."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def goal_distance(self) -> nn.Module | None:
        """Views [N, C, h, w], goal [1, C, h, w] -> distance [N]; None: not learned."""
        ...

    def start(self, frames: UInt8Array, actions: FloatArray, *, seed: int = 0) -> Session:
        """Frames uint8 [T, H, W, 3], newest last; actions [T-1, A] lead from each to the next."""
        ...

    def encode(self, frames: UInt8Array) -> Tensor:
        """Frames uint8 [T, H, W, 3] -> latents [T, C, h, w]."""
        ...

    def decode(self, latents: Tensor) -> UInt8Array:
        """Latents [..., C, h, w] -> frames uint8 [..., H, W, 3]."""
        ...
