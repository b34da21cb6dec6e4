"""``v2w evaluate planning``: closed-loop evaluation in the simulator on image goals."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planners.commands.plan import add_screening_arguments, imagination_settings
from v2w_core.commands.arguments import add_backend_arguments
from v2w_core.errors import V2WError
from v2w_core.progress import progress

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv
    from training.evaluation.closed_loop import Run
    from training.evaluation.goals import GoalCase
    from v2w_core.world_model import WorldModel

HELP = "drive to image goals in the simulated maze, closed loop"
DESCRIPTION = """\
Image goals 4 to 8 steps away, taken from held-out episodes; a goal counts as reached when the
robot is within 0.4 m and 20 degrees of it after some step of at most --max-steps. A planner that
believes to have arrived ends its run ("stopped there").

  cem       CEM in the world model; knows the goal image only
  random    uniform random actions
  straight  is told the goal's pose, but knows of no wall
  oracle    CEM with the simulator itself as the model and the goal's pose: the upper bound
"""
PLANNER_NAMES = ("cem", "random", "straight", "oracle")
COLOURS = {
    "cem": (220, 30, 30), "random": (120, 120, 120), "straight": (30, 90, 220),
    "oracle": (20, 150, 60),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w evaluate planning``."""
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add_backend_arguments(parser)
    add("--episodes", type=Path, metavar="DIR", default=Path("runs/episodes/val"),
        help="held-out episodes of v2w collect (default: %(default)s)")  # fmt: skip
    add("--goals", type=int, default=50, help="number of goals (default: %(default)s)")
    add("--planners", default=",".join(PLANNER_NAMES), help="default: %(default)s")
    add("--max-steps", type=int, default=16, help="actions towards a goal (default: %(default)s)")
    add(
        "--candidates",
        type=int,
        default=64,
        help="candidates in an iteration (default: %(default)s)",
    )
    add_screening_arguments(parser)
    add("--iterations", type=int, default=3, help="iterations of CEM (default: %(default)s)")
    add("--execute", type=int, default=1, help="actions between plans (default: %(default)s)")
    add("--sampling-steps", type=int, help="denoising steps a frame (default: the checkpoint's)")
    add("--deadline-s", type=float, help="time for one plan (default: no limit)")
    add("--seed", type=int, default=0, help="seed of goals and planners (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    add("--out", type=Path, default=Path("runs/evaluate_planning"),
        help="folder for the picture (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Runs all planners, prints a table, writes JSON and a picture.

    Raises:
        V2WError: invalid input.
    """
    from training.envs.doom import ACTION_SPEC, DoomMazeEnv
    from training.evaluation.controllers import Factory, Settings
    from training.evaluation.goals import select_goals, world_of_episodes
    from v2w_core.data.episode import list_episodes
    from v2w_core.files import write_text
    from v2w_core.media.pictures import write_png

    names = parse_planners(args.planners)
    if args.max_steps < 1:
        raise V2WError("--max-steps", "at least 1", args.max_steps)
    model: WorldModel | None = None
    if "cem" in names:
        model = load_model(args)
        ACTION_SPEC.require_same(model.config.action, field="checkpoint: action")
    num_history = model.config.num_history if model is not None else 4
    paths = list_episodes(args.episodes)
    settings = Settings(
        num_candidates=args.candidates, num_iterations=args.iterations, num_execute=args.execute,
        deadline_s=args.deadline_s, imagination=imagination_settings(args),
    )  # fmt: skip
    name, world_seed = world_of_episodes(paths)
    env = DoomMazeEnv(world_seed, world_name=name)
    try:
        cases = select_goals(paths, args.goals, env=env, num_history=num_history, seed=args.seed)
        spec = ACTION_SPEC if model is None else model.config.action
        factory = Factory(env, model, spec, settings)
        runs = drive_all(env, factory, cases, names, args.max_steps, args.seed)
        picture = draw_runs(env, cases, runs)
    finally:
        env.close()
    result = summary(cases, runs)
    print_table(result)
    path = write_png(args.out / "paths.png", picture)
    print(f"wrote {path}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def load_model(args: argparse.Namespace) -> WorldModel:
    """The world model of the arguments' checkpoint."""
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.world_model import WorldModel

    checkpoint = args.checkpoint or default_checkpoint()
    return WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)


