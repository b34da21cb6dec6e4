"""Scores candidates in chunks against a clock and keeps the cheapest rollout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from planners.costs.base import Cost, CostContext, Costs
from planners.deadline import Clock
from planners.protocols import CandidateRollout, FloatArray, Rollouts, Session
from planners.screening import screen
from planners.settings import ImaginationSettings
from v2w_core.errors import Interrupted, V2WError
from v2w_core.spec import ActionSpec


class Scores(NamedTuple):
    """What is known of K candidates.

    Attributes:
        costs: float64 [K]; infinity for those that were not scored in full, or have no finite cost.
        ranking: indices, best first: those with a cost, then those that were only looked at
            coarsely, in the order of that look. A candidate that is in neither part is left out.
    """

    costs: Costs
    ranking: NDArray[np.intp]


@dataclass
class Scorer:
    """Costs of candidates under one cost and one session, within one plan.

    Attributes:
        best_cost, best_latents, best_poses: of the cheapest candidate scored in full; its imagined
            latents [horizon, C, h, w] and, where the session predicts motion, its poses
            [horizon + 1, 3] are None when the cost did not need any.
        frames_imagined: in all chunks.
        timed_out: the deadline left at least one candidate without a cost.
        interrupt: where it says True, what is being imagined is given up.
    """

    session: Session | None
    cost: Cost
    spec: ActionSpec
    clock: Clock
    settings: ImaginationSettings
    seed: int
    chunk_size: int
    previous_action: FloatArray | None = None
    interrupt: Callable[[], bool] | None = None
    best_cost: float = math.inf
    best_latents: Tensor | None = None
    best_poses: NDArray[np.float64] | None = None
    frames_imagined: int = 0
    timed_out: bool = False
    _scored: int = 0

    def __call__(self, candidates: FloatArray) -> Scores:
        """Costs and ranking of candidates [K, horizon, A]; the deadline may leave some out."""
        costs, coarse = np.full((2, len(candidates)), np.inf)
        done = 0
        while done < len(candidates):
            size = self.clock.chunk(len(candidates) - done, self.chunk_size)
            if size == 0 and self._scored > 0:
                self.timed_out = True
                break
            chunk = slice(done, done + max(size, 1))
            try:
                costs[chunk], coarse[chunk] = self._score(candidates[chunk])
            except Interrupted:
                self.timed_out = not self.is_interrupted()
                break
            done = chunk.stop
        return Scores(costs, np.concatenate([_finite_order(costs), _finite_order(coarse)]))

    def _score(self, candidates: FloatArray) -> tuple[Costs, Costs]:
        """Costs of those imagined in full, and coarse costs of the others; infinity elsewhere."""
        began = time.perf_counter()
        costs, coarse = np.full((2, len(candidates)), np.inf)
        chosen: NDArray[np.intp] = np.arange(len(candidates))
        if self._screens(candidates):
            screened = screen(candidates, self.settings, self._rollout, self._coarse_cost)
            coarse, chosen = screened.coarse_costs, screened.chosen
            context = self._context(candidates[chosen], lambda _: screened.rollouts)
            self.frames_imagined += screened.frames_imagined
            costs[chosen] = self._costs(context)
        else:
            context = self.context(candidates)
            costs[:] = self._costs(context)
            if context.was_imagined:
                self.frames_imagined += context.rollouts.frames_imagined
        coarse[chosen] = np.inf
        best = int(np.argmin(costs[chosen]))
        if costs[chosen[best]] < self.best_cost:
            self.best_cost = float(costs[chosen[best]])
            self.best_latents = context.latents[best].clone() if context.was_imagined else None
            if self.predicts_motion and context.was_imagined:
                self.best_poses = context.poses[best]
        self._scored += len(candidates)
        self.clock.note(len(candidates), time.perf_counter() - began)
        return costs, coarse

    @property
    def predicts_motion(self) -> bool:
        """Whether poses are imagined."""
        return self.session is not None and self.session.predicts_motion

    def _screens(self, candidates: FloatArray) -> bool:
        """Whether a coarse look saves anything: it is coarser, and the cost looks at all."""
        needed = self.predicts_motion or getattr(self.cost, "needs_rollouts", True)
        return self.session is not None and needed and self.settings.screens(candidates.shape[1])

    def _coarse_cost(self, candidates: FloatArray, rollouts: Rollouts) -> Costs:
        return self._costs(self._context(candidates, lambda _: rollouts))

    def _costs(self, context: CostContext) -> Costs:
        """Costs [K], infinity for what is no number."""
        values = np.array(self.cost(context), dtype=np.float64)
        if values.shape != (context.num_candidates,):
            raise V2WError("cost", f"one value for each of {context.num_candidates}", values.shape)
        values[~np.isfinite(values)] = np.inf
        return values

    def is_interrupted(self) -> bool:
        """Whether nobody wants the plan any more."""
        return self.interrupt is not None and self.interrupt()

    def _is_over(self) -> bool:
        """At least one chunk is scored whatever the deadline says, if the plan is still wanted."""
        return self.is_interrupted() or (self._scored > 0 and self.clock.is_over())

    def context(self, candidates: FloatArray) -> CostContext:
        """What a cost sees of these candidates."""
        return self._context(candidates, None if self.session is None else self._imagine)

    def _context(
        self, candidates: FloatArray, imagine: Callable[[FloatArray], Rollouts] | None
    ) -> CostContext:
        return CostContext(
            candidates, self.spec, imagine, predicts_motion=self.predicts_motion,
            previous_action=self.previous_action,
        )  # fmt: skip

    def _imagine(self, candidates: FloatArray) -> Rollouts:
        rollout = self._rollout(candidates, self.settings.num_sampling_steps)
        return rollout.advance(candidates.shape[1])

    def _rollout(self, candidates: FloatArray, num_sampling_steps: int | None) -> CandidateRollout:
        assert self.session is not None
        return self.session.rollout(
            candidates,
            num_sampling_steps=num_sampling_steps,
            guidance_scale=self.settings.guidance_scale,
            seed=self.seed,
            interrupt=self._is_over,
        )


def _finite_order(values: Costs) -> NDArray[np.intp]:
    """Indices of the finite ones, lowest first."""
    order = np.argsort(values, kind="stable")
    return order[np.isfinite(values[order])]
