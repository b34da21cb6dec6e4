"""Scores candidates in chunks against a clock and keeps the cheapest rollout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from planners.costs.base import Cost, CostContext, Costs
from planners.protocols import FloatArray, Rollouts, Session
from planners.settings import SCREENING_FRACTION, SCREENING_HORIZON
from v2w_core.errors import Interrupted, V2WError
from v2w_core.narrowing import Narrowing
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
        screening_fraction: below 1, all candidates are first imagined coarsely, and only this share
            of them in full; the others cost more than any of those. Costs that imagine nothing
            are not screened.
        screening_horizon: steps of the coarse look; None: all.
        screening_steps: denoising steps a frame of the coarse look; None: as in full. Where they
            are the same, the chosen go on instead of beginning anew.
    """

    num_sampling_steps: int | None = None
    guidance_scale: float | None = None
    screening_fraction: float = 1.0
    screening_horizon: int | None = None
    screening_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_sampling_steps", "screening_horizon", "screening_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise V2WError(name, "at least 1", value)
        if not 0 < self.screening_fraction <= 1:
            raise V2WError("screening_fraction", "above 0, at most 1", self.screening_fraction)
        if self.screens and self.screening_horizon is None and self.screening_steps is None:
            rule = "below 1 only with a screening_horizon or screening_steps"
            raise V2WError("screening_fraction", rule, self.screening_fraction)

    @property
    def screens(self) -> bool:
        """Whether only some of the candidates are imagined in full."""
        return self.screening_fraction < 1


#: What nodes and commands use unless told otherwise.
SCREENED = ImaginationSettings(
    screening_fraction=SCREENING_FRACTION, screening_horizon=SCREENING_HORIZON
)


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


class _AskedError(Exception):
    """A cost has asked for rollouts."""


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
        rest, full = np.isfinite(coarse), np.isfinite(costs)
        if rest.any() and full.any():
            # ranked behind every fully scored one, in the order of the coarse look
            costs[rest] = costs[full].max() + coarse[rest] - coarse[rest].min() + 1e-9
        return costs

    def _score(self, candidates: FloatArray) -> tuple[Costs, Costs]:
        """Costs of those imagined in full, and coarse costs of the others; infinity elsewhere."""
        began = time.perf_counter()
        costs, coarse = np.full((2, len(candidates)), np.inf)
        chosen: NDArray[np.intp] = np.arange(len(candidates))
        context = self.context(candidates)
        if self._screens(candidates):
            coarse, chosen, context = self._screened(candidates)
        costs[chosen] = self._costs(context)
        coarse[chosen] = np.inf
        if context.was_imagined:
            self.frames_imagined += context.rollouts.frames_imagined
        best = int(np.argmin(costs[chosen]))
        if costs[chosen[best]] < self.best_cost:
            self.best_cost = float(costs[chosen[best]])
            self.best_latents = context.latents[best].clone() if context.was_imagined else None
        self._scored += len(candidates)
        self.clock.note(len(candidates), time.perf_counter() - began)
        return costs, coarse

    def _screened(self, candidates: FloatArray) -> tuple[Costs, NDArray[np.intp], CostContext]:
        """Costs [K] of a coarse look, the candidates it leaves, and those imagined in full."""
        settings, coarse = self.settings, np.empty(len(candidates))
        horizon = settings.screening_horizon or candidates.shape[1]
        chosen = np.arange(math.ceil(settings.screening_fraction * len(candidates)))

        def choose(rollouts: Rollouts) -> NDArray[np.intp]:
            begun = np.ascontiguousarray(candidates[:, :horizon])
            coarse[:] = self._costs(self._context(begun, lambda _: rollouts))
            chosen[:] = np.sort(np.argsort(coarse, kind="stable")[: len(chosen)])
            return chosen

        rollouts = self._imagine(candidates, Narrowing(horizon, choose, settings.screening_steps))
        return coarse, chosen, self._context(candidates[chosen], lambda _: rollouts)

    def _screens(self, candidates: FloatArray) -> bool:
        """Whether a coarse look saves anything: it is coarser, and the cost looks at all."""
        settings = self.settings
        shorter = (settings.screening_horizon or math.inf) < candidates.shape[1]
        coarser = shorter or settings.screening_steps is not None
        return settings.screens and coarser and self._imagines(candidates)

    def _imagines(self, candidates: FloatArray) -> bool:
        """Whether the cost asks for what would happen."""

        def refuse(_: FloatArray) -> Rollouts:
            raise _AskedError

        try:
            self.cost(self._context(candidates[:1], refuse))
        except _AskedError:
            return self.session is not None
        return False

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
        return CostContext(candidates, self.spec, imagine, previous_action=self.previous_action)

    def _imagine(self, candidates: FloatArray, narrowing: Narrowing | None = None) -> Rollouts:
        assert self.session is not None
        return self.session.imagine(
            candidates,
            num_sampling_steps=self.settings.num_sampling_steps,
            guidance_scale=self.settings.guidance_scale,
            seed=self.seed,
            interrupt=self._is_over,
            narrowing=narrowing,
        )
