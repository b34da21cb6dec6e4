"""One planning request from goal to plan, without ROS: what planner_node decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planners.costs.blocked_motion import BlockedMotionMemory, Pose
from planners.goals import Arrival, Goal, ImageGoal, Observation, PoseGoal
from planners.optimizers.base import shift
from planners.planner import IterationReport, Planner, PlanResult
from planners.settings import SCREENED, ImaginationSettings
from v2w.errors import NodeError
from v2w.navigation.sensor_history import Snapshot
from v2w_core.errors import DataError, V2WError
from v2w_core.geometry import integrate_actions, wrap_angle
from v2w_core.images import decode_image, resize_frame

GOAL_POSE, GOAL_IMAGE = 0, 1
#: A plan older than this says nothing about the next one [s].
WARM_START_S = 30.0


@dataclass(frozen=True)
class PlanSettings:
    """Numbers of one request, defaults filled in.

    ``seed`` is None for the planning core's choice. ``drive``: the plan will be driven, so that
    what the camera saw and the walls that were touched on the way to this goal count.
    """

    horizon: int
    num_iterations: int
    num_candidates: int
    time_budget_s: float
    seed: int | None
    execute_steps: int
    drive: bool = False
    imagination: ImaginationSettings = SCREENED


@dataclass(frozen=True)
class PlanOutcome:
    """What a request leads to; ``planning_s`` includes encoding the history."""

    result: PlanResult
    arrival: Arrival
    planning_s: float


@dataclass
class _Previous:
    key: object
    plan: NDArray[np.float32]
    execute_steps: int
    made_at: float


@dataclass
class _Drive:
    """What the drive to one goal has learned: the goal keeps what was seen."""

    key: object
    goal: Goal
    blocked_motion: BlockedMotionMemory = field(default_factory=BlockedMotionMemory)


class PlanningCore:
    """Plans with one model; the next plan to the same goal starts from the rest of the last.

    Args:
        seed: of the seeds of requests that bring none; None: others every time.
    """

    def __init__(self, model: Any, seed: int | None = None) -> None:
        self._model = model
        self._seeds = np.random.default_rng(seed)
        self._previous: _Previous | None = None
        self._drive: _Drive | None = None

    def image_goal(self, data: bytes) -> ImageGoal:
        """A goal from JPEG or PNG bytes.

        Raises:
            V2WError: no picture, or one that is cut off.
        """
        try:
            frame = decode_image(data, field="goal_image")
        except DataError as error:
            raise V2WError(error.field, error.rule, error.value) from error
        return ImageGoal(self._model, resize_frame(frame, self._model.config.observation))

    def plan(
        self,
        snapshot: Snapshot,
        goal: Goal,
        key: object,
        settings: PlanSettings,
        on_iteration: Callable[[IterationReport], bool | None] | None = None,
        interrupt: Callable[[], bool] | None = None,
        began: float | None = None,
    ) -> PlanOutcome:
        """Plan from a history to a goal.

        Args:
            key: what tells goals apart; an equal key warm-starts from the previous plan. A request
                with a seed of its own never does, so that it can be repeated.
            interrupt: asked before every imagined frame; True cancels.
            began: when the time budget began to run (time.perf_counter); None: now. A plan that
                is made once more, on another device, gets what is left.

        Raises:
            NodeError: NO_VALID_PLAN when no candidate had a finite cost.
            V2WError: numbers out of range.
        """
        if began is None:
            began = time.perf_counter()
        spec = self._model.config.action
        seed = settings.seed
        if seed is None:
            seed = int(self._seeds.integers(2**31))
        x, y, _, yaw = (float(value) for value in snapshot.poses[-1])
        here = (x, y, yaw)
        # The robot may have moved a little beyond what it is allowed to choose.
        actions = snapshot.actions
        observation = Observation(snapshot.frames, actions, here)
        drive = self._drive_to(goal, key) if settings.drive else _Drive(key, goal)
        goal = drive.goal
        session = self._model.start(snapshot.frames, actions, seed=seed)
        arrival = goal.arrival(observation)
        planner = Planner(spec, settings.horizon, imagination=settings.imagination)
        left_s = max(settings.time_budget_s - (time.perf_counter() - began), 1e-3)
        result = planner.plan(
            session,
            drive.blocked_motion.added_to(goal.cost(observation), here),
            deadline_s=left_s,
            num_iterations=settings.num_iterations,
            num_candidates=settings.num_candidates,
            seed=seed,
            warm_start=self._warm_start(key, settings),
            previous_action=spec.clip(actions[-1]),
            on_iteration=on_iteration,
            interrupt=interrupt,
        )
        if not np.isfinite(result.cost) and not result.cancelled:
            rule = "at least one candidate with a finite cost"
            raise NodeError("plan", rule, result.cost, code="NO_VALID_PLAN")
        if not arrival.arrived:
            arrival = goal.arrival(observation, result)
        if not result.cancelled:
            self._previous = _Previous(
                key, result.action_sequence, settings.execute_steps, time.monotonic()
            )
        return PlanOutcome(result, arrival, time.perf_counter() - began)

    def sent(self, pose: Pose, actions: NDArray[np.float32]) -> None:
        """The robot begins to drive these actions [n, A] at ``pose`` (odometry frame)."""
        drive = self._drive  # another thread may forget it meanwhile
        if drive is not None:
            columns = list(self._model.config.action.planar_indices())
            drive.blocked_motion.sent(pose, actions[:, columns])

    def executed(self, pose: Pose) -> None:
        """What was sent last was driven to its end, and the robot is at ``pose``."""
        drive = self._drive
        if drive is not None:
            drive.blocked_motion.executed(pose)

    def forget_drive(self) -> None:
        """Poses of before no longer mean anything."""
        self._drive = self._previous = None

    def _drive_to(self, goal: Goal, key: object) -> _Drive:
        """The drive that goes on, or a new one to another goal."""
        drive = self._drive
        if drive is None or drive.key != key:
            drive = self._drive = _Drive(key, goal)
        return drive

    def _warm_start(self, key: object, settings: PlanSettings) -> NDArray[np.float32] | None:
        previous = self._previous
        if previous is None or settings.seed is not None or previous.key != key:
            return None
        if time.monotonic() - previous.made_at > WARM_START_S:
            return None
        if len(previous.plan) != settings.horizon:
            return None
        return shift(previous.plan, min(previous.execute_steps, settings.horizon))


def pose_goal(
    pose: tuple[float, float, float],
    frame_id: str,
    *,
    odom_frame: str,
    base_frame: str,
    here: tuple[float, float, float],
    tolerance_m: float,
    tolerance_rad: float,
) -> PoseGoal:
    """A goal pose (x, y, yaw) as the planner wants it: in the odometry frame.

    Args:
        frame_id: the odometry frame, empty (the same), or the body frame (relative to ``here``).

    Raises:
        NodeError: TF_ERROR for any other frame.
    """
    if frame_id == base_frame and base_frame:
        x, y, yaw = (float(v) for v in integrate_actions(np.array([pose]), here)[-1])
    elif frame_id in ("", odom_frame):
        x, y, yaw = pose[0], pose[1], float(wrap_angle(pose[2]))
    else:
        rule = f"{odom_frame!r} (fixed) or {base_frame!r} (relative to the robot)"
        raise NodeError("goal_pose.header.frame_id", rule, frame_id, code="TF_ERROR")
    return PoseGoal((x, y, yaw), tolerance_m=tolerance_m, tolerance_rad=tolerance_rad)
