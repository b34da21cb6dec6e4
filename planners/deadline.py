"""A plan's deadline: how many candidates can still be scored before it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

#: Candidates of the first chunk under a deadline, those that are worth a last chunk, and the
#: margin on the time a chunk will take.
FIRST_CHUNK = 4
SMALL_CHUNK = 8
SAFETY = 1.1


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
