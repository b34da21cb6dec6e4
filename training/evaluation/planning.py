"""``v2w evaluate planning``: closed-loop evaluation in the simulator."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planners.commands.plan import add_screening_arguments, imagination_settings
from training.evaluation.world_sets import add_world_arguments, check_world_arguments
from v2w_core.commands.arguments import add_backend_arguments
from v2w_core.errors import V2WError
from v2w_core.progress import progress

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv
    from training.evaluation.cloning import ClonedPolicy
    from training.evaluation.controllers import Factory
    from training.evaluation.goals import GoalCase
    from training.evaluation.kept_drives import KeptDrives
    from v2w_core.world_model import WorldModel

HELP = "drive to goals in simulated worlds, closed loop, beside simple planners"
DESCRIPTION = """\
Drives to goals that are drawn from the simulator; the same seed gives the same goals, and they are
listed in goals.json beside the results.

  near    where an exploring robot is 4 to 8 steps later
  far     12 to 30 steps along the shortest way
  walls   6 to 16 steps along the shortest way, where heading straight for the goal fails

A planner that believes to have arrived ends its drive; "stops there" counts those that are then
within 0.4 m and 20 degrees of the goal, "reached" those that were so after any step.

  cem       CEM in the world model; knows the goal's image only (--goal pose: its pose only)
  random    uniform random actions, never stops
  straight  is told the goal's pose, but knows of no wall
  bc        behaviour cloning: a small network acts as the episodes did on the way to a goal image;
            trained when it is missing (some minutes) and kept in runs/KIND/bc.safetensors
  oracle    is told the goal's pose and knows the map: the upper bound

Drives that are finished are kept: the same command goes on where an earlier one was stopped.
"""
EPILOG = """\
examples:
  v2w evaluate planning --suite near --goals 100 --json runs/near.json
  v2w evaluate planning --suite walls --world rooms --worlds unseen --goal pose --goals 100
  v2w evaluate planning --suite far --worlds tune --seed 100       to choose settings on
