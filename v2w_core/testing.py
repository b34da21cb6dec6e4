"""Small configurations for tests, benchmarks and examples."""

from __future__ import annotations

from dataclasses import replace

from v2w_core.config import WorldModelConfig
from v2w_core.models.autoencoder import AutoencoderConfig
from v2w_core.models.motion_head import MOTION_CHANNELS
from v2w_core.models.unet import UNetConfig
from v2w_core.models.warped_previous import ConditionConfig
from v2w_core.spec import ActionSpec, ObservationSpec

PLANAR_4HZ = ActionSpec(
    names=("dx", "dy", "dyaw"),
    units=("m", "m", "rad"),
    low=(-0.25, -0.25, -0.5),
    high=(0.5, 0.25, 0.5),
    rate_hz=4.0,
)


def tiny_config(action: ActionSpec = PLANAR_4HZ, size: int = 32) -> WorldModelConfig:
    """Configuration of a model small enough for tests, with ``size`` x ``size`` frames."""
    return WorldModelConfig(
        action=action,
        observation=ObservationSpec(size, size),
        autoencoder=AutoencoderConfig(
            latent_channels=4, block_channels=(8, 8), patch_size=2, norm_groups=4
        ),
        unet=UNetConfig(
            in_channels=4,
            out_channels=4,
            model_channels=8,
            channel_mult=(1, 2),
            attention_levels=(1,),
            head_dim=8,
            norm_groups=4,
            action_dim=action.dim,
        ),
        num_history=4,
        num_frames=12,
    )


def geometric_config(action: ActionSpec = PLANAR_4HZ, size: int = 32) -> WorldModelConfig:
    """The same with a condition, the frame before moved by the action, and a motion head."""
    config = tiny_config(action, size)
    condition = ConditionConfig(planes=(None, 2.0))
    channels = condition.num_channels(config.autoencoder.latent_channels)
    return replace(
        config,
        observation=replace(config.observation, fov_rad=(1.5, 1.2)),
        unet=replace(
            config.unet,
            in_channels=config.unet.in_channels + channels,
            out_channels=config.unet.out_channels + MOTION_CHANNELS,
            condition_channels=channels,
        ),
        condition=condition,
        motion_head=True,
    )
