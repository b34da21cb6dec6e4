"""The denoising passes of one frame through a back end, as the sampler calls them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from v2w_core.diffusion.guidance import guide
from v2w_core.rollout.interfaces import NoisyFrames, StepBackend


class FrameDenoiser:
    """Predicts the velocity of the newest frame, guided by its action.

    The frame before it joins the past in the first pass, side by side with the newest: two frames
    in one pass cost less than one after the other. The unconditional branch of guidance runs in
    the same pass as well.

    Args:
        past: the back end's state of the frames before ``before``.
        before: the frame before the newest, while the past does not hold it yet.
        action, action_mask: [B, 1, A] and [B, 1], of the newest frame.
        scale, rescale: strength of guidance; a scale of 1 turns it off.
        keep: whether the newest frame joins the past as its last pass leaves it.

    Attributes:
        past: the state of all frames before the newest (after the first call).
        past_after: with ``keep``, the same and the newest frame as its last pass left it.
    """

    def __init__(
        self,
        backend: StepBackend,
        past: Any,
        before: NoisyFrames | None,
        action: Tensor,
        action_mask: Tensor,
        *,
        scale: float,
        rescale: float,
        keep: bool,
    ) -> None:
        self.backend = backend
        self.past = self.past_after = past
        self.before = before
        self.action = action
        self.action_mask = action_mask
        self.scale = scale
        self.rescale = rescale
        self.keep = keep

    def __call__(self, x: Tensor, noise_level: Tensor) -> Tensor:
        newest = NoisyFrames(x, noise_level, self.action, self.action_mask)
        guided = self.scale != 1.0
        if self.before is None:
            v, self.past_after = self.backend.step(
                *newest, self.past, keep=self.keep, guided=guided
            )
        else:
            v, self.past = self.backend.step(*self.before.then(newest), self.past, guided=guided)
            self.before = None
        if not guided:
            return v
        return guide(v[:, :1], v[:, 1:], self.scale, self.rescale)
