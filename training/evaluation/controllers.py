"""The controllers that ``v2w evaluate planning`` compares; each goal gets new instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planners.goals import Arrival, ImageGoal, PoseGoal
from planners.mpc import MPC, Decision
from planners.observation import Observation
from planners.planner import Planner
from planners.protocols import ImaginationModel
from planners.settings import SCREENED, ImaginationSettings
from training.evaluation.cloning import ClonedPolicy, CloningController
from training.evaluation.goals import GoalCase
from training.evaluation.oracle import OracleGoal
from v2w_core.spec import ActionSpec

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv


class Controller(Protocol):
    """Chooses actions towards a goal."""

    def decide(self, observation: Observation) -> Decision:
        """The next actions, or arrival, which ends the run."""
        ...


@dataclass(frozen=True)
class Settings:
    """Settings of the planners.

    Attributes:
        num_candidates, num_iterations, horizon: sizes of CEM.
        num_execute: number of actions of a plan that are executed before the next plan.
        deadline_s: time limit of a plan with the world model in seconds; None: no limit.
        imagination: imagination settings of ``cem``.
        goal: what ``cem`` is told of the goal, its image or its pose in odometry.
    """

    num_candidates: int = 64
    num_iterations: int = 3
    horizon: int = 8
    num_execute: int = 1
    deadline_s: float | None = None
    imagination: ImaginationSettings = SCREENED
    goal: Literal["image", "pose"] = "image"


@dataclass
class RandomController:
    """Uniform random actions within the bounds; never stops."""

    spec: ActionSpec
    rng: np.random.Generator

    def decide(self, observation: Observation) -> Decision:
        low, high = np.asarray(self.spec.low), np.asarray(self.spec.high)
        action = self.rng.uniform(low, high).astype(np.float32)
        return Decision(self.spec.clip(action[None]), Arrival(False, np.nan), None)


@dataclass(frozen=True)
class Factory:
    """Creates controllers by name.

    Attributes:
        env: the simulator, whose map only the oracle knows.
        model: the world model; None if ``cem`` is not used.
        spec: the action space.
        settings: settings of the planners.
        policy: of behaviour cloning; None if ``bc`` is not used.
    """

    env: DoomMazeEnv
    model: ImaginationModel | None
    spec: ActionSpec
    settings: Settings
    policy: ClonedPolicy | None = None

    def make(
        self, name: str, case: GoalCase, goal_image: NDArray[np.uint8], seed: int
    ) -> Controller:
        """A new controller for a goal; ``name`` is one of ``PLANNERS``."""
        return PLANNERS[name](self, case, goal_image, seed)

    def cem(self, case: GoalCase, goal_image: NDArray[np.uint8], seed: int) -> Controller:
        """CEM in the world model; it knows the goal's image, or its pose, and nothing else."""
        assert self.model is not None
        settings = self.settings
        planner = Planner(self.spec, settings.horizon, imagination=settings.imagination)
        goal: ImageGoal | PoseGoal = PoseGoal(case.goal_pose)
        if settings.goal == "image":
            goal = ImageGoal(self.model, goal_image)
        return self._mpc(planner, goal, self.model, seed)

    def random(self, case: GoalCase, goal_image: NDArray[np.uint8], seed: int) -> Controller:
        """Uniform random actions."""
        return RandomController(self.spec, np.random.default_rng(seed))

    def straight(self, case: GoalCase, goal_image: NDArray[np.uint8], seed: int) -> Controller:
        """Plans to the goal's pose without a model of the walls: the straight way, then a turn."""
        planner = Planner(self.spec, self.settings.horizon)
        return self._mpc(planner, PoseGoal(case.goal_pose), None, seed, num_iterations=8)

    def bc(self, case: GoalCase, goal_image: NDArray[np.uint8], seed: int) -> Controller:
        """Behaviour cloning; it knows the goal's image only."""
        assert self.policy is not None
        return CloningController.to(self.policy, self.spec, goal_image)

    def oracle(self, case: GoalCase, goal_image: NDArray[np.uint8], seed: int) -> Controller:
        """CEM with the map as the model and the shortest way as the cost: the upper bound."""
        planner = Planner(self.spec, self.settings.horizon)
        goal = OracleGoal(self.env.paths, PoseGoal(case.goal_pose))
        return self._mpc(planner, goal, None, seed, num_iterations=8)

    def _mpc(
        self,
        planner: Planner,
        goal: ImageGoal | PoseGoal | OracleGoal,
        model: ImaginationModel | None,
        seed: int,
        num_iterations: int | None = None,
    ) -> MPC:
        settings = self.settings
        return MPC(
            planner,
            goal,
            model,
            num_execute=settings.num_execute,
            num_candidates=settings.num_candidates,
            num_iterations=num_iterations or settings.num_iterations,
            deadline_s=settings.deadline_s if model is not None else None,
            seed=seed,
            learn_blocked_motion=model is not None,
        )


Maker = Callable[[Factory, GoalCase, NDArray[np.uint8], int], Controller]
PLANNERS: dict[str, Maker] = {
    "cem": Factory.cem,
    "random": Factory.random,
    "straight": Factory.straight,
    "bc": Factory.bc,
    "oracle": Factory.oracle,
}
