"""``v2w imagine``: a rollout from an episode under a given sequence of actions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from v2w_core.commands.arguments import add_sampling_arguments, check_sampling_arguments
from v2w_core.errors import V2WError

if TYPE_CHECKING:
    from v2w_core.data.episode import Episode
    from v2w_core.media.rollout_sheet import RolloutPicture
    from v2w_core.world_model import WorldModel

HELP = "let the model imagine what a sequence of actions leads to"
DESCRIPTION = """\
Gives the model a few frames of a recorded episode and a sequence of actions, and shows the frames
that it imagines: imagine.mp4 and the contact sheet imagine.png. With the recorded actions (the
default) the recorded frames are shown beside them, with the PSNR of every step.
"""
EPILOG = """\
examples:
  v2w imagine runs/episodes/val/EPISODE.h5                  what was recorded, and what is imagined
  v2w imagine EPISODE --start 20 --actions 0.4,0,0          always straight ahead
  v2w imagine EPISODE --actions 0.2,0,0.3 --steps 6         a left turn of 6 steps
  v2w imagine EPISODE --actions plan.json                   what v2w plan --json chose
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w imagine``."""
    add = parser.add_argument
    add("episode", type=Path, help="episode file (.h5)")
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--start", type=int, metavar="I", help="imagine from this frame (default: first possible)")
    add("--actions", default="recorded", metavar="A",
        help="recorded, zero, numbers with commas (one action, repeated), or a .npy, .csv or "
             ".json file [steps, A] (default: %(default)s)")  # fmt: skip
    add("--steps", type=int, metavar="N", help="frames to imagine (default: as many as possible)")
    add_sampling_arguments(parser)
    add("--out", type=Path, default=Path("runs/imagine"), help="folder (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the rollout, writes the files and prints a table. Raises V2WError for invalid input."""
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.data.episode import read_episode
    from v2w_core.files import write_text
    from v2w_core.media.pictures import write_png
    from v2w_core.media.video import write_video
    from v2w_core.world_model import WorldModel

    check_sampling_arguments(args)
    episode = read_episode(args.episode)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    spec = model.config.action
    spec.require_same(episode.action_spec, field=f"{args.episode.name}: action_spec")
    picture, result = imagine(model, episode, args)
    print_table(picture, result)
    sheet = picture.sheet()
    video = write_video(args.out / "imagine.mp4", picture.video_frames(), fps=spec.rate_hz)
    for path in (video, write_png(args.out / "imagine.png", sheet)):
        print(f"wrote {path}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def imagine(
    model: WorldModel, episode: Episode, args: argparse.Namespace
) -> tuple[RolloutPicture, dict[str, Any]]:
    """A rollout and its numbers. Raises V2WError for an invalid start, steps or actions."""
    from v2w_core.commands.action_arguments import parse_actions
    from v2w_core.media.rollout_sheet import RolloutPicture
    from v2w_core.metrics.steps import psnr_copy, psnr_limited

    spec, num_history = model.config.action, model.config.num_history
    longest = model.config.num_frames - num_history
    first = num_history - 1
    start = first if args.start is None else args.start
    if len(episode) < num_history:
        rule = f"an episode of at least {num_history} frames"
        raise V2WError(str(args.episode), rule, len(episode), code="HISTORY_UNAVAILABLE")
    if not first <= start < len(episode):
        raise V2WError("--start", f"from {first} to {len(episode) - 1}", start)
    if args.steps is not None and not 1 <= args.steps <= longest:
        raise V2WError("--steps", f"from 1 to {longest}, the model's trained window", args.steps)
    recorded = args.actions == "recorded"
    if recorded:
        available = len(episode) - 1 - start
        steps = min(longest, available) if args.steps is None else args.steps
        if not 1 <= steps <= available:
            rule = (
                f"at most the {available} recorded after frame {start}; "
                "start earlier or give other --actions"
            )
            raise V2WError("--steps", rule, max(steps, 1))
        actions = episode.actions[start : start + steps]
    else:
        actions = parse_actions(args.actions, spec, args.steps, longest)
        if len(actions) > longest:
            rule = f"at most {longest} steps, the model's trained window; cut them with --steps"
            raise V2WError("--actions", rule, f"{len(actions)} steps")
    history = model.preprocess(episode.frames(start - first, start + 1))
    past = episode.actions[start - first : start]
    session = model.start(history, past, seed=args.seed)
    rollouts = session.imagine(
        actions[None],
        num_sampling_steps=args.num_sampling_steps,
        guidance_scale=args.guidance_scale,
        seed=args.seed,
        bounds=not recorded,
    )
    imagined = rollouts.frames()[0]
    truth = score = copy = None
    if recorded:
        truth = model.preprocess(episode.frames(start + 1, start + 1 + len(actions)))
        score, copy = psnr_limited(imagined, truth), psnr_copy(history[-1], truth)
    result = {
        "episode": str(args.episode),
        "start": start,
        "actions": actions.tolist(),
        "psnr_per_step": None if score is None else score.tolist(),
        "psnr_copy_per_step": None if copy is None else copy.tolist(),
        "elapsed_s": rollouts.elapsed_s,
    }
    if spec.is_planar:
        spread = rollouts.pose_std[0].tolist() if session.predicts_motion else None
        result |= {"poses": rollouts.poses[0].tolist(), "pose_std": spread}
    picture = RolloutPicture(
        history, imagined, actions, past, spec, truth, score,
        title=f"{episode.path.stem}, frame {start}",
    )  # fmt: skip
    return picture, result


def print_table(picture: RolloutPicture, result: dict[str, Any]) -> None:
    """Prints step, action and (for recorded actions) PSNR of each imagined frame."""
    spec = picture.action_spec
    heads = [f"{n} {u}" for n, u in zip(spec.names, spec.units, strict=True)]
    truth = result["psnr_per_step"] is not None
    scores = f" {'PSNR dB':>9} {'copy dB':>9}" if truth else ""
    print(f"{'step':>5} " + " ".join(f"{head:>9}" for head in heads) + scores)
    for step, action in enumerate(result["actions"]):
        line = f"{step + 1:>5} " + " ".join(f"{value:>9.3f}" for value in action)
        if truth:
            line += f" {result['psnr_per_step'][step]:>9.2f}"
            line += f" {result['psnr_copy_per_step'][step]:>9.2f}"
        print(line)
    if truth:
        width = 5 + 10 * spec.dim
        means = (np.mean(result["psnr_per_step"]), np.mean(result["psnr_copy_per_step"]))
        print(f"{'mean':>{width}} {means[0]:>9.2f} {means[1]:>9.2f}")
        print("copy: the last given frame repeated")
