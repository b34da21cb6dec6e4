"""The noise schedule: scaled-linear betas with zero terminal SNR, and v-prediction algebra."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from v2w_core.errors import V2WError


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise schedule; the defaults are those of the released models (Vid2World appendix).

    Attributes:
        num_levels: number of noise levels (diffusion timesteps).
        beta_start, beta_end: first and last beta of the scaled-linear schedule.
        zero_terminal_snr: whether the last level is pure noise.
        base_scale, turning_level: dynamic rescale: a clean frame at level n is multiplied by a
            factor that falls linearly from 1 to ``base_scale`` over ``turning_level`` levels and
            stays there. A ``base_scale`` of 1 turns it off; the released models have 0.7.
    """

    num_levels: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = True
    base_scale: float = 1.0
    turning_level: int = 400

    def __post_init__(self) -> None:
        if self.num_levels < 2:
            raise V2WError("DiffusionConfig.num_levels", "at least 2", self.num_levels)
        if not 0 < self.beta_start <= self.beta_end < 1:
            rule = "0 < beta_start <= beta_end < 1"
            raise V2WError("DiffusionConfig.beta_start", rule, (self.beta_start, self.beta_end))
        if not 0 < self.base_scale <= 1:
            raise V2WError("DiffusionConfig.base_scale", "above 0, at most 1", self.base_scale)
        if not 1 <= self.turning_level <= self.num_levels:
            rule = f"1 to num_levels {self.num_levels}"
            raise V2WError("DiffusionConfig.turning_level", rule, self.turning_level)


class NoiseSchedule(nn.Module):
    """alpha-bar of every level and the conversions between x0, noise and v."""

    alphas_cumprod: Tensor
    scale: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.num_levels = config.num_levels
        root = torch.linspace(
            config.beta_start**0.5, config.beta_end**0.5, config.num_levels, dtype=torch.float64
        )
        alphas_cumprod = torch.cumprod(1.0 - root**2, dim=0)
        if config.zero_terminal_snr:
            alphas_cumprod = _zero_terminal_snr(alphas_cumprod)
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        falling = torch.linspace(1.0, config.base_scale, config.turning_level, dtype=torch.float64)
        flat = falling.new_full((config.num_levels - config.turning_level,), config.base_scale)
        self.register_buffer("scale", torch.cat([falling, flat]).float(), persistent=False)

    def signal_and_noise(self, level: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """sqrt(alpha-bar) and sqrt(1 - alpha-bar) of ``level``, shaped to broadcast over ndim."""
        alpha = self.alphas_cumprod[level]
        alpha = alpha.reshape(*alpha.shape, *(1,) * (ndim - alpha.ndim))
        return alpha.sqrt(), (1 - alpha).sqrt()

    def rescaled(self, x0: Tensor, level: Tensor) -> Tensor:
        """Clean latents times the dynamic-rescale factor of their levels (leading dimensions)."""
        scale = self.scale[level]
        return x0 * scale.reshape(*scale.shape, *(1,) * (x0.ndim - scale.ndim))

    def add_noise(self, x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noisy latents at ``level``; level's dimensions are the leading ones of x0."""
        signal, sigma = self.signal_and_noise(level, x0.ndim)
        return signal * x0 + sigma * noise

    def velocity(self, x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """v = sqrt(alpha-bar) noise - sqrt(1 - alpha-bar) x0."""
        signal, sigma = self.signal_and_noise(level, x0.ndim)
        return signal * noise - sigma * x0

    def from_velocity(self, x: Tensor, v: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """(x0, noise) from noisy latents and their velocity."""
        signal, sigma = self.signal_and_noise(level, x.ndim)
        return signal * x - sigma * v, sigma * x + signal * v


def _zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """sqrt(alpha-bar) shifted and scaled so that its first value stays and its last is zero."""
    root = alphas_cumprod.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    rescaled: Tensor = ((root - last) * first / (first - last)) ** 2
    return rescaled


def trailing_levels(num_steps: int, num_levels: int = 1000) -> list[int]:
    """Noise levels of a DDIM sampler with trailing spacing, highest first (999 down)."""
    if not 1 <= num_steps <= num_levels:
        raise V2WError("num_sampling_steps", f"between 1 and {num_levels}", num_steps)
    spacing = num_levels / num_steps
    return [round(num_levels - i * spacing) - 1 for i in range(num_steps)]


def ddim_sigma(alpha: Tensor, alpha_next: Tensor, eta: float) -> Tensor:
    """Standard deviation of the noise that a DDIM step from alpha-bar to alpha_next adds."""
    sigma: Tensor = (1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)
    return eta * sigma.clamp(min=0).sqrt()
