"""``v2w collect``: records episodes of an exploring robot in simulated worlds."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from v2w_core.errors import DataError, V2WError
from v2w_core.progress import progress

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

HELP = "record episodes of a simulated robot that explores buildings or a maze"
DESCRIPTION = """\
Drives a robot with a camera through generated worlds and records what it sees, what it was told,
how it really moved and what it touched: one HDF5 file an episode (JPEG frames; commands and
displacements in metres and radians at 4 Hz, poses, time stamps). Needs no graphics card and no
display.

With several worlds, episode I is driven in the world of seed number I modulo their number.
Episodes that are already there are kept, so a stopped collection can be continued by giving the
same command again. The same seeds give the same episodes."""
EPILOG = """\
examples:
  v2w collect runs/episodes/train --episodes 100
  v2w collect runs/episodes/held_out --episodes 20 --seed 2
  v2w collect runs/rooms/train --world rooms --world-seeds 2000-2199 --episodes 400
  v2w data preview runs/episodes/train"""

ENV_NAME = "doom"
SOURCE = "v2w collect"
EPISODES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.add_argument("dest", metavar="DEST", type=Path, help="folder for the episode files")
    parser.add_argument(
        "--episodes",
        type=int,
        help=f"number of episodes (default {EPISODES}, or one a world if there are more worlds)",
    )
    parser.add_argument(
        "--steps", type=int, default=120, help="actions an episode, 0.25 s each (default 120)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the driving; another seed, other episodes"
    )
    parser.add_argument(
        "--world",
        default="maze",
        help="rooms: buildings of 16 m x 16 m with corridors, doors and objects; "
        "maze: the small maze of 10 m x 8 m (default maze)",
    )
    parser.add_argument(
        "--world-seeds",
        default="0",
        metavar="SEEDS",
        help="seeds of the worlds, such as 3, 2000-2199 or 0,5,10-12 (default 0)",
    )
    parser.add_argument(
        "--image-size",
        default="160x120",
        metavar="WIDTHxHEIGHT",
        help="pixels of the recorded frames (default 160x120)",
    )


@dataclass(frozen=True)
class Job:
    """What is to be collected.

    Attributes:
        dest: folder of the episodes.
        world: kind of world.
        world_seeds: seeds of the worlds; episode i is driven in that of number i modulo their
            number.
        steps: actions of each episode.
        seed: of the driving.
        image_size: (height, width) of the frames.
    """

    dest: Path
    world: str
    world_seeds: tuple[int, ...]
    steps: int
    seed: int
    image_size: tuple[int, int]

    def name(self, index: int) -> str:
        return f"episode_s{self.seed:04d}_{index:05d}.h5"

    def world_seed(self, index: int) -> int:
        return self.world_seeds[index % len(self.world_seeds)]


def run(args: argparse.Namespace) -> int:
    """Records the episodes that are missing."""
    job, episodes = parse_job(args)
    todo = missing(job, episodes)
    if len(todo) < episodes:
        print(f"{episodes - len(todo)} episodes are already there", file=sys.stderr)
    if todo:
        collect(job, todo)
    return 0


def missing(job: Job, episodes: int) -> list[int]:
    """Numbers of the episodes that are not there yet; raises as :func:`check_folder` does."""
    present = check_folder(job, episodes)
    return [index for index in range(episodes) if job.name(index) not in present]


def collect(job: Job, todo: list[int]) -> None:
    """Records episodes by their numbers and prints the rate."""
    from training.envs.doom import DoomMazeEnv

    # all episodes of a world, then those of the next
    order = sorted(todo, key=lambda index: (index % len(job.world_seeds), index))
    env = DoomMazeEnv(job.world_seed(order[0]), job.image_size, world_name=job.world)
    frames, start = 0, time.perf_counter()
    try:
        for index in progress(order, desc="collect", unit="episode"):
            if env.world.seed != job.world_seed(index):
                env.enter(job.world_seed(index))
            frames += record_episode(
                env, job.dest / job.name(index), steps=job.steps, seed=job.seed, index=index
            )
    finally:
        env.close()
        elapsed = time.perf_counter() - start
        rate = frames / elapsed
        print(f"{frames} frames in {elapsed:.1f} s: {rate:.0f} frames/s, in {job.dest}")


def parse_job(args: argparse.Namespace) -> tuple[Job, int]:
    """What the arguments say, and the number of episodes.

    Raises:
        V2WError: a number is too small, there is no such world, or a text cannot be read.
    """
    from training.envs.worlds import WORLDS, parse_seeds

    for name, lowest in (("episodes", 1), ("steps", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < lowest:
            raise V2WError(f"--{name}", f"an integer of at least {lowest}", value)
    if args.world not in WORLDS:
        raise V2WError("--world", f"one of {', '.join(WORLDS)}", args.world)
    seeds = parse_seeds(args.world_seeds, "--world-seeds")
    episodes = max(EPISODES, len(seeds)) if args.episodes is None else args.episodes
    if episodes < len(seeds):
        rule = f"at least {len(seeds)}, one for each of --world-seeds"
        raise V2WError("--episodes", rule, episodes)
    size = parse_image_size(args.image_size)
    return Job(args.dest, args.world, seeds, args.steps, args.seed, size), episodes


def parse_image_size(text: str) -> tuple[int, int]:
    """(height, width) from WIDTHxHEIGHT, such as 160x120. Raises V2WError for other texts."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise V2WError("--image-size", "WIDTHxHEIGHT in pixels, such as 160x120", text)
    width, height = (int(part) for part in parts)
    if not (8 <= width <= 1600 and 8 <= height <= 1200):
        raise V2WError("--image-size", "8x8 to 1600x1200 pixels", text)
    return height, width