def parse_planners(text: str) -> list[str]:
    """Names of planners from a text with commas. Raises V2WError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PLANNER_NAMES:
            raise V2WError("--planners", f"some of {', '.join(PLANNER_NAMES)}", name)
    if not names:
        raise V2WError("--planners", f"some of {', '.join(PLANNER_NAMES)}", text)
    return list(dict.fromkeys(names))


def drive_all(
    env: DoomMazeEnv,
    factory: Any,
    cases: list[GoalCase],
    names: list[str],
    max_steps: int,
    seed: int,
) -> dict[str, list[Run]]:
    """Runs every planner to every goal; shows a progress bar."""
    from training.evaluation.closed_loop import drive, goal_image

    runs: dict[str, list[Run]] = {name: [] for name in names}
    total = len(cases) * len(names)
    with progress(total=total, desc="plan", unit="drive") as bar:
        for index, case in enumerate(cases):
            image = goal_image(env, case)
            for name in names:
                controller = factory.make(name, case, image, seed + 1000 * index)
                runs[name].append(drive(env, case, controller, name, max_steps))
                bar.update()
            rates = (
                f"{name} {np.mean([r.reached_step is not None for r in done]):.0%}"
                for name, done in runs.items()
            )
            bar.note(", ".join(rates))
    return runs


def summary(cases: list[GoalCase], runs: dict[str, list[Run]]) -> dict[str, Any]:
    """The results as JSON values; planning times are those of ``cem``."""
    times = np.array([s for run in runs.get("cem", []) for s in run.plan_s])
    records = [
        run.record(case) for done in runs.values() for run, case in zip(done, cases, strict=True)
    ]
    return {
        "success": {n: _share(r.reached_step is not None for r in d) for n, d in runs.items()},
        "stopped": {n: _share(r.stopped_at_goal for r in d) for n, d in runs.items()},
        "stopped_elsewhere": {
            n: _share(r.stopped and not r.stopped_at_goal for r in d) for n, d in runs.items()
        },
        "num_goals": len(cases),
        "plan_s_p50": float(np.percentile(times, 50)) if len(times) else None,
        "plan_s_p95": float(np.percentile(times, 95)) if len(times) else None,
        "num_plans": len(times),
        "records": records,
    }


def _share(values: Any) -> float:
    return float(np.mean([bool(value) for value in values]))


def print_table(result: dict[str, Any]) -> None:
    """Prints the shares of goals reached and of runs stopped at the goal and elsewhere."""
    print(f"{result['num_goals']} image goals, 4 to 8 steps away")
    print(f"{'planner':>10} {'reached':>9} {'stopped there':>14} {'stopped elsewhere':>18}")
    for name, reached in result["success"].items():
        print(f"{name:>10} {reached:>9.0%} {result['stopped'][name]:>14.0%} "
              f"{result['stopped_elsewhere'][name]:>18.0%}")  # fmt: skip
    if result["plan_s_p50"] is not None:
        print(f"plan time of cem: {result['plan_s_p50']:.2f} s (p50), "
              f"{result['plan_s_p95']:.2f} s (p95), {result['num_plans']} plans")  # fmt: skip


def draw_runs(
    env: DoomMazeEnv, cases: list[GoalCase], runs: dict[str, list[Run]], num_shown: int = 6
) -> NDArray[np.uint8]:
    """Maps with the paths to the first goals: white dot = start, yellow arrow = goal."""
    import cv2

    from v2w_core.media.pictures import contact_sheet

    tiles: list[NDArray[np.uint8]] = []
    for index, case in enumerate(cases[:num_shown]):
        top = env.top_down_map(36.0)
        image = np.ascontiguousarray(top.image)
        x, y, yaw = case.goal_pose
        tip = (x + 0.6 * np.cos(yaw), y + 0.6 * np.sin(yaw))
        ends = np.round(top.to_pixels(np.array([[x, y], tip]))).astype(int)
        radius = round(0.4 * top.pixels_per_m)
        cv2.circle(image, tuple(map(int, ends[0])), radius, (255, 200, 0), 2, cv2.LINE_AA)
        cv2.arrowedLine(
            image, tuple(map(int, ends[0])), tuple(map(int, ends[1])), (255, 200, 0), 2, cv2.LINE_AA
        )
        for name, done in runs.items():
            points = np.round(top.to_pixels(np.stack(done[index].poses))).astype(np.int32)
            cv2.polylines(image, [points], False, COLOURS[name], 2, cv2.LINE_AA)
        start = np.round(top.to_pixels(np.asarray(case.start_pose))).astype(int)
        cv2.circle(image, tuple(map(int, start)), 5, (255, 255, 255), -1, cv2.LINE_AA)
        tiles.append(image)
    rows = [np.stack(tiles[i : i + 3]) for i in range(0, len(tiles), 3)]
    labels = ["red cem, grey random, blue straight, green oracle; white dot start, yellow goal"]
    return contact_sheet(rows, labels + [""] * (len(rows) - 1))
