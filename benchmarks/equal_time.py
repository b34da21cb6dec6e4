"""World models trained for the same processor time: what does each change give in the same minutes?

    v2w collect runs/episodes/train --episodes 100
    v2w collect runs/episodes/val --episodes 12 --seed 2
    python benchmarks/equal_time.py --json benchmarks/results/equal_time.json
    python benchmarks/equal_time.py --json benchmarks/results/equal_time.json --show

Every arm is a process of its own with one thread, the same seed, the autoencoder of a checkpoint
(encoding is not counted) and --seconds of processor time for training steps. Arms that the file
already has are left out, so that the same command goes on after an interruption. All figures are
of held-out windows.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.dataset import Clips, draw_windows, load_clips
from training.ema import EMA
from training.muon import MuonAdamW
from training.tasks import EncodedClips, WorldModelTask, measured_actions
from v2w_core.checkpoint import default_checkpoint
from v2w_core.config import WorldModelConfig
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.metrics.image import psnr
from v2w_core.models.motion_head import MOTION_CHANNELS
from v2w_core.models.warped_previous import ConditionConfig, WarpedPrevious
from v2w_core.world_model import WorldModel

FOV_RAD = (1.5708, 1.2870)  # of the simulator's camera
WARM_UP_STEPS, COOL_DOWN, EMA_DECAY, LEARNING_RATE = 20, 0.3, 0.98, 1e-3
BATCH_SIZE, SEED = 16, 0


@dataclass(frozen=True)
class Arm:
    """What differs from the default model and its training.

    Attributes:
        planes: of the condition; None: no condition.
        moved: False: the frame before is given as it is, whatever the action.
        objective, unet: fields that differ.
    """

    planes: tuple[float | None, ...] | None = None
    moved: bool = True
    motion_head: bool = False
    objective: Mapping[str, Any] = field(default_factory=dict)
    unet: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = LEARNING_RATE
    muon: bool = False


INFINITE, THREE = (None,), (None, 1.0, 3.0)
DEEP = {"imagined_past_probability": 0.5, "imagined_past_after": 2 / 3, "self_rollout_depth": 6}
ARMS = {
    "base": Arm(),
    "frame before, unmoved": Arm(INFINITE, moved=False),
    "turned": Arm(INFINITE),
    "planes inf, 1, 3 m": Arm(THREE),
    "planes inf, 2 m": Arm((None, 2.0)),
    "planes inf, 0.7, 1.5, 3 m": Arm((None, 0.7, 1.5, 3.0)),
    "planes and motion head": Arm(THREE, motion_head=True),
    "imagined pasts, 1 deep": Arm(
        THREE, motion_head=True, objective={**DEEP, "self_rollout_depth": 1}
    ),
    "self-rollouts, 6 deep": Arm(THREE, motion_head=True, objective=DEEP),
    "self-rollouts, gradient through 1": Arm(
        THREE, motion_head=True, objective={**DEEP, "self_rollout_gradient_passes": 1}
    ),
    "self-rollouts, gradient through 2": Arm(
        THREE, motion_head=True, objective={**DEEP, "self_rollout_gradient_passes": 2}
    ),
    **{
        f"planes and motion head, Muon at {rate:g}": Arm(
            THREE, motion_head=True, muon=True, learning_rate=rate
        )
        for rate in (1e-3, 2e-3, 4e-3)
    },
    "planes and motion head, AdamW at 2e-3": Arm(THREE, motion_head=True, learning_rate=2e-3),
}


class Unmoved:
    """The condition of a robot that stands still."""

    def __init__(self, moved: WarpedPrevious, still: Tensor) -> None:
        self._moved, self._still = moved, still

    def __call__(self, before: Tensor, actions: Tensor) -> Tensor:
        return self._moved(before, self._still.expand_as(actions))


def main() -> int:
    """Runs the arms that are missing, or shows the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--train", type=Path, default=Path("runs/episodes/train"), metavar="DIR")
    add("--val", type=Path, default=Path("runs/episodes/val"), metavar="DIR")
    add("--checkpoint", type=Path, metavar="DIR", help="whose autoencoder it is")
    add("--seconds", type=float, default=150.0, help="processor time of each (default 150)")
    add("--windows", type=int, default=64, help="held-out windows (default 64)")
    add("--arms", nargs="*", default=list(ARMS), metavar="NAME", help="some of the arms")
    add("--json", type=Path, required=True, metavar="FILE", help="results, also of earlier runs")
    add("--show", action="store_true", help="print the table only")
    add("--arm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.arms) - set(ARMS):
        parser.error(f"--arms: {sorted(unknown)}, not some of {list(ARMS)}")
    if args.arm:
        save(args.json, args.arm, measured(args, ARMS[args.arm]))
        return 0
    if not args.show:
        for name in args.arms:
            if name not in loaded(args.json):
                command = [sys.executable, __file__, *sys.argv[1:], "--arm", name]
                subprocess.run(command, check=True)
    print(table(loaded(args.json)))
    return 0


def loaded(path: Path) -> dict[str, dict[str, float]]:
    """Results by arm."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(path: Path, name: str, figures: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**loaded(path), name: figures}, indent=1) + "\n")


def config_of(base: WorldModelConfig, arm: Arm) -> WorldModelConfig:
    """The base's configuration with what the arm changes."""
    latents = base.autoencoder.latent_channels
    condition = None if arm.planes is None else ConditionConfig(planes=arm.planes)
    beside = 0 if condition is None else condition.num_channels(latents)
    unet = replace(
        base.unet, in_channels=latents + beside, condition_channels=beside,
        out_channels=latents + MOTION_CHANNELS * arm.motion_head, **arm.unet,
    )  # fmt: skip
    return replace(
        base, unet=unet, condition=condition, motion_head=arm.motion_head, goal_distance=None,
        observation=replace(base.observation, fov_rad=FOV_RAD),
    )  # fmt: skip


def measured(args: argparse.Namespace, arm: Arm) -> dict[str, float]:
    """Trains the arm and judges it."""
    torch.set_num_threads(1)
    base = WorldModel.from_pretrained(args.checkpoint or default_checkpoint())
    model = WorldModel.build(config_of(base.config, arm), SEED)
    model.autoencoder.load_state_dict(base.autoencoder.state_dict())
    if not arm.moved:
        assert model.condition is not None
        still = model.tensor(model.config.action.normalise(np.zeros(model.config.action.dim)))
        model.condition = Unmoved(model.condition, still)  # type: ignore[assignment]
    observation = model.config.observation
    train, val = (load_clips(folder, observation) for folder in (args.train, args.val))
    objective = ObjectiveConfig(**{"forced_probability": 1.0, **arm.objective})
    task = WorldModelTask(model, train, val, BATCH_SIZE, objective, encoded(args, model, train))
    trained = optimised(task, arm, args.seconds)
    model.eval()
    return {**trained, **judged(model, val, args.windows)}


def encoded(args: argparse.Namespace, model: WorldModel, clips: Clips) -> EncodedClips:
    """Latents, kept in a file beside the results for the arms to come."""
    found = EncodedClips(model, clips)
    file = args.json.with_suffix(".latents.pt")
    if file.exists():
        found.latents = torch.load(file, weights_only=True)
    if not file.exists() or len(found.latents) != len(clips.frames):
        found = EncodedClips(model, clips)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(found.latents, file)
    return found


def optimised(task: WorldModelTask, arm: Arm, seconds: float) -> dict[str, float]:
    """Trains for so much processor time; the network has its averaged weights afterwards."""
    network, step, spent = task.module, 0, 0.0
    ema = EMA(network, EMA_DECAY)
    settings = {"lr": arm.learning_rate, "betas": (0.9, 0.99), "weight_decay": 0.01}
    optimizer: torch.optim.Optimizer
    if arm.muon:
        optimizer = MuonAdamW(network, **settings)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), **settings)
    network.train()
    while spent < seconds:
        began = time.process_time()
        progress = spent / seconds
        rate = min(1.0, (step + 1) / WARM_UP_STEPS, (1 - progress) / COOL_DOWN)
        for group in optimizer.param_groups:
            group["lr"] = rate * arm.learning_rate
        optimizer.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        loss, _ = task.loss(generator, progress)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        ema.update(network, step)
        spent += time.process_time() - began
    ema.swap(network)
    return {"steps": step, "seconds": spent}


