"""Small models whose zero-initialised layers have random weights, so that every path counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from v2w_core.models.unet import UNet, UNetConfig
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel


def wake(module, seed=0):
    """Random numbers for parameters that are all zero; the module, ready to evaluate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def small_unet(**changes):
    config = dataclasses.replace(tiny_config().unet, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return wake(UNet(config))


def released_options():
    """The options that only the released checkpoints use, in a small size."""
    return UNetConfig(
        in_channels=4, out_channels=4, model_channels=8, channel_mult=(1, 2), attention_levels=(1,),
        head_dim=8, norm_groups=4, init_attention=True, frame_stride=3, action_dim=3,
        multi_hot_actions=True, two_temporal_attentions=False, num_temporal_convs=2,
    )  # fmt: skip


def small_model(make_config=tiny_config, **sampling):
    config = make_config(size=16)
    config = dataclasses.replace(
        config, sampling=dataclasses.replace(config.sampling, num_steps=2, **sampling)
    )
    model = wake(WorldModel.build(config))
    if model.condition is not None:
        # what it imagines is its next input: random weights would amplify roundings each time
        with torch.no_grad():
            model.unet.out[2].weight.mul_(0.5)
    return model


def history(length=4, seed=0, size=16):
    """Frames uint8 [T, size, size, 3] and physical actions [T - 1, 3]."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (length, size, size, 3), dtype=np.uint8)
    return frames, candidates(1, length - 1, seed)[0]


def candidates(count=5, horizon=3, seed=1):
    spec = tiny_config().action
    rng = np.random.default_rng(seed)
    return rng.uniform(spec.low, spec.high, (count, horizon, spec.dim)).astype(np.float32)
