"""What a rollout returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.images import ImageArray
from v2w_core.rollout.interfaces import Dynamics


@dataclass(frozen=True)
class Rollouts:
    """What K candidates lead to.

    Attributes:
        latents: [K, horizon, C, h, w] normalised latents of the imagined frames.
        elapsed_s: wall-clock seconds of the rollout, without decoding.
        frames_imagined: K * horizon, and the frames of candidates that were given up on the way.
    """

    latents: Tensor
    elapsed_s: float
    frames_imagined: int
    model: Dynamics = field(repr=False)

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
