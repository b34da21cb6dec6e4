"""What ``v2w convert-norm`` costs, and what fine-tuning recovers, on a small model.

    v2w collect runs/episodes/train --episodes 375 --steps 120 --seed 1
    v2w collect runs/episodes/val --episodes 40 --steps 120 --seed 2
    python benchmarks/convert_norm.py

Trains a small causal model with clip statistics (as the released ones have) by diffusion forcing,
converts it to frame statistics, and fine-tunes it; beside it the same model goes on unconverted.
All are asked for the last frame of held-out clips, the frames before it held at the history noise
level, in one denoising step. Stopped, the same command resumes; other settings need another --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any

import torch
from torch import Tensor

from training.ablation.arms import Arm, FineTuningTask, Windows
from training.ablation.run import AblationConfig, validations
from training.latent_video import encode_episodes
from training.trainer import LoopConfig, Trainer
from v2w_core.checkpoint import default_checkpoint
from v2w_core.files import write_text
from v2w_core.models.conditioning import shift_actions
from v2w_core.transfer.frame_norms import strictly_causal
from v2w_core.world_model import WorldModel

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "convert_norm.json"
NUM_CHANGED = 4  # newest frames that are replaced to measure what leaks


class LastFrameTask(FineTuningTask):
    """Diffusion forcing; validated as a rollout uses a model that cannot cache its past."""

    def validate(self) -> dict[str, float]:
        return {"error": last_frame_error(self.model, self.held_out)}


def whole_window(model: WorldModel, windows: Windows) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """Noisy clips [W, T, C, h, w], the noise of their last frames, and the U-Net's other inputs."""
    clean = windows.latents
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(clean.shape, generator=generator)
    level = torch.full(clean.shape[:2], model.config.sampling.history_level)
    level[:, -1] = model.schedule.num_levels - 1
    known = torch.ones_like(level, dtype=torch.bool)
    known[:, 0] = False
    noisy = model.schedule.add_noise(clean, noise, level)
    return noisy, noise, (level, shift_actions(windows.actions), known)


@torch.no_grad()
def last_frame_error(model: WorldModel, windows: Windows) -> float:
    """Mean squared error of the last frame's latents."""
    noisy, _, rest = whole_window(model, windows)
    velocity, _ = model.unet(noisy, *rest)
    predicted, _ = model.schedule.from_velocity(noisy, velocity, rest[0])
    return float((predicted - windows.latents)[:, -1].square().mean())


@torch.no_grad()
def output_change(before: WorldModel, after: WorldModel, windows: Windows) -> float:
    """Root mean square change of the velocities of whole clips, over that of the velocities."""
    noisy, _, rest = whole_window(before, windows)
    old, new = (model.unet(noisy, *rest)[0] for model in (before, after))
    return float((new - old).square().mean().sqrt() / old.square().mean().sqrt())


@torch.no_grad()
def leakage(model: WorldModel, windows: Windows) -> float:
    """How far other newest frames move the output of earlier ones, relative to its spread."""
    noisy, noise, rest = whole_window(model, windows)
    before, _ = model.unet(noisy, *rest)
    changed = noisy.clone()
    changed[:, -NUM_CHANGED:] = noise[:, -NUM_CHANGED:]
    after, _ = model.unet(changed, *rest)
    early = slice(0, -NUM_CHANGED)
    return float((after - before)[:, early].square().mean().sqrt() / before[:, early].std())


def trained(
    model: WorldModel, folder: pathlib.Path, steps: int, every: int, data: dict[str, Any]
) -> list[tuple[int, float]]:
    """Trains in place; (step, error) of the validations."""
    task = LastFrameTask(model, Arm(None, guided=True), **data)
    loop = LoopConfig(
        num_steps=steps, batch_size=data["batch_size"], learning_rate=5e-4, warmup_steps=20,
        cooldown=0.0, ema_decay=0.95, validate_every=every, checkpoint_every_s=30.0,
    )  # fmt: skip
    Trainer(task, loop, folder, seed=0).run()
    found = validations(folder / "metrics.jsonl")
    return [(step, figures["error"]) for step, figures in sorted(found.items())]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=pathlib.Path, default=pathlib.Path("runs/episodes"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/convert_norm"))
    parser.add_argument("--steps", type=int, default=1600, help="of the model with clip statistics")
    parser.add_argument("--finetune-steps", type=int, default=300)
    parser.add_argument("--windows", type=int, default=64)
    args = parser.parse_args()

    settings = {"steps": args.steps, "finetune_steps": args.finetune_steps}
    known = args.out / "settings.json"
    if known.is_file() and json.loads(known.read_text()) != settings:
        parser.error(f"{args.out} was begun with {known.read_text()}; choose another --out")
    write_text(known, json.dumps(settings))
    network = WorldModel.from_pretrained(default_checkpoint())
    config = AblationConfig().world_model(network.config)
    clip_config = dataclasses.replace(
        config, unet=dataclasses.replace(config.unet, norm_scope="clip")
    )
    train = encode_episodes(
        network, args.episodes / "train", args.out / "latents/train.safetensors"
    )
    val = encode_episodes(network, args.episodes / "val", args.out / "latents/val.safetensors")
    windows = Windows.evenly_spaced(val, val.window_starts(config.num_frames), args.windows, config)
    data = {
        "train": train, "starts": train.window_starts(config.num_frames), "batch_size": 8,
        "held_out": windows,
    }  # fmt: skip
    model = WorldModel.build(clip_config, seed=0)
    model.autoencoder.load_state_dict(network.autoencoder.state_dict())
    trained(model, args.out / "clip", args.steps, max(args.steps // 4, 1), data)
    converted = WorldModel(strictly_causal(model.config)).eval()
    converted.load_state_dict(model.state_dict())
    result: dict[str, Any] = {
        **settings,
        "num_windows": args.windows,
        "error_clip": last_frame_error(model, windows),
        "error_converted": last_frame_error(converted, windows),
        "error_copy": float((windows.latents[:, -1] - windows.latents[:, -2]).square().mean()),
        "output_change": output_change(model, converted, windows),
        "leakage_clip": leakage(model, windows),
        "leakage_converted": leakage(converted, windows),
    }
    every = max(args.finetune_steps // 6, 1)
    for name, start in (("converted", converted), ("clip", model)):
        folder = args.out / f"{name}_finetuned"
        result[f"curve_{name}"] = trained(start, folder, args.finetune_steps, every, data)
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    for name, value in result.items():
        print(f"{name:18} {value:.4f}" if isinstance(value, float) else f"{name:18} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
