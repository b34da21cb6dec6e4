"""Sampler of the released models: every denoising step computes the whole window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from v2w_core.diffusion.compat import RELEASED, CompatConfig
from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.schedule import NoiseSchedule, ddim_sigma, trailing_levels
from v2w_core.errors import V2WError

#: Standard normal noise of a given shape, from a generator or (for parity) from a recording.
Noise = Callable[[Sequence[int]], Tensor]


class WindowDenoiser(Protocol):
    """Velocity [B, T, C, H, W] of a whole window.

    ``guided=False`` is the unconditional branch of guidance; in autoregressive sampling it masks
    the newest frame's action only.
    """

    def __call__(self, x: Tensor, noise_level: Tensor, *, guided: bool) -> Tensor: ...


class WindowState(NamedTuple):
    """State of autoregressive sampling after T frames.

    Attributes:
        frames: [B, T, C, h, w], clean latents, the history first.
        initial_noise: [B, num_frames, C, h, w], the noise from which each frame is denoised.
        history_noise: [B, T', C, h, w], noise added to the frames that are used as history.
        noise: source of all further noise.
    """

    frames: Tensor
    initial_noise: Tensor
    history_noise: Tensor
    noise: Noise

    def select(self, indices: Tensor) -> WindowState:
        """The state of the clips ``indices``."""
        return self._replace(
            frames=self.frames[indices],
            initial_noise=self.initial_noise[indices],
            history_noise=self.history_noise[indices],
        )


@dataclass(frozen=True)
class WindowSampler:
    """DDIM over whole windows.

    Attributes:
        num_steps, eta, guidance_scale, guidance_rescale: as in ``SamplingConfig``.
        history_level: history noise level, unless ``compat.history_at_second_level``.
    """

    schedule: NoiseSchedule
    num_steps: int = 50
    eta: float = 1.0
    guidance_scale: float = 2.5
    guidance_rescale: float = 0.7
    history_level: int = 20
    compat: CompatConfig = RELEASED

    def levels(self) -> list[int]:
        """Sampling levels, highest first."""
        return trailing_levels(self.num_steps, self.schedule.num_levels)

    def autoregressive(self, denoise: WindowDenoiser, history: Tensor, num_frames: int,
                       noise: Noise) -> Tensor:  # fmt: skip
        """Samples the frames after ``history`` one by one (Vid2World Algorithm 2).

        Args:
            denoise: the model, for windows of up to ``num_frames`` frames.
            history: [B, H, C, h, w] clean latents, H >= 1.
            num_frames: number of frames of the result, history included.
            noise: source of all noise, called in the order of the released code.

        Returns:
            latents [B, num_frames, C, h, w]; the first H are ``history`` itself.
        """
        num_history = history.shape[1]
        if not 1 <= num_history < num_frames:
            raise V2WError("history", f"1 to {num_frames - 1} frames", num_history)
        state = self.start(history, num_frames, noise)
        while state.frames.shape[1] < num_frames:
            state = self.next_frame(denoise, state)
        return state.frames

    def start(self, history: Tensor, num_frames: int, noise: Noise) -> WindowState:
        """The state before the first frame after ``history``; see :meth:`autoregressive`."""
        initial = noise((history.shape[0], num_frames, *history.shape[2:]))
        return WindowState(history, initial, noise(history.shape), noise)

    def next_frame(self, denoise: WindowDenoiser, state: WindowState) -> WindowState:
        """The state after one more frame is sampled."""
        frames, noise = state.frames, state.noise
        num_frames = frames.shape[1]
        level = self.history_level
        if self.compat.history_at_second_level and self.num_steps > 1:
            level = self.levels()[-2]
        newest = noise((len(frames), 1, *frames.shape[2:]))
        history_noise = torch.cat([state.history_noise[:, : num_frames - 1], newest], dim=1)
        past_level = torch.full(frames.shape[:2], level, device=frames.device)
        past = frames
        if self.compat.scaled_history:
            past = self.schedule.rescaled(past, past_level)
        past = self.schedule.add_noise(past, history_noise, past_level)
        x = state.initial_noise[:, num_frames : num_frames + 1]
        for step in range(self.num_steps):
            clip = torch.cat([past, x], dim=1)
            x = self._step(denoise, clip, past_level, step, noise)[:, -1:]
        return WindowState(torch.cat([frames, x], dim=1), state.initial_noise, history_noise, noise)

    def together(self, denoise: WindowDenoiser, shape: Sequence[int], noise: Noise) -> Tensor:
        """Samples all frames [B, T, C, H, W] of a clip jointly, as video diffusion does."""
        x = noise(shape)
        none = torch.zeros(shape[0], 0, dtype=torch.long, device=x.device)
        for step in range(self.num_steps):
            x = self._step(denoise, x, none, step, noise)
        return x

    def _step(
        self, denoise: WindowDenoiser, x: Tensor, past_level: Tensor, step: int, noise: Noise
    ) -> Tensor:
        """One DDIM step; frames after the history are at the level of sampling step ``step``."""
        levels = self.levels()
        now = torch.full(x.shape[:2], levels[step], device=x.device)
        now[:, : past_level.shape[1]] = past_level
        v = denoise(x, now, guided=True)
        if self.guidance_scale != 1.0:
            unconditional = denoise(x, now, guided=False)
            first = 0 if self.compat.rescale_over_history else past_level.shape[1]
            guided = guide(
                v[:, first:],
                unconditional[:, first:],
                self.guidance_scale,
                self.guidance_rescale,
            )
            v = torch.cat([v[:, :first], guided], dim=1)
        x0, residual = self.schedule.from_velocity(x, v, now)
        alpha = self.schedule.alphas_cumprod[levels[step]]
        last = step + 1 == self.num_steps
        scale = self.schedule.scale
        if last and self.compat.clean_end:
            return x0 / scale[levels[step]]
        following = levels[step] if last else levels[step + 1]
        alpha_next = self.schedule.alphas_cumprod[0 if last else following]
        sigma = ddim_sigma(alpha, alpha_next, self.eta)
        x0 = x0 * (scale[following] / scale[levels[step]])
        direction = (1 - alpha_next - sigma**2).clamp(min=0).sqrt() * residual
        return alpha_next.sqrt() * x0 + direction + sigma * noise(x.shape)
