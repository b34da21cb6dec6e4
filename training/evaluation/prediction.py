"""``v2w evaluate prediction``: prediction error on held-out episodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

A model that knows what actions do is well above both.
"""
SCORES = ("psnr", "psnr_copy", "psnr_other_actions")


@dataclass(frozen=True)
class Case:
    """A recorded window, with another episode's actions for comparison.

    Attributes:
        name: episode and frame, for captions.
        history: uint8 [num_history, h, w, 3] at the model's size.
        recorded: uint8 [horizon, h, w, 3], the frames after the history.
        history_actions: [num_history - 1, A].
        actions, other_actions: [horizon, A], recorded and from another episode.
    """

    name: str
    history: NDArray[np.uint8]
    recorded: NDArray[np.uint8]
    history_actions: NDArray[np.float32]
    actions: NDArray[np.float32]
    other_actions: NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """Rollouts of a case and their scores per step.

    Attributes:
        case: the window.
        imagined: uint8 [2, horizon, h, w, 3], under the recorded and under the other actions.
        psnr, ssim: [horizon], of the rollout under the recorded actions.
        psnr_copy: [horizon], of repeating the last history frame.
        psnr_other_actions: [horizon], of the rollout under the other actions.
    """

    case: Case
    imagined: NDArray[np.uint8]
    psnr: NDArray[np.float64]
    psnr_copy: NDArray[np.float64]
    psnr_other_actions: NDArray[np.float64]
    ssim: NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w evaluate prediction``."""
    from v2w_core.commands.arguments import add_sampling_arguments

    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--episodes", type=Path, metavar="DIR", default=Path("runs/episodes/val"),
        help="held-out episodes (default: %(default)s)")  # fmt: skip
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
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.commands.arguments import check_sampling_arguments
    from v2w_core.files import shown_path, write_text
    from v2w_core.media.pictures import write_png
    from v2w_core.world_model import WorldModel

    check_sampling_arguments(args)
    if args.windows < 1:
        raise V2WError("--windows", "at least 1", args.windows)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    longest = model.config.num_frames - model.config.num_history
    if not 1 <= args.horizon <= longest:
        rule = f"from 1 to {longest}, the model's trained window"
        raise V2WError("--horizon", rule, args.horizon)
    episodes = read_episodes(args.episodes, model.config.action)
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
        "checkpoint": shown_path(checkpoint), "episodes": shown_path(args.episodes),
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
    for window, other in zip(windows, others, strict=True):
        episode = episodes[window.episode]
        frames = model.preprocess(episode.frames(window.start, window.stop))
        actions = episode.actions[window.start : window.stop - 1]
        foreign = episodes[other.episode].actions[other.start : other.stop - 1]
        yield Case(
            f"{episode.path.stem}, frame {window.start + num_history - 1}",
            frames[:num_history], frames[num_history:], actions[: num_history - 1],
            actions[num_history - 1 :], foreign[num_history - 1 :],
        )  # fmt: skip


def predict(model: WorldModel, case: Case, args: argparse.Namespace) -> Prediction:
    """Rolls out both action sequences from the shared history."""
    from v2w_core.metrics.image import ssim
    from v2w_core.metrics.steps import psnr_copy, psnr_limited

    session = model.start(case.history, case.history_actions, seed=args.seed)
    candidates = np.stack([case.actions, case.other_actions])
    imagined = session.imagine(
        candidates, num_sampling_steps=args.num_sampling_steps,
        guidance_scale=args.guidance_scale, seed=args.seed, bounds=False,
    ).frames()  # fmt: skip
    return Prediction(
        case=case,
        imagined=imagined,
        psnr=psnr_limited(imagined[0], case.recorded),
        psnr_copy=psnr_copy(case.history[-1], case.recorded),
        psnr_other_actions=psnr_limited(imagined[1], case.recorded),
        ssim=ssim(imagined[0], case.recorded),
    )


def summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The results as JSON values: means over all windows, per step and in total."""
    result: dict[str, Any] = {
        "num_windows": len(predictions),
        "horizon": len(predictions[0].case.actions),
        "num_history": len(predictions[0].case.history),
    }
    for name in (*SCORES, "ssim"):
        table = np.stack([getattr(item, name) for item in predictions])
        result[name] = float(table.mean())
        result[f"{name}_per_step"] = table.mean(axis=0).tolist()
        spread = table.mean(axis=1).std(ddof=1) if len(table) > 1 else 0.0
        result[f"{name}_standard_error"] = float(spread / np.sqrt(len(table)))
    return result


def print_table(result: dict[str, Any]) -> None:
    """Prints the PSNR and SSIM per step ahead and their means."""
    print(f"{result['num_windows']} windows of {result['num_episodes']} episodes, "
          f"{result['num_history']} frames given; PSNR in dB")  # fmt: skip
    print(f"{'step':>6} {'recorded':>9} {'copy':>9} {'other':>9} {'SSIM':>7}")
    columns = (*SCORES, "ssim")
    for step in range(result["horizon"]):
        values = [result[f"{name}_per_step"][step] for name in columns]
        print("{:>6} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.3f}".format(step + 1, *values))
    print("{:>6} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.3f}".format(
        "mean", *(result[name] for name in columns)))  # fmt: skip
    print("{:>6} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.3f}".format(
        "+-", *(result[f"{name}_standard_error"] for name in columns)))  # fmt: skip
    above = result["psnr"] - result["psnr_copy"], result["psnr"] - result["psnr_other_actions"]
    print(f"recorded is {above[0]:+.2f} dB beside copy, {above[1]:+.2f} dB beside other")


def picture(predictions: Sequence[Prediction]) -> NDArray[np.uint8]:
    """A contact sheet of the best, the median and the worst window."""
    from v2w_core.media.pictures import contact_sheet
    from v2w_core.media.rollout_sheet import best_median_worst

    scores = [float(item.psnr.mean()) for item in predictions]
    rows, labels = [], []
    for name, index in best_median_worst(scores).items():
        item = predictions[index]
        rows += [
            np.concatenate([item.case.history, item.case.recorded]),
            np.concatenate([item.case.history, item.imagined[0]]),
            np.concatenate([item.case.history, item.imagined[1]]),
        ]
        other = item.psnr_other_actions.mean()
        given = len(item.case.history)
        labels += [
            f"{name} ({item.case.name}): {given} frames given, then recorded",
            f"imagined under the recorded actions: {item.psnr.mean():.1f} dB "
            f"(copy {item.psnr_copy.mean():.1f} dB)",
            f"imagined under another episode's actions: {other:.1f} dB",
        ]
    return contact_sheet(rows, labels)
