"""One frame's denoising passes through a back end, as the sampler calls them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from v2w_core.diffusion.guidance import guide
from v2w_core.rollout.interfaces import Frames, Stepper


class Denoiser:
    """Velocity of the newest frame, guided by its action.

    The frame before it joins the past in the first pass, side by side with the newest: two
    frames in one pass cost less than one after the other. So does the pass without the action.

    Args:
        past: of the frames before ``before``.
        before: the frame before the newest, when the past does not hold it yet.
        action, mask: [B, 1, A], [B, 1] of the newest frame.
        scale, rescale: of guidance; scale 1 is none.
        keep: the newest frame as its last pass left it is wanted as a past.

    Attributes:
        past: all frames before the newest (after the first call).
        past_after: the same with the newest frame as its last pass left it (with ``keep``).
    """

    def __init__(
        self,
        backend: Stepper,
        past: Any,
        before: Frames | None,
        action: Tensor,
        mask: Tensor,
        *,
        scale: float,
        rescale: float,
        keep: bool,
    ) -> None:
        self.backend = backend
        self.past = self.past_after = past
        self.before = before
        self.action = action
        self.mask = mask
        self.scale = scale
        self.rescale = rescale
        self.keep = keep

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        newest, guided = Frames(x, level, self.action, self.mask), self.scale != 1.0
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
