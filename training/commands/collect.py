"""``v2w collect``: records episodes of an exploring robot in the simulated maze."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_core.errors import DataError, V2WError
from v2w_core.progress import progress

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

HELP = "record episodes of a simulated robot that explores a maze"
DESCRIPTION = """\
Drives a robot with a camera through a generated maze and records what it sees, where it is and
how it really moved: one HDF5 file an episode (JPEG frames, actions in metres and radians at 4 Hz,
poses, time stamps). Needs no graphics card and no display.

Episodes that are already there are kept, so a stopped collection can be continued by giving the
same command again. The same seeds give the same episodes."""
EPILOG = """\
examples:
  v2w collect runs/episodes/train --episodes 100
  v2w collect runs/episodes/held_out --episodes 20 --seed 2
  v2w data preview runs/episodes/train"""

ENV_NAME = "doom_maze"
SOURCE = "v2w collect"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.add_argument("dest", metavar="DEST", type=Path, help="folder for the episode files")
    parser.add_argument("--episodes", type=int, default=20, help="number of episodes (default 20)")
    parser.add_argument(
        "--steps", type=int, default=120, help="actions an episode, 0.25 s each (default 120)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the driving; another seed, other episodes"
    )
    parser.add_argument("--maze-seed", type=int, default=0, help="seed of the maze (default 0)")
    parser.add_argument(
        "--image-size",
        default="160x120",
        metavar="WIDTHxHEIGHT",
        help="pixels of the recorded frames (default 160x120)",
    )


def run(args: argparse.Namespace) -> int:
    """Records the episodes that are missing."""
    for name, lowest in (("episodes", 1), ("steps", 1), ("seed", 0), ("maze_seed", 0)):
        if getattr(args, name) < lowest:
            option = f"--{name.replace('_', '-')}"
            raise V2WError(option, f"an integer of at least {lowest}", getattr(args, name))
    image_size = parse_image_size(args.image_size)
    wanted = {"env": ENV_NAME, "maze_seed": args.maze_seed}
    present = check_folder(args.dest, wanted, image_size)
    names = [f"episode_s{args.seed:04d}_{i:05d}.h5" for i in range(args.episodes)]
    for name in names:
        if present.get(name, args.steps) != args.steps:
            rule = f"has {present[name]} steps; give --steps {present[name]} or another folder"
            raise DataError(str(args.dest / name), rule, args.steps)
    todo = [(i, name) for i, name in enumerate(names) if name not in present]
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} episodes are already there", file=sys.stderr)
    if not todo:
        return 0

    from training.envs.doom import DoomMazeEnv

    env = DoomMazeEnv(args.maze_seed, image_size)
    frames, start = 0, time.perf_counter()
    try:
        for index, name in progress(todo, desc="collect", unit="episode"):
            frames += record_episode(
                env, args.dest / name, steps=args.steps, seed=args.seed, index=index
            )
    finally:
        env.close()
        elapsed = time.perf_counter() - start
        rate = frames / elapsed
        print(f"{frames} frames in {elapsed:.1f} s: {rate:.0f} frames/s, in {args.dest}")
    return 0


def parse_image_size(text: str) -> tuple[int, int]:
    """(height, width) from WIDTHxHEIGHT, such as 160x120. Raises V2WError for other texts."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise V2WError("--image-size", "WIDTHxHEIGHT in pixels, such as 160x120", text)
    width, height = (int(part) for part in parts)
    if not (8 <= width <= 1600 and 8 <= height <= 1200):
        raise V2WError("--image-size", "8x8 to 1600x1200 pixels", text)
    return height, width


def check_folder(
    folder: Path, wanted: dict[str, Any], image_size: tuple[int, int]
) -> dict[str, int]:
    """Number of steps of each episode in the folder, by file name.

    Raises:
        DataError: an episode has another maze, action space or image size, or cannot be read.
    """
    from v2w_core.data.episode import list_episodes, read_episode

    if folder.exists() and not folder.is_dir():
        raise DataError(str(folder), "a folder, or a name that does not exist yet", "a file")
    present: dict[str, int] = {}
    if not folder.is_dir() or not any(folder.glob("*.h5")):
        return present

    from training.envs.doom import ACTION_SPEC

    for path in list_episodes(folder):
        episode = read_episode(path)
        found = {key: episode.attributes.get(key) for key in wanted}
        if found != wanted:
            rule = f"holds an episode of {found}, not {wanted}; choose another folder"
            raise DataError(str(folder), rule, path.name)
        if episode.action_spec != ACTION_SPEC:
            rule = "holds an episode with another action spec; choose another folder"
            raise DataError(str(folder), rule, path.name)
        if tuple(episode.image_size) != image_size:
            rule = f"holds frames of (height, width) {episode.image_size}; choose another folder"
            raise DataError(str(folder), rule, path.name)
        present[path.name] = len(episode) - 1
    return present


def record_episode(env: DoomMazeEnv, path: Path, *, steps: int, seed: int, index: int) -> int:
    """Records an episode of ``steps`` actions; returns its number of frames.

    The episode depends on the maze, ``seed`` and ``index`` only.
    """
    import numpy as np

    from training.envs.explore import Explorer
    from v2w_core.data.episode import write_episode

    rng = np.random.default_rng([seed, index])
    observation, _ = env.reset(options={"pose": env.sample_free_pose(rng)})
    explorer = Explorer(env, rng)
    frames, poses, actions = [observation["image"]], [observation["pose"]], []
    for _ in range(steps):
        observation, _, _, _, info = env.step(explorer.act())
        frames.append(observation["image"])
        poses.append(observation["pose"])
        actions.append(info["motion"])
    planar = np.array(poses)
    flat = np.zeros(len(planar))
    step_ns = round(1e9 * env.action_spec.dt_s)
    write_episode(
        path,
        frames=frames,
        actions=np.array(actions),
        poses=np.column_stack([planar[:, 0], planar[:, 1], flat, planar[:, 2]]),
        stamps_ns=np.arange(len(frames), dtype=np.int64) * step_ns,
        action_spec=env.action_spec,
        source=SOURCE,
        attributes={"env": ENV_NAME, "maze_seed": env.world.seed, "seed": seed, "index": index},
        image_format="jpeg",
        quality=95,
    )
    return len(frames)
