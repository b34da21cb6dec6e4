"""The kinds of worlds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.envs.maze import build_maze
from training.envs.rooms import build_rooms
from training.envs.world import World
from v2w_core.errors import V2WError

#: Largest number of worlds in one command.
MAX_SEEDS = 100_000
#: Name -> generator, which makes the same world of the same seed.
WORLDS: dict[str, Callable[[int], World]] = {"rooms": build_rooms, "maze": build_maze}
#: The kind of world of the shipped checkpoint: the default of ``v2w evaluate`` and ``v2w demo``.
SHIPPED_WORLD = "maze"


def build_world(name: str, seed: int) -> World:
    """The world of a generator and a seed.

    Raises:
        V2WError: there is no such generator, or the seed is negative.
    """
    if name not in WORLDS:
        raise V2WError("world", f"one of {', '.join(WORLDS)}", name)
    if seed < 0:
        raise V2WError("world seed", "an integer of at least 0", seed)
    return WORLDS[name](seed)


def parse_seeds(text: str, field: str) -> tuple[int, ...]:
    """Seeds from a text with commas and ranges: "3", "2000-2199", "0,5,10-12".

    Raises:
        V2WError: another text, a range that falls, a seed twice, or more than MAX_SEEDS.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = [item.strip() for item in part.split("-")]
        if len(ends) > 2 or not all(item.isdigit() and len(item) < 10 for item in ends):
            raise V2WError(field, "seeds such as 3, 2000-2199 or 0,5,10-12", text)
        low, high = int(ends[0]), int(ends[-1])
        if low > high or high - low >= MAX_SEEDS:
            raise V2WError(field, f"ranges that rise, of at most {MAX_SEEDS} seeds", part)
        seeds += range(low, high + 1)
    if len(set(seeds)) < len(seeds) or len(seeds) > MAX_SEEDS:
        raise V2WError(field, f"each seed once, at most {MAX_SEEDS}", text)
    return tuple(seeds)


def world_of(attributes: Mapping[str, Any]) -> tuple[str, int] | None:
    """Name and seed of the world of an episode with these attributes; None: not of a simulator.

    Episodes of the time when there was only the maze name its seed alone.
    """
    name, seed = attributes.get("world", "maze"), attributes.get("world_seed")
    if seed is None:
        seed = attributes.get("maze_seed")
    if not isinstance(seed, int) or name not in WORLDS:
        return None
    return str(name), seed
