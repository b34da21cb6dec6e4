"""Rollouts of many recorded windows side by side, each from its own history (no planning).

A :class:`v2w_core.rollout.session.Session` rolls many candidates out from one history; training and
evaluation have many histories with one future each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import V2WError
from v2w_core.models.conditioning import shift_actions
from v2w_core.world_model import WorldModel


@torch.no_grad()
def imagine_latents(
    model: WorldModel,
    history: Tensor,
    actions: Tensor,
    generator: torch.Generator,
    guidance_scale: float = 1.0,
) -> Tensor:
    """What the model imagines after each history, with its configuration's steps, eta and levels.

    Imagined frames are always held at the history noise level (``imagined_history`` is not looked
    at).

    Args:
        history: [B, H, C, h, w] clean normalised latents.
        actions: [B, T, A] normalised, T > H; actions[:, t] leads from frame t to t + 1.
        generator: on the CPU; draws all noise, of every window its own.

    Returns:
        latents [B, T - H, C, h, w] on the CPU.

    Raises:
        V2WError: a model whose past cannot be cached.
    """
    if not model.config.cacheable:
        rule = "a strictly causal model that is told levels and actions only; use a WindowSession"
        raise V2WError("model", rule, "a past that cannot be cached")
    sampling, device = model.config.sampling, model.device
    frames, told = history.to(device), shift_actions(actions.to(device))
    cache, imagined = None, []

    def noise_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)

    for t in range(history.shape[1], actions.shape[1]):
        past = slice(0, t) if cache is None else slice(t - 1, t)
        level = torch.full(frames.shape[:2], sampling.history_level, device=device)
        known = torch.ones_like(level, dtype=torch.bool)
        known[:, 0] = cache is not None  # no action leads to the first frame
        held = model.schedule.add_noise(frames, noise_like(frames), level)
        _, cache = model.unet(held, level, told[:, past], known, cache=cache)
        action = told[:, t : t + 1]

        def denoise(
            x: Tensor, at: Tensor, action: Tensor = action, cache: object = cache
        ) -> Tensor:
            known = torch.ones_like(at, dtype=torch.bool)
            v: Tensor = model.unet(x, at, action, known, cache=cache)[0]
            if guidance_scale == 1.0:
                return v
            plain, _ = model.unet(x, at, action, ~known, cache=cache)
            return guide(v, plain, guidance_scale, sampling.guidance_rescale)

        start = noise_like(frames[:, :1])
        frames = ddim_sample(
            denoise, model.schedule, start, sampling.num_steps, eta=sampling.eta,
            generator=generator,
        )  # fmt: skip
        imagined.append(frames.cpu())
    return torch.cat(imagined, dim=1)
