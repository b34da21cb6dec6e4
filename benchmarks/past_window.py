"""Past the trained window: a ring with sinks against recomputation, on held-out episodes.

    v2w collect runs/episodes/val --episodes 40 --steps 120 --seed 2
    python benchmarks/past_window.py

Imagines along recorded actions far past the window, and streams recorded frames past it and
imagines from there. "fresh" is the yardstick: for every frame, the newest frames that fit into the
window are encoded anew. Writes benchmarks/results/past_window.json and a picture in docs/images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_core.checkpoint import default_checkpoint
from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.data.windows import WindowIndex
from v2w_core.files import write_text
from v2w_core.metrics.steps import psnr_limited
from v2w_core.rollout.session import Session
from v2w_core.world_model import WorldModel

ROOT = Path(__file__).resolve().parents[1]
FRESH = "fresh"
WAYS: dict[str, dict[str, Any]] = {
    "recompute": {"past_window": "recompute"},
    **{f"ring, {n} sinks": {"past_window": "ring", "num_sinks": n} for n in (0, 1, 2, 4)},
}
EVERY = 4  # frames of a stream between two rollouts
Scores = dict[str, list[NDArray[np.float64]]]  # by part and way, one array a window


def main() -> None:
    """Prints a table, writes it as JSON and as a picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--episodes", type=Path, default=Path("runs/episodes/val"))
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--horizon", type=int, default=32, help="imagined steps past the history")
    parser.add_argument("--stream", type=int, default=40, help="frames appended to the history")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/past_window.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/past_window.png")
    args = parser.parse_args()
    model = WorldModel.from_pretrained(args.checkpoint or default_checkpoint())
    episodes = [read_episode(path) for path in list_episodes(args.episodes)]
    config = model.config
    inside = config.num_frames - config.num_history
    length = config.num_history + max(args.horizon, args.stream + inside)
    index = WindowIndex([len(episode) for episode in episodes], length)
    scores: Scores = defaultdict(list)
    for number in index.shuffled(args.seed)[: args.windows]:
        window = index[int(number)]
        episode = episodes[window.episode]
        frames = model.preprocess(episode.frames(window.start, window.stop))
        actions = episode.actions[window.start : window.stop - 1]
        for name, values in scored(model, frames, actions, args.horizon, args.stream).items():
            scores[name].append(values)
    num_windows = len(next(iter(scores.values())))
    result = {"num_windows": num_windows, "num_episodes": len(episodes), "seed": args.seed}
    result |= {name: np.mean(values, axis=0).tolist() for name, values in scores.items()}
    for part in ("imagined", "streamed"):
        for name in WAYS:
            result[f"{part}, {name}, minus fresh"] = _minus(
                scores[f"{part}, {name}"], scores[f"{part}, {FRESH}"]
            )
    show(result)
    write_text(args.json, json.dumps(result, indent=1) + "\n")
    picture(result, inside).savefig(args.picture, dpi=110)


def scored(
    model: WorldModel, frames: Any, actions: Any, horizon: int, stream: int
) -> dict[str, NDArray[np.float64]]:
    """PSNR in dB and difference from fresh windows of one recorded clip, by part and way.

    "imagined, WAY" is [horizon]; "streamed, WAY" is [rollouts, steps inside the window].
    """
    config, sampling = model.config, model.config.sampling
    imagined, streamed = {}, {}
    try:
        for name, changes in WAYS.items():
            changed = dataclasses.replace(sampling, **changes)
            model.config = dataclasses.replace(config, sampling=changed)
            imagined[name] = _imagine(model, frames, actions, horizon)
            streamed[name] = _stream(model, frames, actions, stream)
    finally:
        model.config = config
    imagined[FRESH] = _imagine_fresh(model, frames, actions, horizon)
    streamed[FRESH] = _stream_fresh(model, frames, actions, stream)
    found = {}
    known = config.num_history
    recorded = frames[known : known + horizon]
    ahead = _ahead(model, stream)
    later = np.stack([frames[at : at + ahead.step] for at in ahead.starts])
    for part, latents, truth in (("imagined", imagined, recorded), ("streamed", streamed, later)):
        for name, value in latents.items():
            found[f"{part}, {name}"] = psnr_limited(model.decode(value), truth)
            away = (value - latents[FRESH]).square().mean(dim=(-3, -2, -1)).sqrt()
            found[f"{part}, {name}, from fresh"] = away.double().numpy()
    return found


@dataclasses.dataclass(frozen=True)
class _Ahead:
    """NoisyFrames of a clip after which a stream imagines, and how many steps."""

    starts: tuple[int, ...]
    step: int


def _ahead(model: WorldModel, stream: int) -> _Ahead:
    known, window = model.config.num_history, model.config.num_frames
    return _Ahead(tuple(range(window, known + stream + 1, EVERY)), window - known)


