"""Schedule, samplers and training loss against the reference's outputs."""

from __future__ import annotations

import pytest
import torch

from recordings import RecordedDenoiser, SamplingCase
from v2w_core.diffusion.compat import RELEASED
from v2w_core.diffusion.objective import ObjectiveConfig, diffusion_forcing_error
from v2w_core.diffusion.schedule import NoiseSchedule, ddim_sigma, trailing_levels
from v2w_core.diffusion.window_sampler import WindowSampler
from v2w_core.models.conditioning import concat_first_frame, shift_actions
from v2w_core.models.image_context.image_context import frame_tokens

LIMIT, EXACT = 1e-4, 1e-5


@pytest.fixture(scope="module")
def schedule(recorded):
    return NoiseSchedule(recorded.diffusion())


def test_the_schedule(recorded, schedule):
    data = recorded.json("ddim_schedule")
    alphas = schedule.alphas_cumprod
    recorded.check("alphas_cumprod", alphas, torch.tensor(data["alphas_cumprod_float32"]), EXACT)
    double = torch.tensor(data["alphas_cumprod_float64"], dtype=torch.float64)
    recorded.check("alphas_cumprod, float64", alphas.double(), double, EXACT)
    earlier = torch.cat([torch.ones(1), alphas[:-1]])
    recorded.check("betas", 1 - alphas / earlier, torch.tensor(data["betas"]), EXACT)
    scale = torch.tensor(data["scale_arr"])
    flat = schedule.scale[-1].expand(len(scale) - schedule.num_levels)  # theirs goes on
    recorded.check("scale_arr", torch.cat([schedule.scale, flat]), scale, EXACT)


def uniform_levels(num_steps, num_levels):
    """The reference's older, leading spacing, which none of our samplers uses; lowest first."""
    return [level + 1 for level in range(0, num_levels, num_levels // num_steps)]


def test_sampling_levels_and_their_noise(recorded, schedule):
    for name, case in recorded.json("ddim_schedule")["ddim"].items():
        spacing, _, count = name.rpartition("_")
        if spacing == "uniform_trailing":
            levels = trailing_levels(int(count), schedule.num_levels)[::-1]
        else:
            assert spacing == "uniform"
            levels = uniform_levels(int(count), schedule.num_levels)
        assert levels == case["timesteps_ascending"], name
        assert levels[1] == case["history_noise_timestep_small_t"]
        now, then = schedule.alphas_cumprod[levels], schedule.alphas_cumprod[[0, *levels[:-1]]]
        scales = schedule.scale[levels], schedule.scale[[levels[0], *levels[:-1]]]
        ours = {"ddim_alphas": now, "ddim_alphas_prev": then, "ddim_scale_arr": scales[0],
                "ddim_scale_arr_prev": scales[1]}  # fmt: skip
        for key in case:
            if key.startswith("ddim_sigmas_eta"):
                eta = float(key.removeprefix("ddim_sigmas_eta"))
                pairs = zip(now, then, strict=True)
                ours[key] = torch.stack([ddim_sigma(a, b, eta) for a, b in pairs])
        assert ours.keys() == {key for key in case if key.startswith("ddim_")}
        theirs = torch.cat([torch.tensor(case[key]) for key in ours])
        recorded.check(f"ddim {name}", torch.cat(list(ours.values())), theirs, EXACT)


@pytest.fixture(scope="module")
def case(recorded):
    return SamplingCase(recorded)


@pytest.fixture(scope="module")
def unet(case):
    return case.unet()


def replay(tensors, prefix):
    """Recorded draws [B, C, T, h, w], one after the other, as [B, T, C, h, w]."""
    names = iter(sorted(key for key in tensors if key.startswith(f"{prefix}.noise")))

    def draw(shape):
        noise = tensors[next(names)].transpose(1, 2)
        assert noise.shape == tuple(shape)
        return noise

    return draw, names


@pytest.mark.slow
def test_every_recorded_run(recorded, case, unet, schedule):
    """Frame by frame and all at once; the cache sampler alone is left out, as it is not sound."""
    tensors, settings = case.tensors, case.settings
    assert settings["spacing"] == "uniform_trailing"
    runs = {k: run for k, run in case.runs.items() if "ar" in run and not run.get("kv")}
    left_out = case.runs.keys() - runs.keys()
    assert left_out <= {"train", *(k for k in case.runs if k.endswith("kvcache"))}, left_out
    compared = {f"{name}.out" for name in runs}
    assert {k for k in tensors if k.endswith(".out")} - compared <= {f"{k}.out" for k in left_out}
    assert {bool(run["ar"]) for run in runs.values()} == {True, False}
    for name, run in runs.items():
        sampler = WindowSampler(
            schedule,
            num_steps=settings["steps"],
            eta=run["eta"],
            guidance_scale=run["scale"],
            guidance_rescale=run["resc"],
            compat=RELEASED,
        )
        assert sampler.levels()[::-1] == run["steps"]
        theirs = tensors[f"{name}.out"].transpose(1, 2)
        draw, left = replay(tensors, "ar" if run["ar"] else "nar")
        denoise = RecordedDenoiser(case, unet, RELEASED, together=not run["ar"])
        if run["ar"]:
            ours = sampler.autoregressive(denoise, case.history, settings["T"], draw)
        else:
            ours = sampler.together(denoise, theirs.shape, draw)
        assert next(left, None) is None, f"{name}: every draw was used"
        recorded.check(f"sampling {name}", ours, theirs, LIMIT)


def test_training(recorded, case, unet, schedule):
    at = {k.removeprefix("train."): v for k, v in case.tensors.items() if k.startswith("train.")}
    clean, noise = at["x"].transpose(1, 2), at["noise"].transpose(1, 2)
    tokens = frame_tokens(at["ctx"], clean.shape[1], by_length=RELEASED.tokens_by_length)
    told = shift_actions(at["action"]), at["action_mask"]
    scaled = schedule.rescaled(clean, at["t"])
    noisy = schedule.add_noise(scaled, noise, at["t"])
    target = schedule.velocity(scaled, noise, at["t"])
    x = concat_first_frame(noisy, clean[:, :1])
    predicted, _ = unet(x, at["t"], *told, context=tokens)
    error, _ = diffusion_forcing_error(
        unet, schedule, clean, at["t"], noise, *told, ObjectiveConfig(weighting="velocity"), tokens
    )
    ours = {"x_scaled": scaled, "x_noisy": noisy, "target_v": target, "pred": predicted}
    ours = {name: value.transpose(1, 2) for name, value in ours.items()}
    ours |= {"loss_per_frame": error, "loss": error.mean()[None]}
    given = {"x", "t", "noise", "action", "action_mask", "ctx"}
    assert ours.keys() == at.keys() - given
    for name, value in ours.items():
        recorded.check(f"train.{name}", value, at[name], LIMIT)
