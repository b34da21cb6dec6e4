"""What a rollout returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.geometry import Float64Array, integrate_actions, integrated_spread
from v2w_core.images import ImageArray
from v2w_core.rollout.interfaces import Dynamics
from v2w_core.spec import FloatArray


@dataclass(frozen=True)
class Rollouts:
    """What K candidates lead to.

    Attributes:
        latents: [K, horizon, C, h, w] normalised latents of the imagined frames.
        elapsed_s: wall-clock seconds of the rollout, without decoding.
        frames_imagined: K * horizon, and the frames of candidates that were given up on the way.
        commands: [K, horizon, A] in physical units.
        motion_means: [K, horizon, 6], of the motion head; [K, horizon, 0] of a model without one.
    """

    latents: Tensor
    elapsed_s: float
    frames_imagined: int
    model: Dynamics = field(repr=False)
    commands: FloatArray = field(repr=False)
    motion_means: Tensor = field(repr=False)

    @property
    def num_candidates(self) -> int:
        return int(self.latents.shape[0])

    @property
    def horizon(self) -> int:
        return int(self.latents.shape[1])

    def frames(self, indices: ArrayLike | None = None) -> ImageArray:
        """Decoded RGB frames uint8 [K', horizon, H, W, 3] of the candidates ``indices`` (all)."""
        latents = self.latents
        if indices is not None:
            latents = latents[torch.as_tensor(np.atleast_1d(np.asarray(indices)))]
        return self.model.decode(latents)

    @property
    def motion(self) -> Float64Array:
        """Displacements (dx m, dy m, dyaw rad) [K, horizon, 3] in the body frame of each step.

        Those that the motion head expects; of a model without one, the commands.

        Raises:
            V2WError: the action space is not planar.
        """
        return self._motion[0]

    @property
    def motion_std(self) -> Float64Array:
        """Standard deviations of :attr:`motion` [K, horizon, 3]; NaN of a model without a head."""
        return self._motion[1]

    @cached_property
    def _motion(self) -> tuple[Float64Array, Float64Array]:
        spec, head = self.model.config.action, self.model.motion_head
        columns = list(spec.planar_indices())
        commands = np.asarray(self.commands, dtype=np.float64)[..., columns]
        if head is None:
            return commands, np.full_like(commands, np.nan)
        means = self.motion_means.double().cpu()
        mean, std = head.predict(means, torch.from_numpy(spec.normalise(self.commands)).double())
        scale, offset = (np.array(values)[columns] for values in (spec.scale, spec.offset))
        return mean.numpy() * scale + offset, std.numpy() * scale

    @cached_property
    def poses(self) -> Float64Array:
        """Poses (x m, y m, yaw rad) [K, horizon, 3] after each step, relative to the newest frame
        of the history: the integrated :attr:`motion`.

        Raises:
            V2WError: the action space is not planar.
        """
        return integrate_actions(self.motion)[:, 1:]

    @cached_property
    def pose_std(self) -> Float64Array:
        """Standard deviations of :attr:`poses` [K, horizon, 3]; NaN of a model without a head."""
        return integrated_spread(self.motion, self.motion_std)
