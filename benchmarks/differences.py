"""How much each quirk of the released code changes what comes out.

On the small random-weight U-Net of the recordings (V2W_PARITY_DIR, default ../shared/parity): the
figures show that an option acts, not its size in a trained model. Each line is the root mean
square of the change over the root mean square of the output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from recordings import RecordedDenoiser, Recordings, SamplingCase, default_folder
from v2w_core.diffusion.compat import RELEASED, CompatConfig
from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.diffusion.window_sampler import WindowSampler
from v2w_core.models.image_context.image_context import frame_tokens
from v2w_core.models.unet import UNet


class Case(SamplingCase):
    """The recorded conditions, sampled with other options and noise of our own."""

    def sampler(self, compat: CompatConfig, **changes: int) -> WindowSampler:
        """As in the recorded guided run without added noise."""
        run = next(r for r in self.runs.values() if r.get("ar") and not r["eta"])
        values = {"num_steps": self.settings["steps"], "guidance_scale": run["scale"], **changes}
        schedule = NoiseSchedule(self.recorded.diffusion())
        return WindowSampler(
            schedule, eta=0.0, guidance_rescale=run["resc"], compat=compat, **values
        )

    def sample(self, unet: UNet, compat: CompatConfig = RELEASED, **changes: int) -> Tensor:
        """The frames after the history [B, T, C, h, w]."""
        denoise = RecordedDenoiser(self, unet, compat)
        sampler, length = self.sampler(compat, **changes), self.settings["T"]
        frames = sampler.autoregressive(denoise, self.history, length, repeated_noise())
        return frames[:, self.history.shape[1] :]

    def sample_together(self, unet: UNet, *, random_mask: bool) -> Tensor:
        """All frames at once; the unguided pass knows some actions, as there, or none."""

        class Denoiser(RecordedDenoiser):
            def together_mask(self) -> Tensor:
                drawn = torch.rand(self.case.settings["T"], generator=torch.Generator())
                return (drawn < 0.8).float() if random_mask else torch.zeros_like(drawn)

        shape = self.at["z"].transpose(1, 2).shape
        denoise = Denoiser(self, unet, RELEASED, together=True)
        return self.sampler(RELEASED).together(denoise, shape, repeated_noise())


def repeated_noise():  # type: ignore[no-untyped-def]
    """The same for the n-th draw of a shape, whatever else is drawn."""
    drawn: Counter[tuple[int, ...]] = Counter()

    def noise(shape: Sequence[int]) -> Tensor:
        drawn[tuple(shape)] += 1
        generator = torch.Generator().manual_seed(hash((*shape, drawn[tuple(shape)])))
        return torch.randn(tuple(shape), generator=generator)

    return noise


def change(new: Tensor, old: Tensor) -> float:
    return float((new - old).square().mean().sqrt() / old.square().mean().sqrt())


def leakage(case: Case, unet: UNet) -> float:
    """How far frames 0..3 move when only frames 4..7 change."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, case.config.in_channels, 8, 16, generator=generator)
    other = x.clone()
    other[:, 4:] = torch.randn(other[:, 4:].shape, generator=generator)
    level = torch.full((1, 8), 500)
    actions, mask = torch.zeros(1, 8, case.config.action_dim or 0), torch.ones(1, 8)
    tokens = frame_tokens(case.at["ctx"][:1], 8, by_length=RELEASED.tokens_by_length)
    before, _ = unet(x, level, actions, mask, context=tokens)
    after, _ = unet(other, level, actions, mask, context=tokens)
    return change(after[:, :4], before[:, :4])


@torch.inference_mode()
def measure(recorded: Recordings) -> dict[str, float]:
    case = Case(recorded)
    unet = case.unet()
    released = case.sample(unet)
    quirks = dataclasses.asdict(RELEASED)
    results = {
        f"compat.{name}": change(
            case.sample(unet, dataclasses.replace(RELEASED, **{name: not value})), released
        )
        for name, value in quirks.items()
        if name != "history_at_second_level"
    }
    at_level = dataclasses.replace(RELEASED, history_at_second_level=False)
    levels = [case.sample(unet, at_level, num_steps=50, history_level=n) for n in (20, 39)]
    results["compat.history_at_second_level (39 against 20, 50 steps)"] = change(*levels)
    together = [case.sample_together(unet, random_mask=flag) for flag in (False, True)]
    results["random mask when all frames are sampled at once"] = change(*together)
    case.settings["fs"] = 16
    results["frame stride 16 instead of 3"] = change(case.sample(unet), released)
    case.settings["fs"] = 3
    half = case.unet()
    for parameter in half.parameters():
        parameter.copy_(parameter.half().float())
    results["weights stored as float16"] = change(case.sample(half), released)
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
    recorded = Recordings(default_folder())
    if not recorded.has("sampler_small"):
        print(f"no recordings in {recorded.folder}; set V2W_PARITY_DIR", file=sys.stderr)
        return 2
    results = measure(recorded)
    for name, value in results.items():
        print(f"{value:9.4f}  {name}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
