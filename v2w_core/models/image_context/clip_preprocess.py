"""Preprocessing of camera images for CLIP's vision tower, as in the released models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_core.errors import V2WError

SIZE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_images(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] -> [B, 3, 224, 224], normalised; the aspect is not kept.

    As in kornia: a Gaussian blur against aliasing (reflected border), then bicubic interpolation
    with aligned corners.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise V2WError("images", "RGB, shape [B, 3, H, W]", list(images.shape))
    factors = images.shape[2] / SIZE, images.shape[3] / SIZE
    if max(factors) > 1:
        images = _blur(images, factors)
    resized = F.interpolate(images, (SIZE, SIZE), mode="bicubic", align_corners=True)
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return ((resized + 1) / 2 - mean) / std


def _blur(images: Tensor, factors: tuple[float, float]) -> Tensor:
    """Separable Gaussian blur with sigma (factor - 1) / 2 along each axis."""
    sigmas = [max((factor - 1) / 2, 0.001) for factor in factors]
    halves = [int(max(4 * sigma, 3)) // 2 for sigma in sigmas]
    bottom, right = halves
    images = F.pad(images, (right, right, bottom, bottom), mode="reflect")
    for dim, (sigma, half) in enumerate(zip(sigmas, halves, strict=True)):
        offsets = torch.arange(-half, half + 1, dtype=torch.float32, device=images.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = kernel / kernel.sum()
        shape = (1, 1, -1, 1) if dim == 0 else (1, 1, 1, -1)
        images = F.conv2d(images, kernel.reshape(shape).expand(3, -1, -1, -1), groups=3)
    return images
