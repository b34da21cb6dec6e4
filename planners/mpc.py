"""Model predictive control: plan, execute the first actions, look again, plan from there.

The one receding horizon: ``v2w evaluate planning`` asks it what to do (``decide``), planner_node
asks it for each plan and tells its drive what was executed (``plan``; see
``v2w.navigation.planning``). It holds no thread and no ROS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from planners.costs.base import Cost
from planners.costs.blocked_motion import WALL
from planners.drive import Drive
from planners.goals import Arrival, Goal, ImageGoal, PoseGoal
from planners.observation import Observation
from planners.planner import IterationReport, Planner, PlanResult
from planners.protocols import FloatArray, ImaginationModel, Session
from v2w_core.errors import V2WError

__all__ = [
    "MPC",
    "Arrival",
    "Decision",
    "Drive",
    "Goal",
    "ImageGoal",
    "IterationReport",
    "Observation",
    "PlanResult",
    "Planner",
    "PoseGoal",
]

#: What is left of a deadline is never less than this [s]: some candidates are always scored.
LEAST_S = 1e-3


@dataclass(frozen=True)
class Decision:
    """What to do now.

    Attributes:
        actions: [n, A] to execute before deciding again; no rows when the robot has arrived.
        arrival: what the robot believes.
        plan: the plan behind it; None when it arrived without having to plan.
    """

    actions: FloatArray
    arrival: Arrival
    plan: PlanResult | None


@dataclass
class MPC:
    """A receding horizon: every plan starts from what is left of the plan before.

    Args:
        planner: optimiser, bounds, horizon.
        goal: where to.
        model: the world model; None for goals whose cost imagines nothing.
        num_execute: actions of a plan that are executed before the next one.
        num_candidates, num_iterations: of every plan.
        deadline_s: of every plan, encoding the history included; None: no limit.
        seed: of the history's noise and of the first plan; each later plan counts one up.
        remember_views: what the camera saw on the way counts (see ``ImageGoal``).
        learn_blocked_motion: odometry shows which commands a wall blocked; plans then keep away
            from there (needs observed poses). Off where what was sent is not executed.
        blocked_motion_weight: cost of a way through a wall that was touched.
        max_warm_start_age_s: a plan that is older says nothing about the next one; 0: each plan
            starts from nothing.
        drive: what earlier plans to this goal have left.
    """

    planner: Planner
    goal: Goal
    model: ImaginationModel | None = None
    num_execute: int = 1
    num_candidates: int = 64
    num_iterations: int = 3
    deadline_s: float | None = None
    seed: int = 0
    remember_views: bool = True
    learn_blocked_motion: bool = False
    blocked_motion_weight: float = WALL
    max_warm_start_age_s: float = math.inf
    drive: Drive = field(default_factory=Drive, repr=False)
    num_plans: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.num_execute <= self.planner.horizon:
            rule = f"from 1 to the horizon {self.planner.horizon}"
            raise V2WError("num_execute", rule, self.num_execute)

    def reset(self) -> None:
        """Forgets the last plan (after the robot was moved by something else)."""
        self.drive.forget_plan()

    def decide(
        self,
        observation: Observation,
        *,
        on_iteration: Callable[[IterationReport], bool | None] | None = None,
        interrupt: Callable[[], bool] | None = None,
        warm_start: ArrayLike | None = None,
    ) -> Decision:
        """The next actions, which the caller executes before it asks again.

        Nothing is planned where the robot has arrived.

        Args:
            observation: history, newest frame last; the pose where the goal needs it.
            on_iteration, interrupt: as in ``Planner.plan``.
            warm_start: replaces the rest of the last plan.
        """
        began = time.perf_counter()
        self.drive.executed(observation.pose)
        session, seen = self._begin(observation)
        arrival = self._arrival(seen)
        if arrival.arrived:
            return Decision(self._none(), arrival, None)
        decision = self._plan(session, seen, arrival, began, on_iteration, interrupt, warm_start)
        if len(decision.actions):
            self.drive.sent(observation.pose, decision.actions, self.planner.spec)
        return decision

    def plan(
        self,
        observation: Observation,
        *,
        began: float | None = None,
        on_iteration: Callable[[IterationReport], bool | None] | None = None,
        interrupt: Callable[[], bool] | None = None,
    ) -> Decision:
        """A plan, also where the robot has arrived; it is only a proposal.

        Whoever executes actions of it says so: ``drive.sent`` when they begin, ``drive.executed``
        when they have ended.

        Args:
            observation: as in ``decide``.
            began: when the deadline began to run (``time.perf_counter``); None: now.
            on_iteration, interrupt: as in ``Planner.plan``.
        """
        began = time.perf_counter() if began is None else began
        session, seen = self._begin(observation)
        arrival = self._arrival(seen)
        return self._plan(session, seen, arrival, began, on_iteration, interrupt, None)

    def _begin(self, observation: Observation) -> tuple[Session | None, Observation]:
        """The session of a plan, and the observation with the latents that it has encoded."""
        if self.model is None:
            return None, observation
        session = self.model.start(observation.frames, observation.actions, seed=self.seed)
        return session, observation.encoded_by(session)

    def _arrival(self, seen: Observation, plan: PlanResult | None = None) -> Arrival:
        return self.goal.arrival(seen, plan, self.drive.views if self.remember_views else None)

    def _plan(
        self,
        session: Session | None,
        seen: Observation,
        arrival: Arrival,
        began: float,
        on_iteration: Callable[[IterationReport], bool | None] | None,
        interrupt: Callable[[], bool] | None,
        warm_start: ArrayLike | None,
    ) -> Decision:
        cost, planner, drive = self._cost(seen), self.planner, self.drive
        if warm_start is None:
            warm_start = drive.warm_start(planner.horizon, seen.pose, self.max_warm_start_age_s)
        left_s = None
        if self.deadline_s is not None:
            left_s = max(self.deadline_s - (time.perf_counter() - began), LEAST_S)
        actions = np.asarray(seen.actions, dtype=np.float32)
        plan = planner.plan(
            session,
            cost,
            deadline_s=left_s,
            num_iterations=self.num_iterations,
            num_candidates=self.num_candidates,
            seed=self.seed + self.num_plans,
            warm_start=warm_start,
            previous_action=actions[-1] if len(actions) else None,
            on_iteration=on_iteration,
            interrupt=interrupt,
        )
        self.num_plans += 1
        if not plan.cancelled and np.isfinite(plan.cost):
            drive.planned(plan.action_sequence)
        if not arrival.arrived:
            arrival = self._arrival(seen, plan)
        if arrival.arrived or plan.cancelled:
            return Decision(self._none(), arrival, plan)
        return Decision(plan.action_sequence[: self.num_execute], arrival, plan)

    def _cost(self, seen: Observation) -> Cost:
        """The goal's cost, and what was learned on the way; this view is remembered from now on."""
        drive = self.drive
        if self.remember_views:
            cost = self.goal.cost(seen, drive.views)
            self.goal.observe(seen, drive.views)
        else:
            cost = self.goal.cost(seen)
        if self.learn_blocked_motion and seen.pose is not None and self.planner.spec.is_planar:
            cost = drive.blocked_motion.added_to(cost, seen.pose, self.blocked_motion_weight)
        return cost

    def _none(self) -> FloatArray:
        return np.zeros((0, self.planner.spec.dim), dtype=np.float32)