def _imagine(model: WorldModel, frames: Any, actions: Any, horizon: int) -> Tensor:
    known = model.config.num_history
    session = model.start(frames[:known], actions[: known - 1])
    candidate = actions[None, known - 1 : known - 1 + horizon]
    return session.imagine(candidate, bounds=False).latents[0]


def _stream(model: WorldModel, frames: Any, actions: Any, stream: int) -> Tensor:
    known, ahead = model.config.num_history, _ahead(model, stream)
    session, found = model.start(frames[:known], actions[: known - 1]), []
    for at in range(known, max(ahead.starts) + 1):
        if at in ahead.starts:  # frames 0..at-1 were seen
            candidate = actions[None, at - 1 : at - 1 + ahead.step]
            found.append(session.imagine(candidate, bounds=False).latents[0])
        session.append(frames[at], actions[at - 1])
    return torch.stack(found)


class _Fresh(Session):
    """A session that imagines the frame after ``step`` others, with that frame's noise."""

    step = 0

    def _noise(self, num_frames: int, seed: int) -> Tensor:
        return super()._noise(num_frames + 2 * self.step, seed)[2 * self.step :]


def _fresh(model: WorldModel, latents: Tensor, actions: Any) -> _Fresh:
    """A session of as many of these frames as fit; actions[i] led from frame i to i + 1."""
    most = min(len(latents), model.config.num_frames - 1)
    told = model.tensor(model.config.action.normalise(actions[: len(latents) - 1]))
    return _Fresh(model, latents[-most:], told[len(told) - most + 1 :], 0)


def _roll_fresh(model: WorldModel, latents: Tensor, actions: Any, horizon: int) -> Tensor:
    """Imagined frame by frame, each from a window encoded anew; actions from the first frame."""
    num_seen = len(latents)
    for step in range(horizon):
        action = actions[None, len(latents) - 1 : len(latents)]
        session = _fresh(model, latents, actions)
        session.step = step
        frame = session.imagine(action, bounds=False).latents[0]
        latents = torch.cat([latents, frame])
    return latents[num_seen:]


def _imagine_fresh(model: WorldModel, frames: Any, actions: Any, horizon: int) -> Tensor:
    return _roll_fresh(model, model.encode(frames[: model.config.num_history]), actions, horizon)


def _stream_fresh(model: WorldModel, frames: Any, actions: Any, stream: int) -> Tensor:
    ahead, latents = _ahead(model, stream), model.encode(frames)
    return torch.stack(
        [_roll_fresh(model, latents[:at], actions, ahead.step) for at in ahead.starts]
    )


def _minus(
    values: list[NDArray[np.float64]], others: list[NDArray[np.float64]]
) -> tuple[float, float]:
    """Mean difference window by window, and its standard error."""
    away = [float((a - b).mean()) for a, b in zip(values, others, strict=True)]
    spread = np.std(away, ddof=1) / np.sqrt(len(away)) if len(away) > 1 else 0.0
    return float(np.mean(away)), float(spread)


def show(result: dict[str, Any]) -> None:
    """Means over parts of the horizon, and over early and late rollouts of a stream."""
    for part in ("imagined", "streamed"):
        rows = {name: np.array(result[f"{part}, {name}"]) for name in (FRESH, *WAYS)}
        cut = len(rows[FRESH]) // 2
        away = {name: np.array(result[f"{part}, {name}, from fresh"]) for name in rows}
        print(f"{part}: PSNR dB of the first half, of the second; difference of latents "
              "from fresh, same; dB over fresh (standard error)")  # fmt: skip
        for name, psnr in rows.items():
            psnrs = f"{psnr[:cut].mean():6.2f} {psnr[cut:].mean():6.2f}"
            print(
                f"{name:>14} {psnrs} {away[name][:cut].mean():8.3f} {away[name][cut:].mean():.3f}"
            )


def picture(result: dict[str, Any], inside: int) -> Any:
    """PSNR by imagined step, and by the age of a stream."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in (FRESH, *WAYS):
        style = {"color": "black", "linestyle": "--"} if name == FRESH else {}
        imagined = result[f"imagined, {name}"]
        left.plot(range(1, len(imagined) + 1), imagined, label=name, **style)
        streamed = np.mean(result[f"streamed, {name}"], axis=1)
        right.plot(EVERY * np.arange(len(streamed)), streamed, label=name, **style)
    left.axvline(inside + 0.5, color="grey", linewidth=0.8)
    left.set(xlabel="imagined step (the line: the trained window ends)", ylabel="PSNR, dB")
    right.set(xlabel="frames streamed since the window was full", ylabel="PSNR, dB, 8 steps")
    left.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
