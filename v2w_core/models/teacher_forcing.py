"""Teacher forcing in one pass: every frame of a clip is denoised given a nearly clean past.

The batch holds each clip twice, ``[past; targets]``. The past stream has nearly clean frames and is
causal. The target stream has the same frames with more noise; a target attends to earlier frames of
the past stream and to itself, never to other targets. A rollout does the same frame by frame; this
does it for all frames of a clip in parallel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2w_core.models.temporal_cache import Attended, CachePass, delayed, weighted_sum


class TeacherForcingPass(CachePass):
    """A pass over ``[past; targets]``: feature maps [2 B, T, ...], past stream first."""

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`CachePass.conv`, with the past stream's earlier frames for both streams."""
        *earlier, _ = delayed(x[: len(x) // 2], weight.shape[1] - 1)
        return weighted_sum([*(torch.cat([frame, frame]) for frame in earlier), x], weight, bias)

    def attention(self, key: Tensor, value: Tensor) -> Attended:
        """Keys [2 B, N, 2 T, d]: the past stream's frames, then the frames of the same stream."""
        past_key, past_value = key[: len(key) // 2], value[: len(value) // 2]
        joined = (
            torch.cat([torch.cat([past_key, past_key]), key], dim=2),
            torch.cat([torch.cat([past_value, past_value]), value], dim=2),
        )
        before = torch.ones(key.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
        itself = torch.eye(key.shape[2], dtype=torch.bool, device=key.device)
        return Attended(None, joined, torch.cat([before.tril(-1), itself], dim=1))
