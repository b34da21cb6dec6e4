"""Scores candidates in chunks against a clock and keeps the cheapest rollout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from planners.costs.base import Cost, CostContext, Costs
from planners.protocols import FloatArray, Rollouts, Session
from v2w_core.errors import Interrupted, V2WError
from v2w_core.spec import ActionSpec

#: Candidates of the first chunk under a deadline, those that are worth a last chunk, and the
#: margin on the time a chunk will take.
FIRST_CHUNK = 4
SMALL_CHUNK = 8
SAFETY = 1.1


@dataclass(frozen=True)
class ImaginationSettings:
    """How candidates are imagined.

    Args:
        num_sampling_steps: denoising steps a frame; None: the model's own default.
        guidance_scale: action guidance; None: the model's own default.
        screening_fraction: below 1, all candidates are first imagined with
            ``screening_steps`` denoising steps and only this share of them again in full; the
            others cost more than any of those.
        screening_steps: denoising steps of the coarse pass.
    """

    num_sampling_steps: int | None = None
    guidance_scale: float | None = None
    screening_fraction: float = 1.0
    screening_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("num_sampling_steps", "screening_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise V2WError(name, "at least 1", value)
        if not 0 < self.screening_fraction <= 1:
            raise V2WError("screening_fraction", "above 0, at most 1", self.screening_fraction)


@dataclass
class Clock:
    """A deadline, and how long scoring takes in this plan.

    Attributes:
        deadline_s: seconds after the start at which scoring has to be over; None: no limit.
        candidate_s: seconds a candidate took in the latest chunk; None: nothing was scored yet.
    """

    deadline_s: float | None
    candidate_s: float | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_s is not None and self.elapsed_s > self.deadline_s

    def chunk(self, num_left: int, largest: int) -> int:
        """How many candidates to score next; 0 when not one more can be expected to be ready.

        The first chunk is small: it is what a plan with any deadline takes at least. Later ones
        take at most half of the time that is left, so that a wrong guess does not miss the
        deadline, and a plan with time to spare scores all in one batch.
        """
        if self.deadline_s is None:
            return num_left
        if self.candidate_s is None:
            return min(num_left, largest, FIRST_CHUNK)
        left_s = self.deadline_s - self.elapsed_s
        fits = math.floor(left_s / max(SAFETY * self.candidate_s, 1e-9))
        return max(0, min(num_left, largest, max(fits // 2, min(fits, SMALL_CHUNK))))

    def note(self, num_candidates: int, seconds: float) -> None:
        """Learns from a scored chunk."""
        self.candidate_s = seconds / max(num_candidates, 1)


@dataclass
class Scorer:
    """Costs of candidates under one cost and one session, within one plan.

    Attributes:
        best_cost, best_latents: of the cheapest candidate scored in full; its imagined latents
            [horizon, C, h, w] are None when the cost did not need any.
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
    frames_imagined: int = 0
    timed_out: bool = False
    _scored: int = 0

    def __call__(self, candidates: FloatArray) -> Costs:
        """Costs [K]; infinity for those that the deadline left out."""
        fraction = self.settings.screening_fraction
        if fraction >= 1 or self.session is None:
            return self._in_chunks(candidates, self.settings.num_sampling_steps)
        num_full = max(1, math.ceil(fraction * len(candidates)))
        coarse = self._in_chunks(candidates, self.settings.screening_steps, coarse=True)
        order = np.argsort(coarse, kind="stable")
        full, rest = order[:num_full], order[num_full:]
        costs = np.full(len(candidates), np.inf)
        costs[full] = self._in_chunks(candidates[full], self.settings.num_sampling_steps)
        finite = costs[np.isfinite(costs)]
        if len(finite) and len(rest):
            # ranked behind every fully scored one, in the order of the coarse pass
            costs[rest] = finite.max() + coarse[rest] - coarse[rest[0]] + 1e-9
        return costs

    def _in_chunks(
        self, candidates: FloatArray, num_sampling_steps: int | None, *, coarse: bool = False
    ) -> Costs:
        costs = np.full(len(candidates), np.inf)
        done = 0
        while done < len(candidates):
            size = self.clock.chunk(len(candidates) - done, self.chunk_size)
            if size == 0 and self._scored > 0:
                self.timed_out = True
                break
            chunk = slice(done, done + max(size, 1))
            try:
                costs[chunk] = self._score(candidates[chunk], num_sampling_steps, coarse)
            except Interrupted:
                self.timed_out = not self.is_interrupted()
                break
            done = chunk.stop
        return costs

    def _score(self, candidates: FloatArray, num_sampling_steps: int | None, coarse: bool) -> Costs:
        began = time.perf_counter()
        context = self.context(candidates, num_sampling_steps)
        values = np.array(self.cost(context), dtype=np.float64)
        if values.shape != (len(candidates),):
            raise V2WError("cost", f"one value for each of {len(candidates)}", values.shape)
        values[~np.isfinite(values)] = np.inf
        if context.was_imagined:
            self.frames_imagined += context.rollouts.frames_imagined
        index = int(np.argmin(values))
        if not coarse and values[index] < self.best_cost:
            self.best_cost = float(values[index])
            self.best_latents = context.latents[index].clone() if context.was_imagined else None
        self._scored += len(candidates)
        self.clock.note(len(candidates), time.perf_counter() - began)
        return values

    def is_interrupted(self) -> bool:
        """Whether nobody wants the plan any more."""
        return self.interrupt is not None and self.interrupt()

    def _is_over(self) -> bool:
        """At least one chunk is scored whatever the deadline says, if the plan is still wanted."""
        return self.is_interrupted() or (self._scored > 0 and self.clock.is_over())

    def context(self, candidates: FloatArray, num_sampling_steps: int | None = None) -> CostContext:
        """What a cost sees of these candidates."""
        session = self.session

        def imagine(chosen: FloatArray) -> Rollouts:
            assert session is not None
            return session.imagine(
                chosen,
                num_sampling_steps=num_sampling_steps,
                guidance_scale=self.settings.guidance_scale,
                seed=self.seed,
                interrupt=self._is_over,
            )

        return CostContext(
            candidates,
            self.spec,
            None if session is None else imagine,
            previous_action=self.previous_action,
        )
