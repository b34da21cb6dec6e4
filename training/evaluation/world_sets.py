"""Worlds that figures are reported on, worlds that settings are chosen on, and their episodes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.collect import Job, collect, missing
from training.envs.worlds import SHIPPED_WORLD, WORLDS, world_of
from v2w_core.errors import DataError, V2WError

if TYPE_CHECKING:
    from v2w_core.data.episode import Episode


@dataclass(frozen=True)
class WorldSet:
    """Worlds by seed, and how their held-out episodes are driven.

    Attributes:
        seeds: of the worlds.
        episodes: number of episodes in all.
        driving_seed: of the episodes.
    """

    seeds: tuple[int, ...]
    episodes: int
    driving_seed: int


#: World 0 is trained on; 1 to 9 never are, and nothing is chosen on them: that is what 1000 to
#: 1009 are for.
WORLD_SETS = {
    "seen": WorldSet((0,), episodes=24, driving_seed=7),
    "unseen": WorldSet(tuple(range(1, 10)), episodes=36, driving_seed=7),
    "tune": WorldSet(tuple(range(1000, 1010)), episodes=40, driving_seed=5),
}
#: Folder -> the worlds and episodes that models of a kind of world are trained on.
TRAINING_SETS = {
    "rooms": {
        "train": WorldSet(tuple(range(2000, 2200)), episodes=600, driving_seed=1),
        "train_seen": WorldSet((0,), episodes=100, driving_seed=3),
    },
    "maze": {"train": WorldSet((0,), episodes=200, driving_seed=1)},
}
#: Kind of world -> the episodes of the network that compares views (see perceptual.py).
VIEW_PAIR_SETS = {
    "rooms": WorldSet(tuple(range(3000, 3100)), episodes=100, driving_seed=11),
    "maze": WorldSet(tuple(range(3000, 3050)), episodes=50, driving_seed=11),
}
#: Actions of each episode, and (height, width) of its frames.
STEPS, IMAGE_SIZE = 120, (120, 160)


def add_world_arguments(parser: argparse.ArgumentParser) -> None:
    """--worlds and --world."""
    parser.add_argument(
        "--worlds", metavar="SET",
        help="seen: world seed 0, which training has; unseen: seeds 1 to 9, which nothing was "
        "trained or chosen on; tune: seeds 1000 to 1009, to choose settings on (default: seen)",
    )  # fmt: skip
    parser.add_argument(
        "--world", default=SHIPPED_WORLD, metavar="KIND",
        help=f"kind of world: {', '.join(WORLDS)} (default: %(default)s, that of the shipped "
        "model)",
    )  # fmt: skip


def check_world_arguments(args: argparse.Namespace) -> None:
    """Raises V2WError for a kind or a set of worlds that there is not."""
    if args.world not in WORLDS:
        raise V2WError("--world", f"one of {', '.join(WORLDS)}", args.world)
    if args.worlds is not None and args.worlds not in WORLD_SETS:
        raise V2WError("--worlds", f"one of {', '.join(WORLD_SETS)}", args.worlds)


def set_episodes(world: str, worlds: str) -> Path:
    """The folder with the held-out episodes of a set; what is missing is collected first."""
    return _collected(world, worlds, WORLD_SETS[worlds])


def training_episodes(world: str) -> list[Path]:
    """The folders with the episodes that models are trained on; what is missing is collected."""
    return [_collected(world, name, chosen) for name, chosen in TRAINING_SETS[world].items()]


def view_pair_episodes() -> list[Path]:
    """The folders with the episodes of the network that compares views; collected if need be."""
    return [_collected(world, "view_pairs", chosen) for world, chosen in VIEW_PAIR_SETS.items()]


def _collected(world: str, name: str, chosen: WorldSet) -> Path:
    """The folder runs/WORLD/NAME; episodes that are not there yet are collected, and it says so.

    Raises:
        DataError: the folder holds something else.
    """
    folder = Path("runs") / world / name
    job = Job(folder, world, chosen.seeds, STEPS, chosen.driving_seed, IMAGE_SIZE)
    todo = missing(job, chosen.episodes)
    if todo:
        text = f"{len(todo)} of {chosen.episodes} episodes ({world}, {name}) are missing"
        print(f"{text}: collecting them in {folder}", file=sys.stderr)
        collect(job, todo)
    return folder


def require_worlds(episodes: Sequence[Episode], world: str, worlds: str) -> None:
    """Checks that all episodes are of the worlds of a set.

    Raises:
        DataError: one is not; the message names it.
    """
    seeds = WORLD_SETS[worlds].seeds
    for episode in episodes:
        found = world_of(episode.attributes)
        if found is None or found[0] != world or found[1] not in seeds:
            rule = f"of --world {world} with a seed of --worlds {worlds}, {seeds[0]} to {seeds[-1]}"
            shown = "no simulated world" if found is None else f"{found[0]} {found[1]}"
            raise DataError(f"{episode.path}: world", rule, shown)
