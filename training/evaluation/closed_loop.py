"""Closed-loop runs of a controller to a goal in the simulator."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planners.observation import Observation
from training.evaluation.controllers import Controller
from training.evaluation.goals import GoalCase, as_pose, errors, is_reached
from training.evaluation.recorded import step_action
from v2w_core.config import WorldModelConfig

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

#: Frames of the history of controllers without a model.
NUM_HISTORY = 4


@dataclass
class Run:
    """A run to a goal.

    Attributes:
        planner: name of the planner.
        poses: [N + 1, 3], poses (x m, y m, yaw rad), the start first.
        reached_step: first step after which the goal was reached; None: never.
        stopped: whether the planner ended the run because it detected arrival.
        stopped_at_goal: whether the robot was at the goal then.
        stop_reason: reason for the arrival.
        plan_s: planning time of every plan in seconds.
        frames: number of frames that were imagined for every plan.
        collisions: number of steps in which a wall or an object changed the motion.
        distances: the planner's estimate of the distance to the goal before every decision.
    """

    planner: str
    poses: list[NDArray[np.float64]]
    reached_step: int | None = None
    stopped: bool = False
    stopped_at_goal: bool = False
    stop_reason: str = ""
    plan_s: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    collisions: int = 0
    distances: list[float] = field(default_factory=list)

    @property
    def driven_m(self) -> float:
        """Length of the way that was driven."""
        return float(np.hypot(*np.diff(np.stack(self.poses)[:, :2], axis=0).T).sum())

    def record(self, case: GoalCase) -> dict[str, Any]:
        """The run as JSON values."""
        metres, radians = errors(as_pose(self.poses[-1]), case.goal_pose)
        return {
            "planner": self.planner,
            "world_seed": case.world_seed,
            "steps": case.steps,
            "way_m": case.way_m,
            "reached": self.reached_step is not None,
            "reached_step": self.reached_step,
            "stopped": self.stopped,
            "stopped_at_goal": self.stopped_at_goal,
            "stop_reason": self.stop_reason,
            "num_steps": len(self.poses) - 1,
            "driven_m": self.driven_m,
            "collisions": self.collisions,
            "final_m": metres,
            "final_rad": radians,
            "plan_s": self.plan_s,
            "frames": self.frames,
            "distances": [float(d) if np.isfinite(d) else None for d in self.distances],
            "poses": [pose.tolist() for pose in self.poses],
            "goal": list(case.goal_pose),
        }


def goal_image(env: DoomMazeEnv, case: GoalCase) -> NDArray[np.uint8]:
    """Camera image at the goal, uint8 [H, W, 3]."""
    image: NDArray[np.uint8] = env.teleport(*case.goal_pose)["image"]
    return image


def drive(
    env: DoomMazeEnv,
    case: GoalCase,
    controller: Controller,
    name: str,
    max_steps: int,
    config: WorldModelConfig | None = None,
) -> Run:
    """Drives at most ``max_steps`` steps; a planner that detects arrival ends the run.

    The frames of the history are rendered at the poses of the drive before the start; the robot
    starts at rest.

    Args:
        env: the simulator, in the world of the case.
        config: of the model behind the controller, which says how many frames it takes, and what
            it takes as actions of the past; None: there is none.
    """
    num_history = NUM_HISTORY if config is None else config.num_history
    views = [env.teleport(*as_pose(pose))["image"] for pose in case.history_poses[-num_history:]]
    before = zip(case.history_commands, case.history_motion, strict=True)
    told = [step_action(config, {"command": c, "motion": m}) for c, m in before]
    frames: deque[NDArray[np.uint8]] = deque(views, maxlen=num_history)
    actions: deque[NDArray[np.float32]] = deque(told, maxlen=num_history - 1)
    run = Run(name, [np.asarray(env.pose)])
    while len(run.poses) <= max_steps:
        past = np.array(actions, np.float32).reshape(-1, 3)
        decision = controller.decide(Observation(np.stack(frames), past, as_pose(env.pose)))
        run.distances.append(decision.arrival.distance)
        if decision.plan is not None:
            run.plan_s.append(decision.plan.planning_s)
            run.frames.append(decision.plan.frames_imagined)
        if decision.arrival.arrived:
            run.stopped, run.stop_reason = True, decision.arrival.reason
            run.stopped_at_goal = is_reached(as_pose(env.pose), case.goal_pose)
            break
        for action in decision.actions[: max_steps + 1 - len(run.poses)]:
            observation, _, _, _, info = env.step(action)
            frames.append(observation["image"])
            actions.append(step_action(config, info))
            run.poses.append(np.asarray(env.pose))
            run.collisions += bool(info["contact"])
            if run.reached_step is None and is_reached(as_pose(env.pose), case.goal_pose):
                run.reached_step = len(run.poses) - 1
    return run