@torch.inference_mode()
def judged(model: WorldModel, val: Clips, num_windows: int) -> dict[str, float]:
    """PSNR by step under the recorded and another window's actions; error of the motion head, in
    all steps, and whether it knows of contacts by how far the motion stays behind the command."""
    window, history = model.config.num_frames, model.config.num_history
    starts = val.window_starts(window)
    index = draw_windows(starts, num_windows, window, torch.Generator().manual_seed(1)).numpy()
    recorded, other, motion, short, contact = [], [], [], [], []
    followed = measured_actions(val)
    for row, another in zip(index, np.roll(index, num_windows // 2, axis=0), strict=True):
        frames, actions = val.frames[row], val.actions[row]
        session = model.start(frames[:history], actions[: history - 1])
        ahead = np.stack([actions[history - 1 : -1], val.actions[another][history - 1 : -1]])
        rollouts = session.imagine(ahead, bounds=False)
        imagined, truth = rollouts.frames(), frames[history:]
        recorded.append(psnr(imagined[0], truth))
        other.append(psnr(imagined[1], truth))
        motion.append(rollouts.motion[0] - followed[row][history - 1 : -1])
        short.append(np.hypot(*(rollouts.motion[0] - ahead[0])[:, :2].T))
        if val.contact is not None:
            contact.append(val.contact[row][history - 1 : -1])
    per_step = np.mean(recorded, axis=0)
    off = np.array(motion)
    return {
        "psnr_step_1": float(per_step[0]),
        "psnr": float(np.mean(recorded)),
        "psnr_std_error": float(np.std(np.mean(recorded, axis=1)) / num_windows**0.5),
        "psnr_step_8": float(per_step[-1]),
        "psnr_other_actions": float(np.mean(other)),
        "motion_m": float(np.hypot(off[..., 0], off[..., 1]).mean()),
        "motion_rad": float(np.abs(off[..., 2]).mean()),
        "contact_auroc": auroc(np.ravel(short), np.ravel(contact)) if contact else math.nan,
    }


def auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """How often a positive has a higher score than a negative; ties count half."""
    above, below = scores[positive], scores[~positive]
    if not len(above) or not len(below):
        return math.nan
    differences = above[:, None] - below[None, :]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown of all results, in the order of the arms."""
    rows = [
        "| arm | steps | 1 step | mean of 8 | step 8 | other actions | motion error | contact |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [*ARMS, *sorted(set(results) - set(ARMS))]:
        if name in results:
            r = results[name]
            rows.append(
                f"| {name} | {r['steps']:.0f} | {r['psnr_step_1']:.2f} | {r['psnr']:.2f} +- "
                f"{r['psnr_std_error']:.2f} | {r['psnr_step_8']:.2f} | "
                f"{r['psnr_other_actions']:.2f} | {100 * r['motion_m']:.1f} cm, "
                f"{np.degrees(r['motion_rad']):.2f} deg | {r['contact_auroc']:.2f} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
