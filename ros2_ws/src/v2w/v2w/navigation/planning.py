"""One planning request from goal to plan, without ROS: what planner_node decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planners.costs.blocked_motion import WALL
from planners.costs.settings import IMAGE_GOAL_COSTS, POSE_GOAL_COSTS, Terms
from planners.goals import Arrival, Goal, ImageGoal, PoseGoal
from planners.mpc import MPC, Drive
from planners.observation import Observation
from planners.planner import IterationReport, Planner, PlanResult
from planners.protocols import Pose
from planners.settings import SCREENED, ImaginationSettings
from v2w.errors import NodeError
from v2w.navigation.history import Snapshot
from v2w.safety.limits import Limits
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
    what the camera saw and the walls that were touched on the way to this goal count, those with
    ``blocked_motion_weight``. ``limits``: of the robot; plans keep to them. None: to the model's
    bounds only.
    """

    horizon: int
    num_iterations: int
    num_candidates: int
    time_budget_s: float
    seed: int | None
    execute_steps: int
    drive: bool = False
    blocked_motion_weight: float = WALL
    imagination: ImaginationSettings = SCREENED
    limits: Limits | None = None


@dataclass(frozen=True)
class PlanOutcome:
    """What a request leads to.

    ``planning_s`` includes encoding the history; ``num_scored`` counts candidates, also those that
    were only looked at coarsely.
    """

    result: PlanResult
    arrival: Arrival
    planning_s: float
    num_scored: int = 0


class PlanningCore:
    """Plans with one model; the next plan to the same goal starts from the rest of the last.

    Args:
        seed: of the seeds of requests that bring none; None: others every time.
    """

    def __init__(self, model: Any, seed: int | None = None) -> None:
        self._model = model
        self._seeds = np.random.default_rng(seed)
        self.forget_drive()

    def image_goal(self, data: bytes, costs: Terms = IMAGE_GOAL_COSTS) -> ImageGoal:
        """A goal from JPEG or PNG bytes, with the terms of its plans' cost.

        Raises:
            V2WError: no picture, or one that is cut off.
        """
        latest = self._image  # another thread may forget it meanwhile
        if latest is not None and (latest[0], latest[1].costs) == (data, costs):
            return latest[1]  # which has encoded the picture already
        try:
            frame = decode_image(data, field="goal_image")
        except DataError as error:
            raise V2WError(error.field, error.rule, error.value) from error
        frame = resize_frame(frame, self._model.config.observation)
        goal = ImageGoal(self._model, frame, costs=costs)
        self._image = data, goal
        return goal

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
        seed = settings.seed
        if seed is None:
            seed = int(self._seeds.integers(2**31))
        x, y, _, yaw = (float(value) for value in snapshot.poses[-1])
        spec = self._model.config.action
        constraint, limits = None, settings.limits
        if limits is not None:
            spec = limits.bounds(spec)
            if not limits.holonomic:
                constraint = partial(limits.drivable, spec)
        planner = Planner(
            spec, settings.horizon, imagination=settings.imagination, constraint=constraint
        )
        mpc = MPC(
            planner,
            goal,
            self._model,
            num_execute=settings.execute_steps,
            num_candidates=settings.num_candidates,
            num_iterations=settings.num_iterations,
            deadline_s=settings.time_budget_s,
            seed=seed,
            remember_views=settings.drive,
            learn_blocked_motion=settings.drive,
            blocked_motion_weight=settings.blocked_motion_weight,
            max_warm_start_age_s=WARM_START_S if settings.seed is None else 0.0,
            drive=self._drive_to(key, settings.drive),
        )
        observation = Observation(snapshot.frames, snapshot.actions, (x, y, yaw))
        num_scored = 0

        def count(report: IterationReport) -> bool | None:
            nonlocal num_scored
            num_scored = report.num_scored
            return None if on_iteration is None else on_iteration(report)

        decision = mpc.plan(observation, began=began, on_iteration=count, interrupt=interrupt)
        result = decision.plan
        assert result is not None
        if not np.isfinite(result.cost) and not result.cancelled:
            rule = "at least one candidate with a finite cost"
            raise NodeError("plan", rule, result.cost, code="NO_VALID_PLAN")
        return PlanOutcome(result, decision.arrival, time.perf_counter() - began, num_scored)

    def sent(self, pose: Pose, actions: NDArray[np.float32]) -> None:
        """The robot begins to drive these actions [n, A] at ``pose`` (odometry frame)."""
        for drive in (self._drive, self._proposed):  # another thread may forget them meanwhile
            drive.sent(pose, actions, self._model.config.action)

    def executed(self, pose: Pose) -> None:
        """What was sent last was driven to its end, and the robot is at ``pose``."""
        for drive in (self._drive, self._proposed):
            drive.executed(pose)

    def forget_drive(self) -> None:
        """Poses of before, or what the model has encoded, no longer mean anything."""
        self._drive = Drive()
        self._proposed = Drive()  # of plans that were only asked for
        self._image: tuple[bytes, ImageGoal] | None = None

    def _drive_to(self, key: object, driven: bool) -> Drive:
        """The drive that goes on, or a new one to another goal."""
        if driven:
            self._drive = self._drive.to(key)
            return self._drive
        self._proposed = self._proposed.to(key)
        return self._proposed


def pose_goal(
    pose: tuple[float, float, float],
    frame_id: str,
    *,
    odom_frame: str,
    base_frame: str,
    here: tuple[float, float, float],
    tolerance_m: float,
    tolerance_rad: float,
    costs: Terms = POSE_GOAL_COSTS,
) -> PoseGoal:
    """A goal pose (x, y, yaw) as the planner wants it: in the odometry frame.

    Args:
        frame_id: the odometry frame, empty (the same), or the body frame (relative to ``here``).
        costs: the terms of a plan's cost.

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
    return PoseGoal((x, y, yaw), tolerance_m, tolerance_rad, costs)
