"""Batched rollouts of many recorded windows, each from its own history.

A :class:`v2w_core.rollout.session.Session` rolls out many candidates from one history; training and
evaluation have many histories with one action sequence each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2w_core.backends.eager import Eager
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import V2WError
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.warped_previous import frames_before
from v2w_core.rollout.frame_denoiser import FrameDenoiser
from v2w_core.rollout.history import at_history_level, condition_of
from v2w_core.world_model import WorldModel


@torch.no_grad()
def imagine_latents(
    model: WorldModel,
    history: Tensor,
    actions: Tensor,
    generator: torch.Generator,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Imagines the frames after each history, with the sampling steps, eta and history noise level
    of the model's configuration.

    Imagined frames are always re-encoded at the history noise level; ``imagined_history`` is
    ignored.

    Args:
        model: a model that can be cached.
        history: [B, H, C, h, w] clean normalised latents.
        actions: [B, T, A] normalised, T > H; actions[:, t] leads from frame t to t + 1.
        generator: CPU generator of all noise, which is independent for each window.
        guidance_scale: guidance scale; 1 is no guidance.

    Returns:
        latents [B, T - H, C, h, w] on the CPU.

    Raises:
        V2WError: the model cannot be cached.
    """
    if not model.config.cacheable:
        rule = (
            "a strictly causal model that is conditioned on levels and actions only; use a "
            "WindowSession"
        )
        raise V2WError("model", rule, "a model that cannot be cached")
    sampling, device = model.config.sampling, model.device
    frames, aligned = history.to(device), shift_actions(actions.to(device))
    eager, cache, imagined = Eager(model.unet), None, []
    condition = condition_of(model, frames_before(frames), aligned[:, : frames.shape[1]])

    def noise_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)

    for t in range(history.shape[1], actions.shape[1]):
        past = slice(0, t) if cache is None else slice(t - 1, t)
        action_mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=device)
        action_mask[:, 0] = cache is not None  # no action leads to the first frame
        inputs = at_history_level(
            model, frames, noise_like(frames), aligned[:, past], action_mask, condition
        )
        _, cache = model.unet(*inputs, cache=cache)
        condition = condition_of(model, frames[:, -1:], aligned[:, t : t + 1])
        denoiser = FrameDenoiser(
            eager, cache, None, aligned[:, t : t + 1], torch.ones_like(action_mask[:, :1]),
            condition, scale=guidance_scale, rescale=sampling.guidance_rescale, keep=False,
        )  # fmt: skip
        start = noise_like(frames[:, :1])
        frames = ddim_sample(
            denoiser, model.schedule, start, sampling.num_steps, eta=sampling.eta,
            generator=generator,
        )  # fmt: skip
        imagined.append(frames.cpu())
    return torch.cat(imagined, dim=1)
