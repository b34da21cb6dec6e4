"""The denoising passes of one frame through a back end, as the sampler calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from v2w_core.diffusion.guidance import guide
from v2w_core.models.motion_head import split_motion
from v2w_core.rollout.history import with_condition
from v2w_core.rollout.interfaces import NoisyFrames, StepBackend


@dataclass
class FrameDenoiser:
    """Predicts the velocity of the newest frame, guided by its action.

    The frame before it joins the past in the first pass, side by side with the newest: two frames
    in one pass cost less than one after the other. The unconditional branch of guidance runs in
    the same pass as well.

    Args:
        past: the back end's state of the frames before ``before``.
        before: the frame before the newest, while the past does not hold it yet.
        action, action_mask: [B, 1, A] and [B, 1], of the newest frame.
        condition: [B, 1, C', h, w], of the newest frame; None of a model without.
        scale, rescale: strength of guidance; a scale of 1 turns it off.
        keep: whether the newest frame joins the past as its last pass leaves it.

    After the first call, ``past`` holds all frames before the newest; with ``keep``,
    ``past_after`` holds the newest as well, as its last pass left it. ``motion`` [B, 1, 6 or 0] is
    what the motion head says in the first call, where nothing but noise is to be seen of the frame
    itself; guidance leaves it alone.
    """

    backend: StepBackend
    past: Any
    before: NoisyFrames | None
    action: Tensor
    action_mask: Tensor
    condition: Tensor | None
    scale: float
    rescale: float
    keep: bool
    past_after: Any = None
    motion: Tensor | None = None

    def __call__(self, x: Tensor, noise_level: Tensor) -> Tensor:
        given = with_condition(x, self.condition)
        newest = NoisyFrames(given, noise_level, self.action, self.action_mask)
        guided = self.scale != 1.0
        if self.before is None:
            output, self.past_after = self.backend.step(
                *newest, self.past, keep=self.keep, guided=guided
            )
        else:
            both = self.before.then(newest)
            output, self.past = self.backend.step(*both, self.past, guided=guided)
            self.before = None
        v, motion = split_motion(output, x.shape[2])
        if self.motion is None:
            self.motion = motion[:, :1]
        if not guided:
            return v
        return guide(v[:, :1], v[:, 1:], self.scale, self.rescale)
