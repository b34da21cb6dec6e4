"""Comparison of our ablation's orderings with those of the paper (Vid2World, Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metric:
    """A column of the table; ``sign`` is 1 if higher is better, -1 if lower is."""

    key: str
    title: str
    sign: int
    digits: int


PSNR = Metric("psnr", "PSNR (dB)", 1, 2)
SSIM = Metric("ssim", "SSIM", 1, 3)
FRECHET = Metric("frechet", "Frechet distance", -1, 2)
ACTION_GAP = Metric("action_gap", "action gap (dB)", 1, 2)
METRICS = (PSNR, SSIM, FRECHET, ACTION_GAP)

#: Table 2 (RT-1, 30,000 steps), whose Frechet distance is FVD. The other arms are not in it.
PAPER: dict[str, dict[str, float]] = {
    "shift": {"psnr": 21.5, "ssim": 0.799, "frechet": 29.9},
    "masked": {"psnr": 22.9, "ssim": 0.824, "frechet": 29.4},
    "extrapolative": {"psnr": 23.4, "ssim": 0.832, "frechet": 28.6},
    "masked_guided": {"psnr": 23.9, "ssim": 0.840, "frechet": 25.8},
    "extrapolative_guided": {"psnr": 23.9, "ssim": 0.839, "frechet": 22.4},
}

#: Pairs of arms (better, worse) in the paper.
PAIRS = (
    ("extrapolative", "masked"),
    ("masked", "shift"),
    ("extrapolative", "shift"),
    ("masked_guided", "masked"),
    ("extrapolative_guided", "extrapolative"),
    ("extrapolative_guided", "masked_guided"),
)
#: Further pairs (better, worse), which are not in Table 2.
MORE_PAIRS = (
    ("shift_guided", "shift"),
    ("masked_guided", "shift_guided"),
    ("extrapolative_guided", "shift_guided"),
    ("extrapolative_guided", "scratch_guided"),
)


@dataclass(frozen=True)
class Ordering:
    """Ordering of a pair of arms in a metric.

    Attributes:
        better, worse: names of the arms, in the paper's order.
        metric: the metric.
        paper: difference of ``better`` to ``worse`` in Table 2 (positive: better); None: not in
            it. If it is not positive (a tie and a difference of 0.001), the paper has no such
            ordering.
        ours: the same difference for each seed; both arms of a seed have the same data.
    """

    better: str
    worse: str
    metric: Metric
    paper: float | None
    ours: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.ours))

    @property
    def claimed(self) -> bool:
        """Whether the paper's numbers have this ordering."""
        return self.paper is not None and self.paper > 0

    @property
    def shows(self) -> bool:
        """Whether every seed has this ordering."""
        return all(value > 0 for value in self.ours)

    @property
    def verdict(self) -> str:
        if self.paper is not None and not self.claimed:
            return "no such ordering in the paper"
        if self.shows:
            return "shows in every seed"
        count = f"{sum(value > 0 for value in self.ours)} of {len(self.ours)} seeds"
        if self.mean > 0:
            return f"**unclear**: on average only, {count}"
        return f"**does not show**: {count}"


def orderings(arms: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[Ordering]:
    """Orderings of all pairs in all metrics.

    Args:
        arms: name -> results with "scores", a mapping of metrics for each seed.
        pairs: names of the arms (better, worse).
    """
    found = []
    for better, worse in pairs:
        for metric in METRICS:
            paper = None
            if metric.key in PAPER.get(better, {}) and metric.key in PAPER.get(worse, {}):
                difference = PAPER[better][metric.key] - PAPER[worse][metric.key]
                paper = round(metric.sign * difference, 6)
            first, second = (seed_scores(arms, name, metric) for name in (better, worse))
            ours = metric.sign * (first - second)
            found.append(Ordering(better, worse, metric, paper, tuple(float(v) for v in ours)))
    return found


def seed_scores(arms: Mapping[str, Any], name: str, metric: Metric) -> NDArray[np.float64]:
    """A metric of an arm for each seed, [num_seeds]."""
    return np.array([scores[metric.key] for scores in arms[name]["scores"]], dtype=np.float64)


def spread(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
