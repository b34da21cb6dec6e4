"""Sampling of whole windows: what our own models do otherwise than the released code."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from v2w_core.diffusion.compat import CompatConfig
from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.schedule import DiffusionConfig, NoiseSchedule
from v2w_core.diffusion.window_sampler import WindowSampler

HISTORY = 3


@pytest.mark.parametrize("over_history", [False, True])
def test_guidance_restores_the_spread_of_the_denoised_frame(over_history):
    """History of a wild spread must not change how the newest frame is rescaled."""
    generator = torch.Generator().manual_seed(0)
    frames = [torch.randn(2, HISTORY + 1, 4, 3, 3, generator=generator) for _ in range(2)]
    for frame in frames:
        frame[:, :HISTORY] *= 50
    compat = CompatConfig(rescale_over_history=over_history)
    schedule = NoiseSchedule(DiffusionConfig())
    sampler = WindowSampler(schedule, 1, 0.0, 2.5, 0.7, compat=compat)
    history = torch.zeros(2, HISTORY, 4, 3, 3)
    out = sampler.autoregressive(
        lambda x, level, *, guided: frames[0 if guided else 1], history, HISTORY + 1, torch.zeros
    )
    # one step from pure noise: the clean frame is minus the velocity
    alone = guide(frames[0][:, HISTORY:], frames[1][:, HISTORY:], 2.5, 0.7)
    assert torch.allclose(out[:, HISTORY:], -alone, atol=1e-4) is not over_history


def test_every_quirk_is_off_unless_asked_for():
    from v2w_core.diffusion.compat import RELEASED

    ours, theirs = dataclasses.asdict(CompatConfig()), dataclasses.asdict(RELEASED)
    assert all(ours[name] != theirs[name] for name in ours)
