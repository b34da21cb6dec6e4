"""One plan: an optimiser, a session, a cost, and a deadline that is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from planners.bounds import Bounds
from planners.costs.base import Cost, planar_path
from planners.deadline import Clock
from planners.optimizers.base import Optimizer
from planners.optimizers.cem import CEM
from planners.protocols import FloatArray, Session
from planners.scoring import Scorer
from planners.settings import ImaginationSettings
from v2w_core.errors import Interrupted, V2WError
from v2w_core.spec import ActionSpec


@dataclass(frozen=True)
class IterationReport:
    """Sent after every iteration: how far the plan is.

    Attributes:
        iteration: 1 after the first.
        cost: of the best sequence so far.
        action_sequence: that sequence [horizon, A].
        frames_imagined, elapsed_s: since the plan began.
        mean_cost: of this iteration's candidates that were scored in full; infinity: none was.
        num_scored: candidates since the plan began, also those that were only looked at coarsely.
    """

    iteration: int
    num_iterations: int
    cost: float
    action_sequence: FloatArray
    frames_imagined: int
    elapsed_s: float
    mean_cost: float
    num_scored: int


@dataclass(frozen=True)
class PlanResult:
    """The best sequence that was found, and how.

    Attributes:
        action_sequence: [horizon, A] in physical units, within the bounds.
        cost: its cost; infinity when no candidate had a finite cost.
        cost_curve: the best cost after each iteration.
        latents: the imagined future of the best sequence [horizon, C, h, w]; None when nothing
            was imagined.
        poses: [horizon + 1, 3] (x m, y m, yaw rad) in the current body frame, imagined where the
            session predicts motion, otherwise integrated from the actions; None when the action
            space is not planar.
        candidates, costs: the last iteration's [K, horizon, A] and [K]; infinity for those that
            screening or the deadline left out.
        ranking: indices of these candidates, best first: those with a cost, then those that
            screening left out. What the deadline left out is missing.
        num_iterations: iterations that were done, an incomplete last one included.
        frames_imagined: by the world model, in all.
        planning_s: wall-clock time.
        timed_out: the deadline ended the plan early. cancelled: ``on_iteration`` or ``interrupt``
            did.
    """

    action_sequence: FloatArray
    cost: float
    cost_curve: tuple[float, ...]
    latents: Tensor | None
    poses: NDArray[np.float64] | None
    candidates: FloatArray
    costs: NDArray[np.float64]
    ranking: NDArray[np.intp]
    num_iterations: int
    frames_imagined: int
    planning_s: float
    timed_out: bool
    cancelled: bool


@dataclass(frozen=True)
class Planner:
    """Plans action sequences; holds settings only.

    Args:
        spec: the action space (of the checkpoint).
        horizon: steps of a plan.
        optimizer: any of ``planners.optimizers``.
        max_change: rate limits [A], largest change from step to step; None: none.
        imagination: denoising steps, guidance and screening.
        chunk_size: most candidates that are scored between two looks at the clock (only with a
            deadline; without one all are one chunk). The session computes a chunk in as many
            parts as its memory budget asks for. Screening chooses in each chunk by itself.
        constraint: moves candidates [K, horizon, A] to what the robot can do, within the bounds
            (e.g. a base that cannot go sideways); None: it can do all.
    """

    spec: ActionSpec
    horizon: int = 8
    optimizer: Optimizer[Any] = field(default_factory=CEM)
    max_change: Sequence[float] | None = None
    imagination: ImaginationSettings = field(default_factory=ImaginationSettings)
    chunk_size: int = 64
    constraint: Callable[[FloatArray], FloatArray] | None = None

    def plan(
        self,
        session: Session | None,
        cost: Cost,
        *,
        deadline_s: float | None = None,
        num_iterations: int = 3,
        num_candidates: int = 64,
        seed: int = 0,
        warm_start: ArrayLike | None = None,
        previous_action: ArrayLike | None = None,
        on_iteration: Callable[[IterationReport], bool | None] | None = None,
        interrupt: Callable[[], bool] | None = None,
        imagine_best: bool = True,
    ) -> PlanResult:
        """The best sequence that can be found; with a deadline, the best by then.

        Args:
            session: the observed history; None for costs that imagine nothing.
            cost: what to minimise.
            deadline_s: seconds from now. At least one chunk of candidates is always scored.
            num_iterations: of the optimiser.
            num_candidates: most in an iteration (see ``CEM.population_decay``); none is imagined
                twice, and most only for a part of the way (see :class:`ImaginationSettings`).
            seed: of the samples and of the imagination; the same seed gives the same plan (a
                deadline that is hit makes the number of scored candidates depend on the clock).
            warm_start: [horizon, A] or several [N, horizon, A] to start from, e.g. ``shift`` of
                the previous plan.
            previous_action: [A], for rate limits and smoothness.
            on_iteration: called after every iteration; returning False cancels.
            interrupt: asked before every imagined frame, from the first on; True cancels.
            imagine_best: imagine the best sequence for the result when the cost needed no
                imagination.

        Raises:
            V2WError: a number out of range or an array of the wrong shape.
        """
        _check(num_iterations, num_candidates, deadline_s)
        clock = Clock(deadline_s)
        bounds = Bounds.from_spec(
            self.spec, max_change=self.max_change, previous_action=previous_action
        )
        state = self.optimizer.init(
            bounds, self.horizon, num_candidates=num_candidates, seed=seed, warm_start=warm_start
        )
        scorer = Scorer(
            session, cost, self.spec, clock, self.imagination, seed, self.chunk_size,
            previous_action=bounds.previous_action, interrupt=interrupt,
        )  # fmt: skip
        curve: list[float] = []
        num_scored = 0
        cancelled = False
        for iteration in range(1, num_iterations + 1):
            candidates = self.optimizer.ask(state, final=iteration == num_iterations)
            if self.constraint is not None:
                candidates = self.constraint(candidates)
            costs, ranking = scorer(candidates)
            if not np.isfinite(costs).any() and scorer.timed_out and curve:
                break
            last = (candidates, costs, ranking)
            state = self.optimizer.tell(state, candidates, costs, ranking)
            curve.append(state.best_cost)
            cancelled = scorer.is_interrupted()
            scored = costs[np.isfinite(costs)]
            num_scored += ranking.size
            if on_iteration is not None and not cancelled:
                report = IterationReport(
                    iteration, num_iterations, state.best_cost, state.best_sequence,
                    scorer.frames_imagined, clock.elapsed_s,
                    float(scored.mean()) if scored.size else np.inf, num_scored,
                )  # fmt: skip
                cancelled = on_iteration(report) is False
            if cancelled or scorer.timed_out:
                break
        best = state.best_sequence
        latents = scorer.best_latents
        ended = cancelled or scorer.timed_out
        if latents is None and session is not None and imagine_best and not ended:
            try:
                context = scorer.context(best[None])
                scorer.frames_imagined += context.rollouts.frames_imagined
                latents = context.latents[0]
                if scorer.predicts_motion:
                    scorer.best_poses = context.poses[0]
            except Interrupted:
                cancelled = scorer.is_interrupted()
        return PlanResult(
            action_sequence=best,
            cost=state.best_cost,
            cost_curve=tuple(curve),
            latents=latents,
            poses=self._poses(best, scorer),
            candidates=last[0],
            costs=last[1],
            ranking=last[2],
            num_iterations=len(curve),
            frames_imagined=scorer.frames_imagined,
            planning_s=clock.elapsed_s,
            timed_out=scorer.timed_out,
            cancelled=cancelled,
        )

    def _poses(self, best: FloatArray, scorer: Scorer) -> NDArray[np.float64] | None:
        """Where the best sequence leads to; commands are integrated where nothing was imagined."""
        if scorer.best_poses is not None or not self.spec.is_planar:
            return scorer.best_poses
        return planar_path(best, self.spec)


def _check(num_iterations: int, num_candidates: int, deadline_s: float | None) -> None:
    for name, value in (("num_iterations", num_iterations), ("num_candidates", num_candidates)):
        if value < 1:
            raise V2WError(name, "at least 1", value)
    if deadline_s is not None and not deadline_s > 0:
        raise V2WError("deadline_s", "a positive number of seconds", deadline_s)
