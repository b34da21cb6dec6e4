"""Autoencoder between frames and latents: diffusers' AutoencoderKL with normalised latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from v2w_core.errors import V2WError


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder.

    Attributes:
        latent_channels: number of latent channels.
        block_channels: channels of each level; every level but the last halves the resolution.
        layers_per_block: residual blocks per level.
        patch_size: factor of the pixel unshuffle before the encoder (1: none).
        norm_groups: groups of the GroupNorms.
    """

    latent_channels: int = 12
    block_channels: tuple[int, ...] = (32, 64, 96)
    layers_per_block: int = 1
    patch_size: int = 2
    norm_groups: int = 8

    @property
    def factor(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(self.patch_size * 2 ** (len(self.block_channels) - 1))


class Autoencoder(nn.Module):
    """RGB frames, float [N, 3, H, W] in [-1, 1] <-> normalised latents [N, C, H/f, W/f]."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = 3 * config.patch_size**2
        self.vae = AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(config.block_channels),
            up_block_types=("UpDecoderBlock2D",) * len(config.block_channels),
            block_out_channels=config.block_channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
        )
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [N, C, h, w] of the un-normalised latents."""
        factor = self.config.factor
        if images.ndim != 4 or images.shape[1] != 3:
            raise V2WError("images", "shape [N, 3, H, W]", list(images.shape))
        if images.shape[2] % factor or images.shape[3] % factor:
            rule = f"height and width multiples of {factor}"
            raise V2WError("images", rule, list(images.shape))
        folded = F.pixel_unshuffle(images, self.config.patch_size)
        moments = self.vae.quant_conv(self.vae.encoder(folded))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def reconstruct(self, raw_latents: Tensor) -> Tensor:
        """Images in about [-1, 1] from un-normalised latents."""
        unfolded = self.vae.decoder(self.vae.post_quant_conv(raw_latents))
        return F.pixel_shuffle(unfolded, self.config.patch_size)

    def encode(self, images: Tensor) -> Tensor:
        """Mean of the posterior, each channel normalised to mean 0 and standard deviation 1."""
        mean, _ = self.posterior(images)
        return self._normalised(mean)

    def sample(self, images: Tensor, noise: Tensor) -> Tensor:
        """Normalised sample of the posterior; ``noise`` [N, C, h, w] is standard normal."""
        mean, log_variance = self.posterior(images)
        return self._normalised(mean + (0.5 * log_variance).exp() * noise)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of normalised latents, clipped to [-1, 1]; the inverse of :meth:`encode`."""
        raw = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        return self.reconstruct(raw).clamp(-1.0, 1.0)

    def _normalised(self, raw_latents: Tensor) -> Tensor:
        return (raw_latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
