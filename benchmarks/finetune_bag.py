"""Fine-tune on the first frames of a bag; is the prediction of its last frames better?

    python benchmarks/finetune_bag.py ../shared/data/kitti_bag_mcap/bag --rate-hz 10 --split-s 3.45

Converts both parts of the bag to episodes, measures the shipped model on the last part as it is,
fine-tunes it on the first part (`v2w train init_from=...`), measures again, and writes
benchmarks/results/finetune_bag.json. PSNR in dB, 4 frames given, mean over the steps ahead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys

from training.dataset import load_clips
from training.tasks import WorldModelTask
from v2w_core.checkpoint import default_checkpoint
from v2w_core.cli import main as v2w
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.world_model import WorldModel

RESULT = pathlib.Path(__file__).parent / "results" / "finetune_bag.json"


def measure(model: WorldModel, held_out: pathlib.Path) -> dict[str, float]:
    """PSNR on all windows of the held-out episode, recorded and copied."""
    clips = load_clips(held_out, model.config.observation)
    task = WorldModelTask(model, clips, clips, 1, ObjectiveConfig())
    return task.validate(num_windows=len(task.val_starts))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bag")
    parser.add_argument("--rate-hz", default="10")
    parser.add_argument("--split-s", default="3.45", help="seconds after the bag's first image")
    parser.add_argument("--checkpoint", default=None)
    parser.add_argument("--steps", default="300", help="of the autoencoder and of the world model")
    parser.add_argument("--out", default="runs/finetune_bag")
    args = parser.parse_args()
    out, checkpoint = pathlib.Path(args.out), args.checkpoint or str(default_checkpoint())

    model = WorldModel.from_pretrained(checkpoint)
    rate = ["--rate-hz", args.rate_hz, "--image-size", "120x160", "--overwrite"]
    parts = {"head": ["--end-s", args.split_s], "tail": ["--start-s", args.split_s]}
    for name, limits in parts.items():
        if v2w(["convert", args.bag, str(out / name), *rate, *limits]) != 0:
            return 1
    action = dataclasses.replace(model.config.action, rate_hz=float(args.rate_hz))
    model.config = dataclasses.replace(model.config, action=action)
    before = measure(model, out / "tail")
    code = v2w(
        [
            "train",
            f"init_from={checkpoint}",
            "action_scale=data",  # another robot, of other speeds
            f"out={out / 'tuned'}",
            f"data.train={out / 'head'}",
            f"data.val={out / 'tail'}",
            "stages=[autoencoder,world_model]",
            f"autoencoder_loop.num_steps={args.steps}",
            "autoencoder_loop.learning_rate=5e-4",
            f"world_model_loop.num_steps={args.steps}",
            "world_model_loop.learning_rate=3e-4",
            "world_model_loop.warmup_steps=30",
        ]
    )
    if code != 0:
        return code
    after = measure(WorldModel.from_pretrained(out / "tuned" / "checkpoint"), out / "tail")
    result = {"before": before, "after": after, "steps": int(args.steps)}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    better = after["psnr"] > before["psnr"]
    print("fine-tuning helped" if better else "fine-tuning did not help")
    return 0 if better else 1


if __name__ == "__main__":
    sys.exit(main())
