"""Rollouts as the reference implementation of Vid2World computes them, on our U-Net.

Nothing is remembered from pass to pass: at every denoising step the network is run over the whole
window so far, once with all actions and once more without the newest one. The same noise as
:class:`v2w_core.rollout.session.Session`, hence the same latents, which a test holds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.rollout.history import condition_of, with_condition

if TYPE_CHECKING:
    from v2w_core.world_model import UInt8Array, WorldModel

IMAGINED_SEED = 1_000_003  # added to the seed for the noise of imagined frames


class WindowRecomputed:
    """A history of one moment; every candidate has its own copy of it.

    Args:
        frames: uint8 [T, H, W, 3].
        actions: [T - 1, A] physical units, actions[i] leads from frame i to i + 1.
        unet: what is called for a pass; the model's own U-Net when None.

    Attributes:
        seconds: of every pass so far.
    """

    def __init__(
        self,
        model: WorldModel,
        frames: UInt8Array,
        actions: ArrayLike,
        *,
        seed: int = 0,
        unet: object = None,
    ) -> None:
        self.model = model
        self.unet = unet or model.unet
        self.seed = seed
        self.seconds: list[float] = []
        self._clean = model.encode(frames)
        self._actions = self._normalised(actions)
        self._noise = self._draw(len(self._clean), seed)

    @torch.inference_mode()
    def imagine(
        self, candidates: ArrayLike, *, num_sampling_steps: int, guidance_scale: float
    ) -> Tensor:
        """Latents [K, horizon, C, h, w] of candidates [K, horizon, A] in physical units."""
        sampling, schedule = self.model.config.sampling, self.model.schedule
        actions = self._normalised(candidates)
        num_candidates, horizon = actions.shape[:2]
        drawn = self._draw(2 * horizon, self.seed + IMAGINED_SEED)
        initial, held = drawn[0::2], drawn[1::2]
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.zeros_like(actions[:, :1])
        past = self._actions.expand(num_candidates, *self._actions.shape)
        told = torch.cat([first, past, actions], dim=1)
        level = torch.full((num_candidates, len(self._clean)), sampling.history_level)
        level = level.to(actions.device)
        clean = self._clean.expand(num_candidates, *self._clean.shape)
        window = schedule.add_noise(clean, self._noise.expand_as(clean), level)
        history = clean.shape[1]
        for step in range(horizon):
            num_frames = window.shape[1] + 1
            told_so_far = told[:, :num_frames]
            before = torch.cat([torch.zeros_like(clean[:, :1]), clean], dim=1)
            condition = condition_of(self.model, before, told_so_far)
            denoiser = _Denoiser(self, window, told_so_far, condition, guidance_scale)
            x = initial[step].expand(num_candidates, 1, *initial.shape[1:])
            x = ddim_sample(
                denoiser, schedule, x, num_sampling_steps, eta=sampling.eta, generator=generator
            )
            clean = torch.cat([clean, x], dim=1)
            noisy = schedule.add_noise(x, held[step].expand_as(x), level[:, :1])
            window = torch.cat([window, noisy], dim=1)
        return clean[:, history:]

    def timed_pass(self, *given: Tensor) -> Tensor:
        """Velocity of the newest frame, from a pass over the whole window."""
        began = time.perf_counter()
        v, _ = self.unet(*given, num_uncached=given[0].shape[1])  # type: ignore[operator]
        if v.is_cuda:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - began)
        return v[:, -1:]

    def _normalised(self, actions: ArrayLike) -> Tensor:
        return self.model.tensor(self.model.config.action.normalise(actions))

    def _draw(self, num_frames: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = self.model.config.latent_shape
        frames = [torch.randn(shape, generator=generator) for _ in range(num_frames)]
        return torch.stack(frames).to(self._clean)


class _Denoiser:
    """Velocity of the newest frame behind a window of finished ones."""

    def __init__(
        self, rollout: WindowRecomputed, window: Tensor, actions: Tensor,
        condition: Tensor | None, scale: float,
    ) -> None:  # fmt: skip
        self.rollout = rollout
        self.window = window
        self.actions = actions
        self.condition = condition
        self.scale = scale
        self.known = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)
        self.known[:, 0] = False

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        sampling = self.rollout.model.config.sampling
        levels = torch.full(self.actions.shape[:2], sampling.history_level, device=x.device)
        levels[:, -1:] = level
        clip = with_condition(torch.cat([self.window, x], dim=1), self.condition)
        v = self.rollout.timed_pass(clip, levels, self.actions, self.known)[:, :, : x.shape[2]]
        if self.scale == 1.0:
            return v
        without = self.known.clone()
        without[:, -1] = False
        plain = self.rollout.timed_pass(clip, levels, self.actions, without)
        return guide(v, plain[:, :, : x.shape[2]], self.scale, sampling.guidance_rescale)
