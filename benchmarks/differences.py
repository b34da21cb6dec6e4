"""How much each quirk of the released code changes what comes out.

On the small random-weight U-Net of the recordings (V2W_PARITY_DIR, default ../shared/parity): the
figures show that an option acts, not its size in a trained model. Each line is the root mean
square of the change over the root mean square of the output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from v2w_core.diffusion.compat import RELEASED, WindowSampler, frame_tokens
from v2w_core.diffusion.schedule import DiffusionConfig, NoiseSchedule
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.unet import UNet
from v2w_core.transfer.reference_names import unet_name
from v2w_core.transfer.released import unet_config
from v2w_core.transfer.weight_transfer import transfer_weights

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Case:
    """The recorded sampling case with a model that can be changed."""

    def __init__(self, folder: pathlib.Path) -> None:
        base = load_file(folder / "unet_small_base_weights.safetensors")
        tensors = load_file(folder / "sampler_small.safetensors")
        self.settings = json.loads((folder / "sampler_small.json").read_text())
        self.config = unet_config(self.settings["config_unet"])
        ours = {unet_name(k): v for k, v in base.items()}
        self.added = {
            unet_name(k.removeprefix("weight.")): v
            for k, v in tensors.items()
            if k.startswith("weight.")
        }
        self.base = ours
        self.at = {k.removeprefix("in."): v for k, v in tensors.items() if k.startswith("in.")}

    def unet(self, *, height_too: bool = True, **changes: Any) -> UNet:
        config = dataclasses.replace(self.config, **changes)
        unet = UNet(config).eval()
        weights = transfer_weights(self.base, "extrapolative", height_too=height_too)
        unet.load_state_dict({**weights, **self.added})
        return unet

    def sample(self, unet: UNet, **options: Any) -> Tensor:
        """Frames [B, T, C, h, w] that the released code would sample, with other options."""
        compat = dataclasses.replace(
            RELEASED, **{k: v for k, v in options.items() if k in vars(RELEASED)}
        )
        rest = {k: v for k, v in options.items() if k not in vars(RELEASED)}
        run = self.settings["runs"]["ar_eta0_cfg"]
        sampler = WindowSampler(
            NoiseSchedule(DiffusionConfig(base_scale=0.7)),
            num_steps=self.settings["sampling"]["steps"], eta=0.0,
            guidance_scale=run["scale"], guidance_rescale=run["resc"], compat=compat, **rest,
        )  # fmt: skip
        drawn: Counter[tuple[int, ...]] = Counter()

        def noise(shape: Sequence[int]) -> Tensor:
            """The same for the n-th draw of a shape, whatever else is drawn."""
            drawn[tuple(shape)] += 1
            generator = torch.Generator().manual_seed(hash((*shape, drawn[tuple(shape)])))
            return torch.randn(tuple(shape), generator=generator)

        def denoise(x: Tensor, level: Tensor, *, guided: bool) -> Tensor:
            num_frames = x.shape[1]
            mask = torch.ones(x.shape[:2])
            mask[:, 0] = float(compat.zero_first_action)
            if not guided:
                mask[:, -1] = 0
            tokens = frame_tokens(self.at["ctx" if guided else "uctx"], num_frames, compat)
            concat = self.at["concat"].transpose(1, 2)[:, :num_frames]
            actions = shift_actions(self.at["action"])[:, :num_frames]
            stride = torch.full((len(x),), 3)
            v, _ = unet(torch.cat([x, concat], 2), level, actions, mask, context=tokens,
                        frame_stride=stride)  # fmt: skip
            return v

        history = self.at["z"].transpose(1, 2)[:, : self.settings["sampling"]["cond_frame"]]
        return sampler.autoregressive(
            denoise, history, self.settings["sampling"]["T"], noise
        )[:, history.shape[1] :]  # fmt: skip


def change(new: Tensor, old: Tensor) -> float:
    return float((new - old).square().mean().sqrt() / old.square().mean().sqrt())


def leakage(case: Case, unet: UNet) -> float:
    """How far frames 0..3 move when only frames 4..7 change."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, case.config.in_channels, 8, 16, generator=generator)
    other = x.clone()
    other[:, 4:] = torch.randn(other[:, 4:].shape, generator=generator)
    level = torch.full((1, 8), 500)
    actions, mask = torch.zeros(1, 8, 13), torch.ones(1, 8)
    tokens = frame_tokens(case.at["ctx"][:1], 8, RELEASED)
    before, _ = unet(x, level, actions, mask, context=tokens)
    after, _ = unet(other, level, actions, mask, context=tokens)
    return change(after[:, :4], before[:, :4])


@torch.inference_mode()
def measure(folder: pathlib.Path) -> dict[str, float]:
    case = Case(folder)
    unet = case.unet()
    released = case.sample(unet)
    single = dataclasses.asdict(RELEASED)
    results = {
        f"compat.{name}": change(case.sample(unet, **{name: not value}), released)
        for name, value in single.items()
        if name != "history_at_second_level"
    }
    held = case.sample(unet, history_at_second_level=False, history_level=20)
    results["compat.history_at_second_level (here 499, against 20)"] = change(held, released)
    plain = case.unet(height_too=False, height_causal_out=False)
    results["unet.height_causal_out"] = change(case.sample(plain), released)
    frames = case.unet(norm_scope="frame")
    results["unet.norm_scope frame, before fine-tuning"] = change(case.sample(frames), released)
    results["leakage with clip statistics"] = leakage(case, unet)
    results["leakage with frame statistics"] = leakage(case, frames)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    folder = pathlib.Path(os.environ.get("V2W_PARITY_DIR", ROOT.parent / "shared" / "parity"))
    if not (folder / "sampler_small.json").is_file():
        print(f"no recordings in {folder}; set V2W_PARITY_DIR", file=sys.stderr)
        return 2
    results = measure(folder)
    for name, value in results.items():
        print(f"{value:9.4f}  {name}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