"""
PLANNER_NAMES = ("cem", "random", "straight", "bc", "oracle")
SUITE_NAMES = ("near", "far", "walls")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w evaluate planning``."""
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add_backend_arguments(parser)
    add("--suite", default="near", metavar="SUITE",
        help=f"{', '.join(SUITE_NAMES)} (default: %(default)s)")  # fmt: skip
    add_world_arguments(parser)
    add("--goal", default="image", metavar="KIND",
        help="what cem is told: image, or pose (default: %(default)s)")  # fmt: skip
    add("--goals", type=int, default=100, help="number of goals (default: %(default)s)")
    add("--planners", default=",".join(PLANNER_NAMES), help="default: %(default)s")
    add("--max-steps", type=int,
        help="actions towards a goal (default: 16 for near goals, else 16 and twice the steps)",
        )  # fmt: skip
    add("--candidates", type=int, default=64,
        help="candidates in an iteration (default: %(default)s)")  # fmt: skip
    add_screening_arguments(parser)
    add("--iterations", type=int, default=3, help="iterations of CEM (default: %(default)s)")
    add("--execute", type=int, default=1, help="actions between plans (default: %(default)s)")
    add("--sampling-steps", type=int, help="denoising steps a frame (default: the checkpoint's)")
    add("--deadline-s", type=float, help="time for one plan (default: no limit)")
    add("--seed", type=int, default=0,
        help="seed of goals and planners; settings are chosen with 100 and more (default: "
        "%(default)s)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    add("--out", type=Path, default=Path("runs/evaluate_planning"),
        help="folder for goals, drives and a picture (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Runs all planners, prints a table, writes JSON and a picture.

    Raises:
        V2WError: invalid input.
    """
    from training.envs.doom import DoomMazeEnv
    from training.evaluation.planning_report import draw_drives, planner_summary, print_table
    from training.evaluation.suites import SUITES, draw_goals, list_goals
    from v2w_core.files import write_text
    from v2w_core.media.pictures import write_png

    names = parse_planners(args.planners)
    check_arguments(args)
    worlds = args.worlds or "seen"
    model = load_model(args) if "cem" in names else None
    env = DoomMazeEnv(0, world_name=args.world)
    about = {"suite": args.suite, "world": args.world, "worlds": worlds, "seed": args.seed}
    folder = args.out / "_".join(map(str, about.values()))
    try:
        factory = make_factory(args, names, env, model)
        cases = draw_goals(env, args.suite, worlds, args.goals, args.seed)
        about["goals_sha256"] = list_goals(folder / "goals.json", cases, about)
        kept = open_kept(args, names, factory, folder / "drives")
        drive_all(args, factory, cases, kept)
        drives = {
            name: [one.records[number] for number in range(len(cases))]
            for name, one in kept.items()
        }
        picture = draw_drives(env, drives)
    finally:
        env.close()
    result = about | settings_of(args, model) | {
        "num_goals": len(cases),
        "planners": {name: planner_summary(records) for name, records in drives.items()},
        "records": [record for records in drives.values() for record in records],
    }  # fmt: skip
    print_table(result, SUITES[args.suite].text)
    path = write_png(folder / "drives.png", picture)
    print(f"wrote {path} and {folder / 'goals.json'}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Raises V2WError for a suite, a world or a number that cannot be."""
    check_world_arguments(args)
    if args.suite not in SUITE_NAMES:
        raise V2WError("--suite", f"one of {', '.join(SUITE_NAMES)}", args.suite)
    if args.goal not in ("image", "pose"):
        raise V2WError("--goal", "image or pose", args.goal)
    for name, lowest in (("goals", 1), ("max_steps", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < lowest:
            raise V2WError(f"--{name.replace('_', '-')}", f"at least {lowest}", value)


def parse_planners(text: str) -> list[str]:
    """Names of planners from a text with commas. Raises V2WError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PLANNER_NAMES:
            raise V2WError("--planners", f"some of {', '.join(PLANNER_NAMES)}", name)
    if not names:
        raise V2WError("--planners", f"some of {', '.join(PLANNER_NAMES)}", text)
    return list(dict.fromkeys(names))


def load_model(args: argparse.Namespace) -> WorldModel:
    """The world model of the arguments' checkpoint. Raises V2WError if its actions do not fit."""
    from training.envs.doom import ACTION_SPEC
    from training.evaluation.suites import MAX_HISTORY
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.world_model import WorldModel

    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    ACTION_SPEC.require_same(model.config.action, field="checkpoint: action")
    if model.config.num_history > MAX_HISTORY:
        rule = f"at most {MAX_HISTORY} frames, as many as were seen before the start"
        raise V2WError("checkpoint: num_history", rule, model.config.num_history)
    return model


def make_factory(
    args: argparse.Namespace, names: list[str], env: DoomMazeEnv, model: WorldModel | None
) -> Factory:
    """What makes the controllers that the arguments ask for."""
    from training.envs.doom import ACTION_SPEC
    from training.evaluation.controllers import Factory, Settings

    settings = Settings(
        num_candidates=args.candidates, num_iterations=args.iterations, num_execute=args.execute,
        deadline_s=args.deadline_s, imagination=imagination_settings(args), goal=args.goal,
    )  # fmt: skip
    spec = ACTION_SPEC if model is None else model.config.action
    policy = load_policy(args.world) if "bc" in names else None
    return Factory(env, model, spec, settings, policy)


def load_policy(world: str) -> ClonedPolicy:
    """Behaviour cloning for a kind of world; it is trained where that has not been done."""
    from training.envs.doom import ACTION_SPEC
    from training.evaluation.cloning import CloningSettings, trained_policy
    from training.evaluation.world_sets import training_episodes

    path = Path("runs") / world / "bc.safetensors"
    return trained_policy(path, training_episodes(world), ACTION_SPEC, CloningSettings())


def settings_of(args: argparse.Namespace, model: WorldModel | None) -> dict[str, Any]:
    """What the results say of the planners' settings."""
    from v2w_core.files import shown_path

    result = {
        "goal": args.goal, "candidates": args.candidates, "iterations": args.iterations,
        "execute": args.execute, "max_steps": args.max_steps, "deadline_s": args.deadline_s,
        "screening_fraction": args.screening_fraction,
        "screening_horizon": args.screening_horizon, "sampling_steps": args.sampling_steps,
    }  # fmt: skip
    if model is not None and model.checkpoint is not None:
        result |= {
            "checkpoint": shown_path(model.checkpoint), "backend": model.backend.name,
            "precision": args.precision, "device": str(model.device),
        }  # fmt: skip
    return result


def open_kept(
    args: argparse.Namespace, names: list[str], factory: Factory, folder: Path
) -> dict[str, KeptDrives]:
    """The drives of earlier runs with the same settings, checkpoint and code, for each planner."""
    from training.evaluation.kept_drives import KeptDrives, code_hash, folder_hash, state_hash

    model = factory.model
    about = settings_of(args, None) | {"code": code_hash()}
    kept = {}
    for name in names:
        more = {}
        if name == "cem":
            assert model is not None and model.checkpoint is not None
            more = settings_of(args, model) | {"weights": folder_hash(model.checkpoint)}
        if name == "bc":
            assert factory.policy is not None
            more = {"weights": state_hash(factory.policy.state_dict())}
        kept[name] = KeptDrives(folder, name, about | more)
    return kept


def drive_all(
    args: argparse.Namespace, factory: Factory, cases: list[GoalCase], kept: dict[str, KeptDrives]
) -> None:
    """Drives every planner to every goal that it has not driven to; shows a progress bar."""
    from training.evaluation.closed_loop import drive, goal_image
    from training.evaluation.suites import SUITES

    env, model = factory.env, factory.model
    done = sum(number < len(cases) for one in kept.values() for number in one.records)
    if done:
        print(f"{done} drives of an earlier run are kept", file=sys.stderr)
    total = len(cases) * len(kept)
    with progress(total=total, desc="plan", unit="drive", initial=done) as bar:
        for number, case in enumerate(cases):
            todo = [name for name, one in kept.items() if number not in one.records]
            if not todo:
                continue
            if env.world.seed != case.world_seed:
                env.enter(case.world_seed)
            image = goal_image(env, case)
            most = args.max_steps or SUITES[args.suite].max_steps(case)
            for name in todo:
                controller = factory.make(name, case, image, args.seed + 1000 * number)
                config = model.config if name == "cem" and model is not None else None
                run = drive(env, case, controller, name, most, config)
                kept[name].add(number, run.record(case))
                bar.update()
            bar.note(", ".join(_rate(name, one) for name, one in kept.items()))


def _rate(name: str, kept: KeptDrives) -> str:
    records = kept.records.values()
    return f"{name} {sum(r['stopped_at_goal'] for r in records)} of {len(records)}"
