"""The settings of the demo, checked before anything is started."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from v2w_core.errors import V2WError

#: Longest plan [steps]; plans of a model with a shorter window are shorter.
MAX_HORIZON = 8
#: Kinds of worlds, and the seed of the one in which the demo drives: a building that no model was
#: trained in, and the only maze that the model of the maze knows.
WORLD_SEEDS = {"rooms": 1, "maze": 0}


@dataclass(frozen=True)
class DemoSettings:
    """The arguments of ``v2w demo``, with defaults filled in; its help explains them."""

    seed: int
    num_goals: int
    checkpoint: Path
    out: Path
    num_candidates: int
    num_iterations: int
    horizon: int
    execute_steps: int
    max_steps: int
    time_limit_s: float
    world: str
    world_seed: int
    device: str
    backend: str
    domain_id: int | None
    verbose: bool

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> DemoSettings:
        """Check the arguments and read the checkpoint's configuration.

        Raises:
            V2WError: a number out of range, a checkpoint that cannot be used, a missing package.
        """
        check_numbers(args)
        if args.out.exists() and not args.out.is_dir():
            raise V2WError("--out", "a folder", str(args.out))
        for module, extra in (("vizdoom", "sim"), ("av", "viz"), ("matplotlib", "viz")):
            if find_spec(module) is None:
                raise V2WError("v2w demo", f"needs {module}: pip install 'v2w[{extra}]'")
        from training.envs.doom import ACTION_SPEC
        from training.envs.worlds import SHIPPED_WORLD
        from v2w_core.checkpoint import default_checkpoint, load_config

        checkpoint = (args.checkpoint or default_checkpoint()).expanduser().resolve()
        config = load_config(checkpoint)
        ACTION_SPEC.require_same(config.action, field="checkpoint: action")
        horizon = min(MAX_HORIZON, config.num_frames - config.num_history)
        world = args.world or SHIPPED_WORLD
        execute_steps = min(args.execute_steps, args.max_steps, horizon)
        return cls(
            seed=args.seed,
            num_goals=args.goals,
            checkpoint=checkpoint,
            out=args.out,
            num_candidates=args.candidates,
            num_iterations=args.iterations,
            horizon=horizon,
            execute_steps=execute_steps,
            max_steps=args.max_steps,
            time_limit_s=args.time_limit_s,
            world=world,
            world_seed=WORLD_SEEDS[world] if args.world_seed is None else args.world_seed,
            device=args.device,
            backend=args.backend,
            domain_id=args.domain_id,
            verbose=args.verbose,
        )


def check_numbers(args: argparse.Namespace) -> None:
    """Check the ranges of all numbers.

    Raises:
        V2WError: a number out of range, or a kind of world that there is not.
    """
    if args.world is not None and args.world not in WORLD_SEEDS:
        raise V2WError("--world", f"one of {', '.join(WORLD_SEEDS)}", args.world)
    for name, low, high in (
        ("seed", 0, 2**31 - 1),
        ("goals", 1, 100),
        ("candidates", 2, 1024),
        ("iterations", 1, 100),
        ("execute_steps", 1, MAX_HORIZON),
        ("max_steps", 1, 1000),
        ("world_seed", 0, 2**31 - 1),
        ("domain_id", 0, 232),
    ):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise V2WError(f"--{name.replace('_', '-')}", f"from {low} to {high}", value)
    if not (math.isfinite(args.time_limit_s) and args.time_limit_s > 0.0):
        raise V2WError("--time-limit-s", "a positive number of seconds", args.time_limit_s)
