"""The kinds of worlds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.envs.maze import build_maze
from training.envs.rooms import build_rooms
from training.envs.world import World
from v2w_core.errors import V2WError

#: Name -> generator, which makes the same world of the same seed.
WORLDS: dict[str, Callable[[int], World]] = {"rooms": build_rooms, "maze": build_maze}


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
