"""Schedule, samplers and training loss against the reference's outputs."""

from __future__ import annotations

import pytest
import torch

from v2w_core.diffusion.compat import RELEASED, WindowSampler, frame_tokens
from v2w_core.diffusion.objective import ObjectiveConfig, forcing_error
from v2w_core.diffusion.schedule import (
    DiffusionConfig,
    NoiseSchedule,
    ddim_sigma,
    trailing_levels,
    uniform_levels,
)
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.unet import UNet
from v2w_core.transfer.reference_names import unet_name
from v2w_core.transfer.weight_transfer import transfer_weights

LIMIT = 1e-4
SCHEDULE = NoiseSchedule(DiffusionConfig(base_scale=0.7))


def test_the_schedule(recorded):
    data = recorded.json("ddim_schedule")
    alphas = torch.tensor(data["alphas_cumprod_float32"])
    recorded.check("alphas_cumprod", SCHEDULE.alphas_cumprod, alphas, 1e-5)
    scale = torch.tensor(data["scale_arr"])[: len(SCHEDULE.scale)]
    recorded.check("scale_arr", SCHEDULE.scale, scale, 1e-5)


def test_sampling_levels_and_their_noise(recorded):
    for name, case in recorded.json("ddim_schedule")["ddim"].items():
        spacing, _, count = name.rpartition("_")
        make = trailing_levels if spacing == "uniform_trailing" else uniform_levels
        levels = make(int(count))
        assert levels[::-1] == case["timesteps_ascending"], name
        assert WindowSampler(SCHEDULE).compat.history_at_second_level
        assert levels[-2] == case["history_noise_timestep_small_t"]
        following = [0, *levels[::-1][:-1]]
        for eta in (0, 1):
            ours = torch.stack(
                [
                    ddim_sigma(SCHEDULE.alphas_cumprod[now], SCHEDULE.alphas_cumprod[then], eta)
                    for now, then in zip(levels[::-1], following, strict=True)
                ]
            )
            theirs = torch.tensor(case[f"ddim_sigmas_eta{eta}"])
            recorded.check(f"{name} sigma, eta {eta}", ours, theirs, 1e-5)


@pytest.fixture(scope="module")
def model(recorded):
    tensors = recorded.tensors("sampler_small")
    weights = transfer_weights(recorded.base_weights(), "extrapolative", height_too=True)
    added = {key: tensors[key] for key in tensors if key.startswith("weight.")}
    weights.update({unet_name(key.removeprefix("weight.")): value for key, value in added.items()})
    unet = UNet(recorded.unet_config("sampler_small", "config_unet")).eval()
    unet.load_state_dict(weights)
    return unet, tensors


class Denoiser:
    """The model with the recording's conditions; keeps the released code's masks."""

    def __init__(self, unet, tensors, plain_mask):
        self.unet, self.tensors, self.plain_mask = unet, tensors, plain_mask

    def __call__(self, x, level, *, guided):
        num_frames = x.shape[1]
        at = {key.removeprefix("in."): value for key, value in self.tensors.items()}
        tokens = frame_tokens(at["ctx" if guided else "uctx"], num_frames, RELEASED)
        mask = torch.ones(x.shape[:2])
        if not guided:
            mask = self.plain_mask(num_frames).expand(x.shape[:2])
        actions = shift_actions(at["action"])[:, :num_frames]
        concat = at["concat"].transpose(1, 2)[:, :num_frames]
        stride = torch.full((len(x),), 3)
        x = torch.cat([x, concat], dim=2)
        v, _ = self.unet(x, level, actions, mask, context=tokens, frame_stride=stride)
        return v


def replay(tensors, prefix):
    """Recorded draws [B, C, T, h, w], one after the other, as [B, T, C, h, w]."""
    names = iter(sorted(key for key in tensors if key.startswith(f"{prefix}.noise")))

    def draw(shape):
        noise = tensors[next(names)].transpose(1, 2)
        assert noise.shape == tuple(shape)
        return noise

    return draw, names


def latest_masked(num_frames):
    return torch.arange(num_frames) < num_frames - 1


def every_other(num_frames):
    return torch.arange(num_frames) % 2


def sampler(run, steps):
    return WindowSampler(
        SCHEDULE,
        num_steps=steps,
        eta=run["eta"],
        guidance_scale=run["scale"],
        guidance_rescale=run["resc"],
        compat=RELEASED,
    )


@pytest.mark.parametrize("name", ["ar_eta1_cfg", "ar_eta0_cfg", "ar_eta1_nocfg"])
def test_frame_by_frame(recorded, model, name):
    unet, tensors = model
    data = recorded.json("sampler_small")
    settings, run = data["sampling"], data["runs"][name]
    draw, left = replay(tensors, "ar")
    history = tensors["in.z"].transpose(1, 2)[:, : settings["cond_frame"]]
    ours = sampler(run, settings["steps"]).autoregressive(
        Denoiser(unet, tensors, latest_masked), history, settings["T"], draw
    )
    assert next(left, None) is None  # every draw was used
    recorded.check(name, ours.transpose(1, 2), tensors[f"{name}.out"], LIMIT)


def test_all_frames_at_once(recorded, model):
    unet, tensors = model
    data = recorded.json("sampler_small")
    run = data["runs"]["nar_eta1_cfg"]
    draw, _ = replay(tensors, "nar")
    shape = tensors["nar_eta1_cfg.out"].transpose(1, 2).shape
    ours = sampler(run, data["sampling"]["steps"]).together(
        Denoiser(unet, tensors, every_other), shape, draw
    )
    recorded.check("nar_eta1_cfg", ours.transpose(1, 2), tensors["nar_eta1_cfg.out"], LIMIT)


def test_the_training_loss(recorded, model):
    unet, tensors = model
    at = {key.removeprefix("train."): value for key, value in tensors.items()}
    clean, noise = at["x"].transpose(1, 2), at["noise"].transpose(1, 2)
    tokens = frame_tokens(at["ctx"], clean.shape[1], RELEASED)
    told = shift_actions(at["action"]), at["action_mask"]
    error = forcing_error(
        unet, SCHEDULE, clean, at["t"], noise, told, ObjectiveConfig(weighting="velocity"), tokens
    )
    recorded.check("train.loss_per_frame", error, at["loss_per_frame"], LIMIT)
    recorded.check("train.loss", error.mean()[None], at["loss"], LIMIT)
