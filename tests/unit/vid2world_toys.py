"""vid2world_small made tiny: settings, episodes, and a base that is not causal."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from core_toys import wake

from training.dataset import open_episodes
from training.initial_model import model_config
from training.train import load_settings
from v2w_core.data.episode import write_episode
from v2w_core.testing import PLANAR_4HZ
from v2w_core.world_model import WorldModel

TINY = [
    "+experiment=vid2world_small",
    "threads=1",
    "observation.height=32",
    "observation.width=32",
    "num_history=2",
    "num_frames=5",
    "model.autoencoder.block_channels=[8,8,8]",
    "model.autoencoder.norm_groups=4",
    "model.context.num_text=2",
    "model.context.vision={width: 16, depth: 1, num_heads: 1, mlp_width: 16, patch_size: 112}",
    "model.context.resampler.in_dim=16",
    "model.context.resampler.depth=1",
    "model.context.resampler.num_queries=4",
    "model.context.resampler.num_frames=5",
    "model.unet.model_channels=8",
    "model.unet.head_dim=8",
    "model.unet.norm_groups=4",
    "model.unet.channel_mult=[1,2]",
    "model.unet.attention_levels=[0,1]",
    "vid2world.augment=false",
    "vid2world.num_validation=2",
    "sampling.num_steps=2",
    "autoencoder_loop.num_steps=2",
    "autoencoder_loop.batch_size=4",
    "vid2world_loop.num_steps=2",
    "vid2world_loop.batch_size=2",
]


def write_episodes(folder, lengths=(12, 9, 4), size=(24, 32)):
    """Random pictures and actions; an episode of 4 frames is too short for a clip."""
    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        write_episode(
            folder / f"{number}.h5",
            frames=rng.integers(0, 255, (length, *size, 3), dtype=np.uint8),
            actions=rng.uniform(-0.2, 0.2, (length - 1, 3)).astype(np.float32),
            poses=np.zeros((length, 4)),
            stamps_ns=np.arange(length) * 250_000_000,
            action_spec=PLANAR_4HZ,
            source="test",
        )
    return open_episodes(folder)


def settings(*overrides):
    return load_settings([*TINY, *overrides])


def small_base(folder, seed=5):
    """A checkpoint folder of video diffusion that is not causal, of vid2world_small's sizes."""
    config = model_config(settings(), PLANAR_4HZ)
    unet = dataclasses.replace(config.unet, causal=False, action_dim=None, frame_stride=24)
    base = WorldModel.build(dataclasses.replace(config, unet=unet), seed)
    generator = torch.Generator().manual_seed(seed)
    base.image_context.text_tokens.copy_(torch.randn(2, 64, generator=generator))
    return wake(base).save_pretrained(folder)
