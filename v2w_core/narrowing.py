"""Looking a little way ahead with all candidates, and all the way with some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.errors import V2WError

if TYPE_CHECKING:
    from v2w_core.rollout.request import Asked
    from v2w_core.rollout.result import Rollouts


@dataclass(frozen=True)
class Narrowing:
    """All candidates are imagined for ``num_frames``; those chosen by what they lead to, in full.

    Args:
        num_frames: at least 1; from the horizon on, nothing is left to save unless
            ``num_sampling_steps`` are fewer.
        choose: given the rollouts [K, num_frames, ...], the indices of those that go on, at least
            one. They are imagined in ascending order.
        num_sampling_steps: denoising steps a frame until then; None: as many as afterwards.
    """

    num_frames: int
    choose: Callable[[Rollouts], ArrayLike]
    num_sampling_steps: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise V2WError("narrowing.num_frames", "at least 1", self.num_frames)

    def early(self, asked: Asked) -> Asked:
        """What is asked of all candidates."""
        num_steps = self.num_sampling_steps or asked.num_steps
        return asked._replace(actions=asked.actions[:, : self.num_frames], num_steps=num_steps)

    def chosen(self, rollouts: Rollouts) -> Tensor:
        """The indices, ascending, each once. Raises V2WError where there is none, or no such."""
        indices = np.unique(np.asarray(self.choose(rollouts), dtype=np.int64))
        number = len(rollouts.latents)
        if len(indices) == 0 or indices[0] < 0 or indices[-1] >= number:
            raise V2WError("narrowing", f"some of 0 to {number - 1}", indices.tolist())
        return torch.from_numpy(indices).to(rollouts.latents.device)
