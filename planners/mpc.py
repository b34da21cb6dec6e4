"""Model predictive control: plan, execute the first actions, look again, plan from there.

``MPC`` decides when to plan, as in ``v2w evaluate planning``; it holds no clock, no thread and no
ROS. The planner node is asked for each plan instead (``v2w.navigation.planning``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from planners.costs.base import Cost
from planners.costs.blocked_motion import BlockedMotionMemory, Pose
from planners.goals import Arrival, Goal, ImageGoal, Observation, PoseGoal
from planners.optimizers.base import shift
from planners.planner import IterationReport, Planner, PlanResult
from planners.protocols import FloatArray, ImaginationModel
from v2w_core.errors import V2WError

__all__ = [
    "MPC",
    "Arrival",
    "Decision",
    "Goal",
    "ImageGoal",
    "IterationReport",
    "Observation",
    "PlanResult",
    "Planner",
    "PoseGoal",
]


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
    """A receding horizon: every decision starts from the rest of the plan before.

    Args:
        planner: optimiser, bounds, horizon.
        goal: where to.
        model: the world model; None for goals whose cost imagines nothing.
        num_execute: actions of a plan that are executed before the next one.
        num_candidates, num_iterations, deadline_s: of every plan.
        seed: of the first plan; each later plan counts one up.
        learn_blocked_motion: what is decided is executed, so that odometry shows which commands a
            wall blocked; plans then keep away from there (needs observed poses). Off where somebody
            only asks for plans.
    """

    planner: Planner
    goal: Goal
    model: ImaginationModel | None = None
    num_execute: int = 1
    num_candidates: int = 64
    num_iterations: int = 3
    deadline_s: float | None = None
    seed: int = 0
    learn_blocked_motion: bool = False
    num_plans: int = field(default=0, init=False)
    _rest: FloatArray | None = field(default=None, init=False, repr=False)
    _blocked_motion: BlockedMotionMemory = field(
        default_factory=BlockedMotionMemory, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not 1 <= self.num_execute <= self.planner.horizon:
            rule = f"from 1 to the horizon {self.planner.horizon}"
            raise V2WError("num_execute", rule, self.num_execute)

    def reset(self) -> None:
        """Forgets the last plan (after the robot was moved by something else)."""
        self._rest = None
        self._blocked_motion.forget_sent()

    def decide(
        self,
        observation: Observation,
        *,
        on_iteration: Callable[[IterationReport], bool | None] | None = None,
        warm_start: ArrayLike | None = None,
    ) -> Decision:
        """Looks, plans and chooses the next actions.

        Args:
            observation: history, newest frame last; the pose where the goal needs it.
            on_iteration: as in ``Planner.plan``.
            warm_start: replaces the rest of the last plan.
        """
        arrival = self.goal.arrival(observation)
        if arrival.arrived:
            return Decision(self._none(), arrival, None)
        session = None
        if self.model is not None:
            session = self.model.start(observation.frames, observation.actions, seed=self.seed)
        actions = np.asarray(observation.actions, dtype=np.float32)
        plan = self.planner.plan(
            session,
            self._cost(observation),
            deadline_s=self.deadline_s,
            num_iterations=self.num_iterations,
            num_candidates=self.num_candidates,
            seed=self.seed + self.num_plans,
            warm_start=self._rest if warm_start is None else warm_start,
            previous_action=actions[-1] if len(actions) else None,
            on_iteration=on_iteration,
        )
        self.num_plans += 1
        self._rest = shift(plan.action_sequence, self.num_execute)
        arrival = self.goal.arrival(observation, plan)
        if arrival.arrived or plan.cancelled:
            return Decision(self._none(), arrival, plan)
        chosen = plan.action_sequence[: self.num_execute]
        pose = self._odometry(observation)
        if pose is not None:
            columns = list(self.planner.spec.planar_indices())
            self._blocked_motion.sent(pose, chosen[:, columns])
        return Decision(chosen, arrival, plan)

    def _cost(self, observation: Observation) -> Cost:
        """The goal's cost, and what was learned of walls on the way."""
        cost, pose = self.goal.cost(observation), self._odometry(observation)
        if pose is None:
            return cost
        self._blocked_motion.executed(pose)
        return self._blocked_motion.added_to(cost, pose)

    def _odometry(self, observation: Observation) -> Pose | None:
        """The pose that blocked motion is learned from; None where they are not."""
        return (
            observation.pose if self.learn_blocked_motion and self.planner.spec.is_planar else None
        )

    def _none(self) -> FloatArray:
        return np.zeros((0, self.planner.spec.dim), dtype=np.float32)
