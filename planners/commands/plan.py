"""``v2w plan``: choose actions on a recorded episode, and show what the model expects of them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planners.costs.settings import IMAGE_GOAL_COSTS, POSE_GOAL_COSTS, Terms, chosen_costs
from planners.settings import SCREENING_FRACTION, SCREENING_HORIZON
from v2w_core.commands.arguments import add_backend_arguments
from v2w_core.errors import V2WError

if TYPE_CHECKING:
    from planners.costs.base import Cost
    from planners.planner import PlanResult
    from planners.settings import ImaginationSettings
    from v2w_core.data.episode import Episode
    from v2w_core.spec import ActionSpec
    from v2w_core.world_model import WorldModel

HELP = "choose actions that lead to a goal, offline on a recorded episode"
DESCRIPTION = """\
Plans from one moment of a recorded episode: many candidate action sequences are imagined by the
world model, the ones that come nearest to the goal are refined. Nothing is driven; the plan is
shown beside what was recorded.
"""
EPILOG = """\
examples:
  v2w plan runs/episodes/episode_00000.h5                       the goal is the frame 8 steps later
  v2w plan EPISODE --start 20 --goal-step 6                     the goal is frame 26
  v2w plan EPISODE --goal-image goal.png --deadline-s 1.0       best plan within a second
  v2w plan EPISODE --goal-pose 1.5 0.5 0.0                      1.5 m ahead, 0.5 m to the left
  v2w plan EPISODE --costs goal_image_latent smoothness=0.01    other terms of the cost
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w plan``."""
    add = parser.add_argument
    add("episode", type=Path, help="episode file (.h5)")
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add_backend_arguments(parser)
    add("--start", type=int, metavar="I", help="plan at this frame (default: the first possible)")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--goal-step", type=int, metavar="J", help="goal: the frame J steps later")
    goal.add_argument("--goal-image", type=Path, metavar="FILE", help="goal: a picture file")
    goal.add_argument(
        "--goal-pose", type=float, nargs=3, metavar=("X", "Y", "YAW"),
        help="goal: metres ahead, metres to the left, radians to the left of where the robot is",
    )  # fmt: skip
    add(
        "--costs", nargs="+", action="extend", metavar="NAME[=WEIGHT]",
        help=f"terms of the cost, of a goal image: {described(IMAGE_GOAL_COSTS)}; of a goal pose: "
        f"{described(POSE_GOAL_COSTS)} (default: those with a weight, so weighted)",
    )  # fmt: skip
    add("--optimizer", default="cem", help="cem, mppi or cma_es (default: %(default)s)")
    add("--horizon", type=int, default=8, help="steps of the plan (default: %(default)s)")
    add("--candidates", type=int, default=64, help="per iteration (default: %(default)s)")
    add_screening_arguments(parser)
    add("--iterations", type=int, default=3, help="of the optimiser (default: %(default)s)")
    add("--deadline-s", type=float, help="best plan within this many seconds (default: no limit)")
    add("--sampling-steps", type=int, help="denoising steps a frame (default: the checkpoint's)")
    add("--seed", type=int, default=0, help="of all random numbers (default: %(default)s)")
    add("--out", type=Path, default=Path("runs/plan"), help="pictures (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="also write the result as JSON")


def described(terms: Terms) -> str:
    """Names and default weights, for a help text."""
    return ", ".join(f"{name}={term.weight:g}" for name, term in terms.items())


def add_screening_arguments(parser: argparse.ArgumentParser) -> None:
    """How many candidates are imagined in full."""
    add = parser.add_argument
    add("--screening-fraction", type=float, default=SCREENING_FRACTION, metavar="SHARE",
        help="of the candidates of a cost that imagines, only this share is imagined to the end; "
        "1: all (default: %(default)s)")  # fmt: skip
    add("--screening-horizon", type=int, default=SCREENING_HORIZON, metavar="N",
        help="they are chosen after this many steps (default: %(default)s)")  # fmt: skip


def imagination_settings(args: argparse.Namespace) -> ImaginationSettings:
    """The settings that the arguments name."""
    from planners.settings import ImaginationSettings

    return ImaginationSettings(
        num_sampling_steps=args.sampling_steps,
        screening_fraction=args.screening_fraction,
        screening_horizon=args.screening_horizon,
    )


@dataclass(frozen=True)
class Moment:
    """Where the plan starts: frame ``start`` of an episode, and what was recorded around it.

    Attributes:
        history: uint8 [num_history, H, W, 3]; ``history_actions`` [num_history - 1, A].
        future: uint8 [n, H, W, 3], n <= horizon, what was recorded next; ``future_actions``
            [n, A]; ``future_poses`` [n + 1, 3] in the body frame of ``start``.
    """

    start: int
    history: NDArray[np.uint8]
    history_actions: NDArray[np.float32]
    future: NDArray[np.uint8]
    future_actions: NDArray[np.float32]
    future_poses: NDArray[np.float64]

    def previous_action(self, spec: ActionSpec) -> NDArray[np.float32] | None:
        """The action [A] before the plan, within the bounds; None: no action was recorded."""
        return spec.clip(self.history_actions[-1]) if len(self.history_actions) else None


def read_moment(episode: Episode, start: int | None, num_history: int, num_future: int) -> Moment:
    """Cuts a moment out of an episode. Raises V2WError when its history is too short."""
    from v2w_core.geometry import relative_motion

    first = num_history - 1
    index = first if start is None else start
    if not first <= index < len(episode):
        raise V2WError("--start", f"from {first} to {len(episode) - 1}", index)
    stop = min(index + num_future + 1, len(episode))
    frames = episode.frames(index - first, stop)
    return Moment(
        start=index,
        history=frames[:num_history],
        history_actions=episode.actions[index - first : index],
        future=frames[num_history:],
        future_actions=episode.actions[index : stop - 1],
        future_poses=relative_motion(episode.poses[index], episode.poses[index:stop]),
    )


def read_goal_image(path: Path) -> NDArray[np.uint8]:
    """A picture file as RGB uint8 [H, W, 3]. Raises V2WError when it is none."""
    from v2w_core.images import read_image

    return read_image(path, field=f"--goal-image {path}")


def make_cost(
    args: argparse.Namespace, model: WorldModel, episode: Episode, moment: Moment
) -> tuple[Cost, NDArray[np.uint8] | None, NDArray[np.float64] | None]:
    """The cost that the arguments ask for, the goal image and the goal pose where there is one."""
    from planners.costs.compose import CostTarget, compose, goal_image_term
    from v2w_core.geometry import relative_motion

    terms = IMAGE_GOAL_COSTS if args.goal_pose is None else POSE_GOAL_COSTS
    if args.costs is not None:
        terms = chosen_costs(args.costs, terms, "--costs")
    image: NDArray[np.uint8] | None = None
    pose: NDArray[np.float64] | None = None
    if args.goal_pose is not None:
        model.config.action.planar_indices()
        x, y, yaw = args.goal_pose
        return compose(terms, CostTarget(pose=(x, y, yaw))), None, np.array([x, y, yaw])
    if args.goal_image is not None:
        image = read_goal_image(args.goal_image)
    else:
        last = len(episode) - 1 - moment.start
        steps = min(args.horizon, last) if args.goal_step is None else args.goal_step
        if not 1 <= steps <= last:
            rule = f"from 1 to {last}, the frames after frame {moment.start}"
            raise V2WError("--goal-step", rule, steps)
        index = moment.start + steps
        image = episode.frames(index, index + 1)[0]
        if model.config.action.is_planar:
            pose = relative_motion(episode.poses[moment.start], episode.poses[index])
    frame = model.preprocess(image[None])[0]
    return compose(terms, CostTarget(goal_image_term(model, frame), frame)), image, pose


def run(args: argparse.Namespace) -> int:
    """Plans, prints, writes pictures. Raises V2WError for input that cannot be used."""
    from planners.costs.base import CostContext
    from planners.optimizers import make_optimizer
    from planners.planner import IterationReport, Planner
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.data.episode import read_episode
    from v2w_core.files import write_text
    from v2w_core.world_model import WorldModel

    optimizer = make_optimizer(args.optimizer)
    episode = read_episode(args.episode)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    model.config.action.require_same(episode.action_spec, field=f"{args.episode.name}: action_spec")
    longest = model.config.num_frames - model.config.num_history
    if not 1 <= args.horizon <= longest:
        rule = f"from 1 to {longest}, the model's trained window"
        raise V2WError("--horizon", rule, args.horizon)
    moment = read_moment(episode, args.start, model.config.num_history, args.horizon)
    cost, image, goal_pose = make_cost(args, model, episode, moment)
    planner = Planner(
        model.config.action,
        horizon=args.horizon,
        optimizer=optimizer,
        imagination=imagination_settings(args),
    )
    session = model.start(moment.history, moment.history_actions, seed=args.seed)
    print(f"{args.episode.name}, frame {moment.start}: {args.candidates} candidates of "
          f"{args.horizon} steps, {args.iterations} iterations", file=sys.stderr)  # fmt: skip
    print(f"{'iteration':>9} {'best cost':>10} {'frames imagined':>16} {'seconds':>8}")

    def show(report: IterationReport) -> None:
        print(f"{report.iteration:>9} {report.cost:>10.4f} {report.frames_imagined:>16} "
              f"{report.elapsed_s:>8.2f}", flush=True)  # fmt: skip

    plan = planner.plan(
        session, cost, deadline_s=args.deadline_s, num_iterations=args.iterations,
        num_candidates=args.candidates, seed=args.seed, on_iteration=show,
        previous_action=moment.previous_action(planner.spec),
    )  # fmt: skip
    recorded_cost = None
    if len(moment.future_actions) == args.horizon:
        recorded = planner.spec.clip(moment.future_actions)[None]

        def imagine(chosen: NDArray[np.float32]) -> Any:
            return session.imagine(chosen, num_sampling_steps=args.sampling_steps, seed=args.seed)

        context = CostContext(
            recorded, planner.spec, imagine, previous_action=moment.previous_action(planner.spec)
        )
        recorded_cost = float(cost(context)[0])
    result = summary(plan, moment, recorded_cost, goal_pose)
    print_end(result)
    for path in write_pictures(args.out, model, plan, moment, image, goal_pose):
        print(f"wrote {path}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def summary(
    plan: PlanResult,
    moment: Moment,
    recorded_cost: float | None,
    goal_pose: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """The plan as plain numbers (JSON): poses x m, y m, yaw rad in the body frame of the start."""
    return {
        "start": moment.start,
        "cost": plan.cost,
        "cost_curve": list(plan.cost_curve),
        "recorded_cost": recorded_cost,
        "action_sequence": plan.action_sequence.tolist(),
        "poses": None if plan.poses is None else plan.poses.tolist(),
        "recorded_poses": moment.future_poses.tolist(),
        "goal_pose": None if goal_pose is None else goal_pose.tolist(),
        "num_iterations": plan.num_iterations,
        "frames_imagined": plan.frames_imagined,
        "planning_s": plan.planning_s,
        "timed_out": plan.timed_out,
    }


def print_end(result: dict[str, Any]) -> None:
    """The table under the iterations: where the plan and the recording end."""
    print(f"\n{'':>14} {'x m':>7} {'y m':>7} {'yaw deg':>8} {'cost':>9}")

    def row(name: str, pose: list[float] | None, cost: float | None) -> None:
        place = "" if pose is None else f"{pose[0]:7.2f} {pose[1]:7.2f} {np.degrees(pose[2]):8.1f}"
        print(f"{name:>14} {place:>24} {'' if cost is None else f'{cost:9.4f}':>9}")

    row("goal", result["goal_pose"], None)
    row("plan's end", result["poses"][-1] if result["poses"] else None, result["cost"])
    row("recorded end", result["recorded_poses"][-1], result["recorded_cost"])
    late = ", stopped by the deadline" if result["timed_out"] else ""
    rate = result["frames_imagined"] / max(result["planning_s"], 1e-9)
    print(f"\n{result['planning_s']:.2f} s{late}; {result['frames_imagined']} frames imagined, "
          f"{rate:.0f} a second")  # fmt: skip


def write_pictures(
    folder: Path,
    model: WorldModel,
    plan: PlanResult,
    moment: Moment,
    image: NDArray[np.uint8] | None,
    goal_pose: NDArray[np.float64] | None,
) -> list[Path]:
    """Writes plan.png (goal, imagined and recorded frames) and plan_paths.png."""
    from planners.plots import plan_plot
    from v2w_core.files import replaced
    from v2w_core.media.pictures import contact_sheet, write_png

    rows, labels = [], []
    if image is not None:
        rows.append(model.preprocess(image[None]))
        labels.append("goal")
    rows.append(model.preprocess(moment.history))
    labels.append("history")
    if plan.latents is not None:
        rows.append(model.decode(plan.latents))
        labels.append("imagined under the plan")
    if len(moment.future):
        rows.append(model.preprocess(moment.future))
        labels.append("recorded")
    sheet = write_png(folder / "plan.png", contact_sheet(rows, labels))
    plot = folder / "plan_paths.png"
    recorded = moment.future_poses if model.config.action.is_planar else None
    picture = plan_plot(plan, model.config.action, recorded=recorded, goal=goal_pose)
    with replaced(plot) as temporary:
        temporary.write_bytes(picture)
    return [sheet, plot]
