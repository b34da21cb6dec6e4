"""The motion head: how the robot will really move, read off the same pass as the next frame.

The U-Net's last convolution has six channels more than the latents have. Their means over the
picture are, for dx, dy and dyaw, how much the mean of the displacement differs from the command,
and the logarithm of its standard deviation, both in normalised units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec

NUM_PLANAR = 3
MOTION_CHANNELS = 2 * NUM_PLANAR
#: Limits of the logarithm of the standard deviation, in normalised units: 0.7 % to 740 % of the
#: scale of an action.
LOG_STD_LIMITS = (-5.0, 2.0)


class MotionHead:
    """Reads displacements from the head's means over the picture, and trains them.

    Raises:
        V2WError: the actions are not planar.
    """

    def __init__(self, action: ActionSpec) -> None:
        if not action.is_planar:
            rule = "dx, dy and dyaw among them, which a motion head needs"
            raise V2WError("action.names", rule, action.names)
        self.columns = list(action.planar_indices())

    def predict(self, means: Tensor, commands: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [..., 3] of the displacement, in normalised units.

        Args:
            means: [..., 6], see :func:`spatial_means`.
            commands: [..., A], normalised.
        """
        residual, log_std = means.chunk(2, dim=-1)
        return commands[..., self.columns] + residual, log_std.clamp(*LOG_STD_LIMITS).exp()

    def loss(self, means: Tensor, commands: Tensor, motion: Tensor) -> Tensor:
        """Negative log-likelihood [...] of displacements under the predicted Gaussian.

        Each dimension is weighted by its predicted standard deviation (no gradient), as otherwise
        what is already certain gets nearly all of the gradient (the beta-NLL of Seitzer et al.,
        "On the pitfalls of heteroscedastic uncertainty estimation", ICLR 2022, with beta 0.5).

        Args:
            means, commands: as of :meth:`predict`.
            motion: [..., A], normalised as actions are; the measured displacement.
        """
        mean, std = self.predict(means.float(), commands)
        error = (motion[..., self.columns] - mean) / std
        likelihood = 0.5 * error.square() + std.log()
        weighted: Tensor = (std.detach() * likelihood).sum(dim=-1)
        return weighted


def split_motion(output: Tensor, latent_channels: int) -> tuple[Tensor, Tensor]:
    """The U-Net's output [B, T, C_out, h, w] as velocity and as the motion head's means.

    Returns:
        velocity [B, T, C, h, w] and means [B, T, 6]; [B, T, 0] of a network without the head.
    """
    return output[:, :, :latent_channels], spatial_means(output[:, :, latent_channels:])


def spatial_means(channels: Tensor) -> Tensor:
    """Means over the picture: [B, T, C, h, w] -> [B, T, C]."""
    return channels.mean(dim=(-2, -1))


def no_motion(latents: Tensor) -> Tensor:
    """What a network without a motion head says of frames [B, T, C, h, w]: [B, T, 0]."""
    return torch.zeros(*latents.shape[:2], 0, dtype=latents.dtype, device=latents.device)
