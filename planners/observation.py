"""What the robot knows when it decides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planners.protocols import FloatArray, ImaginationModel, Pose, Session, UInt8Array


@dataclass(frozen=True)
class Observation:
    """What the robot knows when it decides.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB, newest last (T at least the model's ``num_history``).
        actions: [T-1, A], each leads from one frame to the next.
        pose: (x m, y m, yaw rad) in the frame that a goal pose is given in; goals can do more
            with it, pose goals need it.
        encoded: latents [N, C, h, w] of the newest N frames, N <= T, where the model that the goal
            asks has encoded them already.
    """

    frames: UInt8Array
    actions: FloatArray
    pose: Pose | None = None
    encoded: Tensor | None = field(default=None, repr=False)
    _latents: dict[ImaginationModel, Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def latents(self, model: ImaginationModel) -> Tensor:
        """Latents [T, C, h, w] of the frames; no frame goes through the autoencoder twice."""
        found = self._latents.get(model)
        if found is None:
            num_left = len(self.frames) - (0 if self.encoded is None else len(self.encoded))
            parts = [] if self.encoded is None else [self.encoded]
            if num_left:
                parts.insert(0, model.encode(self.frames[:num_left]))
            found = self._latents[model] = parts[0] if len(parts) == 1 else torch.cat(parts)
        return found

    def encoded_by(self, session: Session) -> Observation:
        """The same, with the latents that a session begun from these frames has already."""
        latents = getattr(session, "latents", None)
        return self if latents is None else replace(self, encoded=latents[-len(self.frames) :])
