"""A tiny model under the released files' names, and the .ckpt files they come in."""

from __future__ import annotations

import dataclasses

import torch
from core_toys import wake

from v2w_core.models.autoencoder import AutoencoderConfig
from v2w_core.models.image_context.image_context import ImageContextConfig, VisionTowerConfig
from v2w_core.models.image_context.resampler import ResamplerConfig
from v2w_core.spec import ObservationSpec
from v2w_core.transfer.released import released_config
from v2w_core.transfer.text_tower import TextTowerConfig
from v2w_core.transfer.unet_keys import UNET_PREFIX, released_name
from v2w_core.world_model import WorldModel

WIDTH = 32
TEXT = TextTowerConfig(vocabulary=20, width=WIDTH, depth=2, num_heads=2, mlp_width=64)


def tiny_released_config(kind="vid2world-recon"):
    """A released model's structure and actions with other sizes."""
    full = released_config(kind)
    return dataclasses.replace(
        full,
        observation=ObservationSpec(32, 64, "pad"),
        autoencoder=AutoencoderConfig(
            latent_channels=4, block_channels=(32, 32), layers_per_block=1, patch_size=1,
            norm_groups=32,
        ),
        unet=dataclasses.replace(
            full.unet, model_channels=32, channel_mult=(1, 2), num_res_blocks=1,
            attention_levels=(0, 1), head_dim=16, context_dim=WIDTH,
        ),
        sampling=dataclasses.replace(full.sampling, num_steps=2, history_level=499),
        num_history=2,
        num_frames=6,
        context=ImageContextConfig(
            vision=VisionTowerConfig(
                width=WIDTH, depth=1, num_heads=2, mlp_width=64, patch_size=112
            ),
            resampler=ResamplerConfig(
                in_dim=WIDTH, dim=WIDTH, out_dim=WIDTH, depth=1, num_heads=2, head_dim=16,
                num_frames=4,
            ),
        ),
    )  # fmt: skip


def resnet(stem, channels):
    return {
        f"{stem}.norm1": [channels], f"{stem}.conv1": [channels, channels, 3, 3],
        f"{stem}.norm2": [channels], f"{stem}.conv2": [channels, channels, 3, 3],
    }  # fmt: skip


def autoencoder_layers(levels=2, channels=32, latent=4):
    """Weight shapes of the released autoencoder's layers, all levels of one width."""
    middle = {}
    for side in ("encoder", "decoder"):
        middle.update(resnet(f"{side}.mid.block_1", channels))
        middle.update(resnet(f"{side}.mid.block_2", channels))
        middle[f"{side}.mid.attn_1.norm"] = [channels]
        for part in ("q", "k", "v", "proj_out"):
            middle[f"{side}.mid.attn_1.{part}"] = [channels, channels, 1, 1]
        middle[f"{side}.norm_out"] = [channels]
    layers = {
        "encoder.conv_in": [channels, 3, 3, 3], "encoder.conv_out": [2 * latent, channels, 3, 3],
        "decoder.conv_in": [channels, latent, 3, 3], "decoder.conv_out": [3, channels, 3, 3],
        "quant_conv": [2 * latent, 2 * latent, 1, 1], "post_quant_conv": [latent, latent, 1, 1],
        **middle,
    }  # fmt: skip
    for level in range(levels):
        layers.update(resnet(f"encoder.down.{level}.block.0", channels))
        for block in range(2):
            layers.update(resnet(f"decoder.up.{level}.block.{block}", channels))
        if level + 1 < levels:
            layers[f"encoder.down.{level}.downsample.conv"] = [channels, channels, 3, 3]
            layers[f"decoder.up.{level + 1}.upsample.conv"] = [channels, channels, 3, 3]
    return layers


def clip_layers(stem, depth, width, mlp):
    layers = {}
    for index in range(depth):
        block = f"{stem}.transformer.resblocks.{index}"
        layers[f"{block}.ln_1"] = layers[f"{block}.ln_2"] = [width]
        layers[f"{block}.attn.out_proj"] = [width, width]
        layers[f"{block}.mlp.c_fc"] = [mlp, width]
        layers[f"{block}.mlp.c_proj"] = [width, mlp]
    return layers


def released_weights(seed=0):
    """Random tensors by released names, for :func:`tiny_released_config`."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return 0.1 * torch.randn(shape, generator=generator)

    layers = {f"first_stage_model.{k}": v for k, v in autoencoder_layers().items()}
    layers.update(clip_layers("embedder.model.visual", 1, WIDTH, 64))
    layers.update(clip_layers("cond_stage_model.model", TEXT.depth, WIDTH, TEXT.mlp_width))
    layers["embedder.model.visual.ln_pre"] = layers["embedder.model.visual.ln_post"] = [WIDTH]
    layers["cond_stage_model.model.ln_final"] = [WIDTH]
    weights = {}
    for name, shape in layers.items():
        weights[f"{name}.weight"] = random(*shape)
        weights[f"{name}.bias"] = random(shape[0])
    visual, text = "embedder.model.visual", "cond_stage_model.model"
    for block in (f"{visual}.transformer.resblocks.0", *(
        f"{text}.transformer.resblocks.{i}" for i in range(TEXT.depth)
    )):  # fmt: skip
        weights[f"{block}.attn.in_proj_weight"] = random(3 * WIDTH, WIDTH)
        weights[f"{block}.attn.in_proj_bias"] = random(3 * WIDTH)
    weights.update(
        {
            f"{visual}.class_embedding": random(WIDTH),
            f"{visual}.positional_embedding": random(5, WIDTH),
            f"{visual}.conv1.weight": random(WIDTH, 3, 112, 112),
            f"{visual}.proj": random(WIDTH, 7),
            f"{text}.positional_embedding": random(TEXT.length, WIDTH),
            f"{text}.token_embedding.weight": random(TEXT.vocabulary, WIDTH),
            f"{text}.text_projection": random(WIDTH, WIDTH),
            f"{text}.logit_scale": random(),
            "betas": random(1000),
            "scale_arr": random(1400),
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = wake(WorldModel(tiny_released_config()))
    for name, value in model.unet.state_dict().items():
        weights[UNET_PREFIX + released_name(name, causal=True)] = value
    for name, value in model.image_context.resampler.state_dict().items():
        weights[f"image_proj_model.{name}"] = value
    return weights