def check_folder(job: Job, episodes: int) -> set[str]:
    """Names of the episodes that are in the folder.

    Raises:
        DataError: an episode is not what this job would record under its name; or one of another
            name is of another kind of world, action space or image size, is not of the job's
            worlds, was recorded without commands, or cannot be read.
    """
    from v2w_core.data.episode import list_episodes, read_episode

    folder = job.dest
    if folder.exists() and not folder.is_dir():
        raise DataError(str(folder), "a folder, or a name that does not exist yet", "a file")
    if not folder.is_dir() or not any(folder.glob("*.h5")):
        return set()

    from training.envs.doom import ACTION_SPEC
    from training.envs.worlds import world_of

    indices = {job.name(index): index for index in range(episodes)}
    present: set[str] = set()
    for path in list_episodes(folder):
        episode, index = read_episode(path), indices.get(path.name)
        world = world_of(episode.attributes)
        allowed = job.world_seeds if index is None else (job.world_seed(index),)
        if world is None or world[0] != job.world or world[1] not in allowed:
            found = "no simulated world" if world is None else f"{world[0]} {world[1]}"
            wanted = f"{job.world} {allowed[0]}" if len(allowed) == 1 else "one of --world-seeds"
            rule = f"holds an episode of the world {found}, not {wanted}; choose another folder"
            raise DataError(str(folder), rule, path.name)
        if not episode.has_commands:
            rule = "holds an episode without commands, of an earlier v2w; choose another folder"
            raise DataError(str(folder), rule, path.name)
        if episode.action_spec != ACTION_SPEC:
            rule = "holds an episode with another action spec; choose another folder"
            raise DataError(str(folder), rule, path.name)
        if tuple(episode.image_size) != job.image_size:
            rule = f"holds frames of (height, width) {episode.image_size}; choose another folder"
            raise DataError(str(folder), rule, path.name)
        steps = len(episode) - 1
        if index is not None and steps != job.steps:
            rule = f"has {steps} steps; give --steps {steps} or another folder"
            raise DataError(str(path), rule, job.steps)
        present.add(path.name)
    return present


def record_episode(env: DoomMazeEnv, path: Path, *, steps: int, seed: int, index: int) -> int:
    """Records an episode of ``steps`` actions; returns its number of frames.

    The episode depends on the world, ``seed`` and ``index`` only.
    """
    import numpy as np

    from training.envs.explore import Explorer
    from v2w_core.data.episode import write_episode

    rng = np.random.default_rng([seed, index])
    observation, _ = env.reset(options={"pose": env.sample_free_pose(rng)})
    explorer = Explorer(env, rng)
    seen, known = [observation], []
    for _ in range(steps):
        observation, _, _, _, info = env.step(explorer.act())
        seen.append(observation)
        known.append(info)
    poses = np.array([item["pose"] for item in seen])
    step_ns = round(1e9 * env.action_spec.dt_s)
    write_episode(
        path,
        frames=[item["image"] for item in seen],
        actions=np.array([item["command"] for item in known]),
        motion=np.array([item["motion"] for item in known]),
        contact=np.array([item["contact"] for item in known]),
        poses=np.insert(poses, 2, 0.0, axis=1),
        stamps_ns=np.arange(len(seen), dtype=np.int64) * step_ns,
        action_spec=env.action_spec,
        source=SOURCE,
        attributes={
            "env": ENV_NAME,
            "world": env.world.name,
            "world_seed": env.world.seed,
            "seed": seed,
            "index": index,
        },
        image_format="jpeg",
        quality=95,
    )
    return len(seen)
