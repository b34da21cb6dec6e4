"""Writes a folder of the recordings' format with other names, sizes and seeds, from our own code.

It proves nothing about the reference, only that a folder's names and sizes are its own.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from core_toys import wake
from released_toys import autoencoder_layers
from safetensors.torch import save_file

from recordings import RecordedDenoiser, Recordings, SamplingCase
from v2w_core.diffusion.compat import RELEASED
from v2w_core.diffusion.schedule import NoiseSchedule, ddim_sigma, trailing_levels
from v2w_core.diffusion.window_sampler import WindowSampler
from v2w_core.models.autoencoder import Autoencoder, AutoencoderConfig
from v2w_core.models.conditioning import concat_first_frame, shift_actions
from v2w_core.models.image_context.clip_preprocess import clip_images
from v2w_core.models.image_context.image_context import frame_tokens
from v2w_core.models.image_context.resampler import Resampler, ResamplerConfig
from v2w_core.models.unet import UNet
from v2w_core.transfer.autoencoder_keys import autoencoder_weights
from v2w_core.transfer.released import unet_config
from v2w_core.transfer.unet_keys import released_name
from v2w_core.transfer.weight_transfer import transfer_weights

DIM = 24
BASE = {
    "in_channels": 8, "out_channels": 4, "model_channels": 32, "attention_resolutions": [2],
    "num_res_blocks": 1, "channel_mult": [1, 2], "dropout": 0.1, "num_head_channels": 16,
    "context_dim": DIM, "addition_attention": True, "default_fs": 5,
}  # fmt: skip
CAUSAL = {**BASE, "use_causal_attention": True}
SIZE = 4, 6


class Writer:
    def __init__(self, folder, seed):
        self.folder = folder
        self.generator = torch.Generator().manual_seed(seed)

    def random(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def json(self, name, data):
        (self.folder / f"{name}.json").write_text(json.dumps(data))

    def tensors(self, name, tensors):
        plain = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        save_file(plain, self.folder / f"{name}.safetensors")

    def latents(self, batch, frames, channels=4):
        return self.random(batch, channels, frames, *SIZE)

    def levels(self, *shape):
        return torch.randint(1000, shape, generator=self.generator)


@torch.inference_mode()
def write_folder(folder, seed=11):
    it = Writer(folder, seed)
    torch.manual_seed(seed)
    base = wake(UNet(unet_config(BASE)), seed).state_dict()
    named = {released_name(k, causal=False): v for k, v in base.items()}
    it.tensors("unet_small_base_weights", named)
    write_base(it, base)
    write_causal(it, base)
    write_schedule(it)
    write_sampler(it, base)
    write_encoders(it)


def velocity(unet, x, level, context, *told, stride=None):
    frames = x.shape[2]
    level = level[:, None].expand(-1, frames) if level.ndim == 1 else level
    tokens = frame_tokens(context, frames, by_length=RELEASED.tokens_by_length)
    out, _ = unet(x.transpose(1, 2), level, *told, context=tokens, frame_stride=stride)
    return out.transpose(1, 2)


def write_base(it, base):
    unet = UNet(unet_config(BASE)).eval()
    unet.load_state_dict(base)
    at = {"x": it.latents(1, 3, 8), "timesteps": it.levels(1), "fs": torch.tensor([7]),
          "context": it.random(1, 77 + 3 * 16, DIM)}  # fmt: skip
    at["out"] = velocity(unet, at["x"], at["timesteps"], at["context"], stride=at["fs"])
    it.json("unet_small_base", {"config": BASE, "cases": {"only_one": {}}})
    it.tensors("unet_small_base_cases", {f"only_one.{k}": v for k, v in at.items()})


def write_causal(it, base):
    inputs = {"x": it.latents(2, 3, 8), "timesteps": it.levels(2, 3),
              "context": it.random(2, 77 + 16 * 5, DIM), "fs": torch.tensor([2, 9])}  # fmt: skip
    it.tensors("unet_small_causal_inputs", {f"c.{k}": v for k, v in inputs.items()})
    for mode in ("shift", "masked", "extrapolative"):
        name = f"unet_small_causal_{mode}"
        weights = transfer_weights(base, mode, height_too=True)
        unet = UNet(unet_config(CAUSAL)).eval()
        unet.load_state_dict(weights)
        out = velocity(unet, inputs["x"], inputs["timesteps"], inputs["context"],
                       stride=inputs["fs"])  # fmt: skip
        about = {"config": CAUSAL, "mode": mode, "action_dim": None, "cases": {"c": {}}}
        it.json(name, about)
        it.tensors(f"{name}_cases", {"c.out": out})
        moved = {k: v for k, v in weights.items() if ".temporal_conv.conv" in k}
        it.tensors(f"{name}_weights", {released_name(k, causal=True): v for k, v in moved.items()})
    for mode, dim in (("masked", 5), ("shift", 51)):
        write_actions(it, base, mode, dim)


def with_actions(it, base, mode, dim):
    """The U-Net, and its action layers by released names."""
    config = {**CAUSAL, "action_emb": True, "action_dim": dim}
    unet = wake(UNet(unet_config(config)))
    unet.load_state_dict(transfer_weights(base, mode, height_too=True), strict=False)
    layers = {k: v for k, v in unet.state_dict().items() if k.startswith("action_embed.")}
    return config, unet, {f"weight.{released_name(k, causal=True)}": v for k, v in layers.items()}


def write_actions(it, base, mode, dim):
    config, unet, tensors = with_actions(it, base, mode, dim)
    name = f"unet_small_causal_{mode}_action{dim}"
    x, first = it.latents(2, 4), it.latents(2, 4)
    action, mask = it.random(2, 4, dim), torch.tensor([[1.0, 0, 1, 1], [0, 1, 1, 0]])
    at = {"x": x, "c_concat": first, "c_crossattn": it.random(2, 77 + 64, DIM),
          "t": it.levels(2, 4), "c_action": action, "c_action_mask": mask,
          "fs": torch.tensor([1, 2])}  # fmt: skip
    at["out"] = velocity(unet, torch.cat([x, first], 1), at["t"], at["c_crossattn"],
                         shift_actions(action), mask, stride=at["fs"])  # fmt: skip
    tensors |= {f"wrapper.{k}": v for k, v in at.items()}
    it.json(name, {"config": config, "mode": mode, "action_dim": dim, "cases": {"wrapper": {}}})
    it.tensors(f"{name}_cases", tensors)


def write_schedule(it):
    about = {"linear_start": 0.001, "linear_end": 0.013, "timesteps": 1000,
             "rescale_zero_terminal_snr": True}  # fmt: skip
    root = torch.linspace(0.001**0.5, 0.013**0.5, 1000, dtype=torch.float64)
    bar = (1 - root**2).cumprod(0).sqrt()
    bar = ((bar - bar[-1]) * bar[0] / (bar[0] - bar[-1])) ** 2
    betas = 1 - bar / torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    scale = torch.cat([torch.linspace(1, 0.8, 300), torch.full((900,), 0.8)])
    schedule = {"schedule": about, "betas": betas.tolist(), "scale_arr": scale.tolist(),
                "alphas_cumprod_float32": bar.float().tolist(),
                "alphas_cumprod_float64": bar.tolist()}  # fmt: skip
    found = {}
    for name, levels in {
        "uniform_trailing_8": trailing_levels(8)[::-1],
        "uniform_8": [level + 1 for level in range(0, 1000, 125)],
    }.items():
        now, then = bar.float()[levels], bar.float()[[0, *levels[:-1]]]
        found[name] = {
            "timesteps_ascending": levels, "history_noise_timestep_small_t": levels[1],
            "ddim_sigmas_eta0.3": [
                float(ddim_sigma(a, b, 0.3)) for a, b in zip(now, then, strict=True)
            ],
            "ddim_alphas": now.tolist(), "ddim_alphas_prev": then.tolist(),
            "ddim_scale_arr": scale[levels].tolist(),
            "ddim_scale_arr_prev": scale[[levels[0], *levels[:-1]]].tolist(),
        }  # fmt: skip
    it.json("ddim_schedule", {**schedule, "ddim": found})


def write_sampler(it, base):
    config, unet, tensors = with_actions(it, base, "extrapolative", 5)
    settings = {"steps": 3, "spacing": "uniform_trailing", "cond_frame": 3, "T": 5, "fs": 4,
                "uncond": "per frame (0,0,1,0,0,1,...), repeated"}  # fmt: skip
    wanted = {"drifting": (True, 0.5, 3.0, 0.4), "plain": (True, 0.0, 1.0, 0.0),
              "together": (False, 1.0, 2.0, 0.7)}  # fmt: skip
    steps = trailing_levels(3)[::-1]
    runs = {
        name: {"ar": ar, "eta": eta, "scale": scale, "resc": resc, "steps": steps}
        for name, (ar, eta, scale, resc) in wanted.items()
    }
    tensors |= {"in.z": it.latents(1, 5), "in.action": it.random(1, 5, 5)}
    tensors |= {"in.concat": it.latents(1, 1).expand(-1, -1, 5, -1, -1).clone()}
    tensors |= {f"in.{k}": it.random(1, 77 + 16 * 4, DIM) for k in ("ctx", "uctx")}
    it.json("sampler_small", {"config_unet": config, "sampling": settings, "runs": {
        **runs, "left_out_kvcache": {"ar": True, "kv": True}, "train": {}}})  # fmt: skip
    it.tensors("sampler_small", tensors)
    recorded = Recordings(it.folder)
    case, schedule = SamplingCase(recorded), NoiseSchedule(recorded.diffusion())
    for name, run in runs.items():
        prefix = "ar" if run["ar"] else "nar"
        drawn = sorted(k for k in tensors if k.startswith(f"{prefix}.noise"))
        known = iter([tensors[k] for k in drawn])  # all of a kind share their draws

        def noise(shape, prefix=prefix, known=known):
            again = next(known, None)
            if again is None:
                again = it.random(*shape).transpose(1, 2)
                count = sum(k.startswith(f"{prefix}.noise") for k in tensors)
                tensors[f"{prefix}.noise{count:03}"] = again
            return again.transpose(1, 2)

        sampler = WindowSampler(schedule, 3, run["eta"], run["scale"], run["resc"])
        denoise = RecordedDenoiser(case, unet, RELEASED, together=not run["ar"])
        if run["ar"]:
            out = sampler.autoregressive(denoise, case.history, 5, noise)
        else:
            out = sampler.together(denoise, (1, 5, 4, *SIZE), noise)
        tensors[f"{name}.out"] = out.transpose(1, 2)
    tensors["left_out_kvcache.out"] = it.latents(1, 5)
    it.tensors("sampler_small", tensors | write_training(it, unet, schedule))


def write_training(it, unet, schedule):
    at = {"x": it.latents(2, 3), "noise": it.latents(2, 3), "t": it.levels(2, 3),
          "action": it.random(2, 3, 5), "ctx": it.random(2, 77 + 48, DIM),
          "action_mask": torch.tensor([[1.0, 0, 1], [0, 1, 1]])}  # fmt: skip
    clean, noise = at["x"].transpose(1, 2), at["noise"].transpose(1, 2)
    signal = schedule.alphas_cumprod[at["t"]].sqrt()[:, :, None, None, None]
    sigma = (1 - signal**2).sqrt()
    scaled = clean * schedule.scale[at["t"]][:, :, None, None, None]
    noisy, target = signal * scaled + sigma * noise, signal * noise - sigma * scaled
    x = concat_first_frame(noisy, clean[:, :1]).transpose(1, 2)
    told = shift_actions(at["action"]), at["action_mask"]
    predicted = velocity(unet, x, at["t"], at["ctx"], *told).transpose(1, 2)
    error = (predicted - target).square().mean(dim=(2, 3, 4))
    of_frames = {"x_scaled": scaled, "x_noisy": noisy, "target_v": target, "pred": predicted}
    at |= {k: v.transpose(1, 2) for k, v in of_frames.items()}
    at |= {"loss_per_frame": error, "loss": error.mean()[None]}
    return {f"train.{k}": v for k, v in at.items()}


def write_encoders(it):
    shapes = autoencoder_layers()
    vae = {f"{k}.weight": 0.1 * it.random(*s) for k, s in shapes.items()}
    vae |= {f"{k}.bias": 0.1 * it.random(s[0]) for k, s in shapes.items()}
    model = Autoencoder(AutoencoderConfig(4, (32, 32), 1, 1, 32)).eval()
    model.vae.load_state_dict(autoencoder_weights(vae))
    at = {"x": it.random(1, 3, 16, 24), "noise": it.random(1, 4, 8, 12)}
    mean, log_variance = model.posterior(at["x"])
    at |= {"moments": torch.cat([mean, log_variance], 1), "mode": mean,
           "sample": mean + (0.5 * log_variance).exp() * at["noise"],
           "decode_of_mode": model.reconstruct(mean)}  # fmt: skip
    sizes = {"embedding_dim": 20, "dim": 12, "output_dim": DIM, "depth": 1, "heads": 2,
             "dim_head": 6, "num_queries": 4, "video_length": 3, "ff_mult": 2}  # fmt: skip
    resampler = Resampler(ResamplerConfig(20, 12, DIM, 1, 2, 6, 4, 3, 2)).eval()
    tokens = it.random(2, 9, 20)
    it.json("vae_resampler_small", {"resampler_config": sizes, "vae_ddconfig": {
        "z_channels": 4, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}})  # fmt: skip
    it.tensors("vae_resampler_small", {
        **{f"vae_w.{k}": v for k, v in vae.items()}, **{f"vae.{k}": v for k, v in at.items()},
        **{f"resampler_w.{k}": v for k, v in resampler.state_dict().items()},
        "resampler.x": tokens, "resampler.out": resampler(tokens)})  # fmt: skip
    image = torch.randint(256, (1, 3, 240, 300), generator=it.generator).to(torch.uint8)
    seen = clip_images(image.float() / 255 * 2 - 1)
    moments = [float(seen.double().mean()), float(seen.double().std())]
    np.savez(it.folder / "clip_preprocess.npz", image_u8=image.numpy(),
             out_row5_77=seen[0][:, [5, 77]].numpy(), out_stride3=seen[:, :, ::3, ::3].numpy(),
             out_mean_std=np.array(moments))  # fmt: skip
