"""Autoencoder, Resampler and CLIP preprocessing against the reference's outputs."""

from __future__ import annotations

import torch

from v2w_core.models.autoencoder import Autoencoder, AutoencoderConfig
from v2w_core.models.image_context.clip_preprocess import clip_images
from v2w_core.models.image_context.resampler import Resampler, ResamplerConfig
from v2w_core.transfer.autoencoder_keys import autoencoder_weights

LIMIT = 1e-4
NAME = "vae_resampler_small"


def with_prefix(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def test_the_autoencoder(recorded):
    tensors, config = recorded.tensors(NAME), recorded.json(NAME)["vae_ddconfig"]
    model = Autoencoder(
        AutoencoderConfig(
            latent_channels=config["z_channels"],
            block_channels=tuple(config["ch"] * mult for mult in config["ch_mult"]),
            layers_per_block=config["num_res_blocks"],
            patch_size=1,
            norm_groups=32,
        )
    ).eval()
    model.vae.load_state_dict(autoencoder_weights(with_prefix(tensors, "vae_w.")))
    at = with_prefix(tensors, "vae.")
    mean, log_variance = model.posterior(at["x"])
    theirs = at["moments"]
    recorded.check("vae moments, mean", mean, theirs[:, : mean.shape[1]], LIMIT)
    clamped = theirs[:, mean.shape[1] :].clamp(-30, 20)
    recorded.check("vae moments, log variance", log_variance, clamped, LIMIT)
    sample = mean + (0.5 * log_variance).exp() * at["noise"]
    recorded.check("vae sample", sample, at["sample"], LIMIT)
    recorded.check("vae decoded", model.reconstruct(at["mode"]), at["decode_of_mode"], LIMIT)


def test_the_resampler(recorded):
    tensors, config = recorded.tensors(NAME), recorded.json(NAME)["resampler_config"]
    model = Resampler(
        ResamplerConfig(
            in_dim=config["embedding_dim"],
            dim=config["dim"],
            out_dim=config["output_dim"],
            depth=config["depth"],
            num_heads=config["heads"],
            head_dim=config["dim_head"],
            num_queries=config["num_queries"],
            num_frames=config["video_length"],
            ff_mult=config["ff_mult"],
        )
    ).eval()
    model.load_state_dict(with_prefix(tensors, "resampler_w."))
    at = with_prefix(tensors, "resampler.")
    recorded.check("resampler", model(at["x"]), at["out"], LIMIT)


def test_clip_preprocessing(recorded):
    data = recorded.arrays("clip_preprocess")
    ours = clip_images(data.pop("image_u8").float() / 255 * 2 - 1)
    for name, theirs in data.items():
        _, kind, *numbers = name.split("_")
        if kind.startswith("row"):  # out_row0_100_223
            rows = [int(kind.removeprefix("row")), *map(int, numbers)]
            found = ours[0][:, rows]
        elif kind.startswith("stride"):  # out_stride4
            step = int(kind.removeprefix("stride"))
            found = ours[:, :, ::step, ::step]
        else:
            assert name == "out_mean_std"
            found = torch.tensor([ours.double().mean(), ours.double().std()])
        recorded.check(f"clip {name}", found, theirs, LIMIT)
