"""Teacher forcing in one pass: every frame of a clip is denoised with a clean past at once.

A clip goes through the network twice side by side, ``[past; targets]`` along the batch: the past
stream holds the frames nearly clean and is causal as ever; the target stream holds the same
frames noisy, and each target sees the past stream's earlier frames and itself, never another
target. That is what a rollout does one frame at a time, for all frames of a clip in parallel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2w_core.models.temporal_cache import Attended, CachePass, delayed, weighted


class TeacherForcingPass(CachePass):
    """Temporal layers over ``[past; targets]``: feature maps [2 B, T, ...], past first."""

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As in :meth:`CachePass.conv`; the targets' earlier frames are the past stream's."""
        *earlier, _ = delayed(x[: len(x) // 2], weight.shape[1] - 1)
        return weighted([*(torch.cat([frame, frame]) for frame in earlier), x], weight, bias)

    def attention(self, key: Tensor, value: Tensor) -> Attended:
        """Keys [2 B, N, 2 T, d]: the past's frames, then each stream's own."""
        past_key, past_value = key[: len(key) // 2], value[: len(value) // 2]
        joined = (
            torch.cat([torch.cat([past_key, past_key]), key], dim=2),
            torch.cat([torch.cat([past_value, past_value]), value], dim=2),
        )
        before = torch.ones(key.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
        itself = torch.eye(key.shape[2], dtype=torch.bool, device=key.device)
        return Attended(None, joined, torch.cat([before.tril(-1), itself], dim=1))
