"""Strict causality for transferred models: statistics of each frame instead of the clip's.

The released U-Nets normalise temporal layers over all frames of a clip, through which a frame sees
its future (and only through which: everything else of a transferred model is causal). With frame
statistics nothing leaks and the past can be cached; the function changes, so fine-tune afterwards.
"""

from __future__ import annotations

import copy
import dataclasses

from v2w_core.models.unet import UNet
from v2w_core.world_model import WorldModel


def frame_norms(unet: UNet) -> UNet:
    """A copy of the U-Net with the same weights and per-frame statistics."""
    converted = UNet(dataclasses.replace(unet.config, norm_scope="frame"))
    converted.load_state_dict(copy.deepcopy(unet.state_dict()))
    return converted.train(unet.training)


def convert_norms(model: WorldModel) -> WorldModel:
    """A copy of the model whose frames never look ahead; fine-tune it before use."""
    unet = dataclasses.replace(model.config.unet, norm_scope="frame")
    converted = WorldModel(dataclasses.replace(model.config, unet=unet))
    converted.load_state_dict(model.state_dict())
    return converted.train(model.training)
