"""``v2w evaluate prediction``: prediction error on held-out episodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.evaluation.prediction_scores import SCORES, Case, Prediction, summary
from training.evaluation.recorded import episode_actions
from training.evaluation.world_sets import (
    add_world_arguments,
    check_world_arguments,
    require_worlds,
    set_episodes,
)
from v2w_core.errors import V2WError
from v2w_core.progress import progress

if TYPE_CHECKING:
    from v2w_core.data.episode import Episode
    from v2w_core.data.windows import Window
    from v2w_core.spec import ActionSpec
    from v2w_core.world_model import WorldModel

HELP = "frames ahead on held-out episodes, in dB beside simple guesses"
DESCRIPTION = """\
Gives the model the first frames of windows of held-out episodes and lets it imagine the next ones.

  recorded     imagined under the recorded actions
  copy         the last given frame repeated
  other        imagined from the same frames under another episode's actions

A model that knows what actions do is well above both. Of a model that predicts its motion, also how
far that is from odometry one step ahead, and how well it knows that a wall will block the robot.
Episodes of simulated worlds that are missing are collected in runs/KIND/SET.
"""
EPILOG = """\
examples:
  v2w evaluate prediction --worlds unseen --json runs/prediction_unseen.json
  v2w evaluate prediction --world rooms --worlds seen
  v2w evaluate prediction --episodes my_episodes --checkpoint runs/train/mine/checkpoint
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w evaluate prediction``."""
    from v2w_core.commands.arguments import add_sampling_arguments

    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add_world_arguments(parser)
    add("--episodes", type=Path, metavar="DIR",
        help="other episodes than those of a simulated set of worlds; with --worlds, too, they "
        "must be of its worlds")  # fmt: skip
    add("--windows", type=int, default=256, help="number of windows (default: %(default)s)")
    add("--horizon", type=int, default=8, help="steps ahead (default: %(default)s)")
    add_sampling_arguments(parser)
    add("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    add("--out", type=Path, default=Path("runs/evaluate_prediction"),
        help="folder for the picture (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Runs the rollouts, prints a table, writes JSON and a picture.

    Raises:
        V2WError: invalid input.
    """
    from training.evaluation.prediction_report import picture, print_table
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.commands.arguments import check_sampling_arguments
    from v2w_core.files import shown_path, write_text
    from v2w_core.media.pictures import write_png
    from v2w_core.world_model import WorldModel

    check_world_arguments(args)
    check_sampling_arguments(args)
    if args.windows < 1:
        raise V2WError("--windows", "at least 1", args.windows)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    longest = model.config.num_frames - model.config.num_history
    if not 1 <= args.horizon <= longest:
        rule = f"from 1 to {longest}, the model's trained window"
        raise V2WError("--horizon", rule, args.horizon)
    folder = args.episodes or set_episodes(args.world, args.worlds or "seen")
    episodes = read_episodes(folder, model.config.action)
    if args.worlds is not None:
        require_worlds(episodes, args.world, args.worlds)
    windows, others = draw_windows(
        episodes, args.windows, model.config.num_history, args.horizon, args.seed
    )
    predictions: list[Prediction] = []
    cases = read_cases(model, episodes, windows, others)
    bar = progress(cases, total=len(windows), desc="predict", unit="window")
    for case in bar:
        predictions.append(predict(model, case, args))
        means = [np.mean([getattr(p, name) for p in predictions]) for name in SCORES]
        bar.note("recorded {:.2f} copy {:.2f} other {:.2f} dB".format(*means))
    result = {
        "checkpoint": shown_path(checkpoint), "episodes": shown_path(folder),
        "world": args.world, "worlds": args.worlds or (None if args.episodes else "seen"),
        "num_episodes": len(episodes), "num_sampling_steps": args.num_sampling_steps,
        "guidance_scale": args.guidance_scale, "seed": args.seed, "device": str(model.device),
        "backend": model.backend.name, "precision": args.precision,
    } | summary(predictions)  # fmt: skip
    print_table(result)
    path = write_png(args.out / "prediction.png", picture(predictions))
    print(f"wrote {path}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def read_episodes(folder: Path, spec: ActionSpec) -> list[Episode]:
    """The folder's episodes.

    Raises:
        V2WError: there are fewer than two, their action space is not ``spec``, or only some have
            commands.
    """
    from v2w_core.data.episode import list_episodes, read_episode, require_commands_alike

    episodes = [read_episode(path) for path in list_episodes(folder)]
    if len(episodes) < 2:
        rule = "at least two episodes (.h5): the actions of one are tried on another"
        raise V2WError("--episodes", rule, f"{len(episodes)} in {folder}")
    for episode in episodes:
        spec.require_same(episode.action_spec, field=f"{episode.path.name}: action_spec")
    require_commands_alike(episodes)
    return episodes


def draw_windows(
    episodes: Sequence[Episode], num_windows: int, num_history: int, horizon: int, seed: int
) -> tuple[list[Window], list[Window]]:
    """Random windows, and for each a window of another episode; deterministic for a seed."""
    from v2w_core.data.windows import WindowIndex

    index = WindowIndex([len(episode) for episode in episodes], num_history + horizon)
    order = index.shuffled(seed)
    windows = [index[int(i)] for i in order[:num_windows]]
    rng = np.random.default_rng(seed + 1)
    if len({window.episode for window in index}) < 2:
        rule = f"two episodes of at least {index.window} frames"
        raise V2WError("--episodes", rule, "one")
    others = []
    for window in windows:
        other = window
        while other.episode == window.episode:
            other = index[int(rng.integers(len(index)))]
        others.append(other)
    return windows, others


def read_cases(
    model: WorldModel, episodes: Sequence[Episode], windows: Sequence[Window],
    others: Sequence[Window],
) -> Iterator[Case]:  # fmt: skip
    """Yields a decoded case for each window."""
    num_history = model.config.num_history
    all_actions = [episode_actions(model.config, episode) for episode in episodes]
    for window, other in zip(windows, others, strict=True):
        episode = episodes[window.episode]
        frames = model.preprocess(episode.frames(window.start, window.stop))
        actions = all_actions[window.episode][window.start : window.stop - 1]
        foreign = all_actions[other.episode][other.start : other.stop - 1]
        future = slice(window.start + num_history - 1, window.stop - 1)
        knows_motion = episode.has_commands and episode.motion is not None
        knows_contact = episode.has_commands and episode.contact is not None
        yield Case(
            name=f"{episode.path.stem}, frame {window.start + num_history - 1}",
            history=frames[:num_history],
            recorded=frames[num_history:],
            history_actions=actions[: num_history - 1],
            actions=actions[num_history - 1 :],
            other_actions=foreign[num_history - 1 :],
            motion=episode.motion[future] if knows_motion else None,
            contact=episode.contact[future] if knows_contact else None,
        )


def predict(model: WorldModel, case: Case, args: argparse.Namespace) -> Prediction:
    """Rolls out both action sequences from the shared history."""
    session = model.start(case.history, case.history_actions, seed=args.seed)
    candidates = np.stack([case.actions, case.other_actions])
    rollouts = session.imagine(
        candidates, num_sampling_steps=args.num_sampling_steps,
        guidance_scale=args.guidance_scale, seed=args.seed, bounds=False,
    )  # fmt: skip
    return Prediction.of(case, rollouts.frames(), rollouts if session.predicts_motion else None)
