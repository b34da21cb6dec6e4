"""DDIM sampling with trailing spacing of the noise levels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from v2w_core.diffusion.schedule import NoiseSchedule, ddim_sigma, trailing_levels

#: (noisy latents [B, T, C, H, W], noise levels [B, T]) -> velocity, shape of the latents
Denoiser = Callable[[Tensor, Tensor], Tensor]


def ddim_sample(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x: Tensor,
    num_steps: int,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Clean latents [B, T, C, H, W], sampled from pure noise ``x`` of the same shape.

    Args:
        denoise: predicts the velocity, given history, actions and guidance.
        num_steps: number of sampling steps; 1 gives the model's mean prediction.
        eta: 0 is deterministic, 1 adds as much noise as ancestral sampling (the same noise to
            every sample of the batch).
        generator: CPU generator of the noise that ``eta`` adds.
    """
    levels = trailing_levels(num_steps, schedule.num_levels)
    for index, level in enumerate(levels):
        batch_level = torch.full(x.shape[:2], level, dtype=torch.long, device=x.device)
        v = denoise(x, batch_level)
        x0, noise = schedule.from_velocity(x, v, batch_level)
        if index + 1 == len(levels):
            return x0
        now = schedule.alphas_cumprod[level]
        then = schedule.alphas_cumprod[levels[index + 1]]
        sigma = ddim_sigma(now, then, eta)
        x = then.sqrt() * x0 + (1 - then - sigma**2).clamp(min=0).sqrt() * noise
        if eta > 0:
            # one draw for the whole batch: candidates differ by their actions only
            fresh = torch.randn(x.shape[1:], generator=generator)
            x = x + sigma * fresh.to(x.device, x.dtype)
    return x
