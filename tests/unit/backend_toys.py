"""What tests of back ends share."""

import dataclasses

import torch
from core_toys import candidates, history, wake

from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel

HORIZON = 3


def rollouts(model, backend, count=3, horizon=HORIZON, length=4, **sampling):
    session = model.start(*history(length=length), seed=4)
    session.backend = backend or session.backend
    return values(session.imagine(candidates(count, horizon), **sampling))


def values(imagined):
    """All that a back end computes of a rollout, [K, horizon, values]."""
    return torch.cat([imagined.latents.flatten(2), imagined.motion_means], dim=2)


def other_model(size=16, **changes):
    """A model with other options of the U-Net."""
    config = tiny_config(size=size)
    config = dataclasses.replace(
        config,
        unet=dataclasses.replace(config.unet, **changes),
        sampling=dataclasses.replace(config.sampling, num_steps=2),
    )
    return wake(WorldModel.build(config))
