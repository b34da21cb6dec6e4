"""Does an ordering of the paper's ablation (Vid2World, Table 2) show in ours?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metric:
    """A column of the table; ``sign`` is 1 where more is better, -1 where less is."""

    key: str
    title: str
    sign: int
    digits: int


PSNR = Metric("psnr", "PSNR (dB)", 1, 2)
SSIM = Metric("ssim", "SSIM", 1, 3)
FRECHET = Metric("frechet", "Frechet distance", -1, 2)
ACTION_GAP = Metric("action_gap", "action gap (dB)", 1, 2)
METRICS = (PSNR, SSIM, FRECHET, ACTION_GAP)

#: Table 2 (RT-1, 30,000 steps); its Frechet distance is FVD. It has no other arms of ours.
PAPER: dict[str, dict[str, float]] = {
    "shift": {"psnr": 21.5, "ssim": 0.799, "frechet": 29.9},
    "masked": {"psnr": 22.9, "ssim": 0.824, "frechet": 29.4},
    "extrapolative": {"psnr": 23.4, "ssim": 0.832, "frechet": 28.6},
    "masked_guided": {"psnr": 23.9, "ssim": 0.840, "frechet": 25.8},
    "extrapolative_guided": {"psnr": 23.9, "ssim": 0.839, "frechet": 22.4},
}

#: (what the paper finds better, than what)
PAIRS = (
    ("extrapolative", "masked"),
    ("masked", "shift"),
    ("extrapolative", "shift"),
    ("masked_guided", "masked"),
    ("extrapolative_guided", "extrapolative"),
    ("extrapolative_guided", "masked_guided"),
)
#: Not in Table 2.
MORE_PAIRS = (
    ("shift_guided", "shift"),
    ("masked_guided", "shift_guided"),
    ("extrapolative_guided", "shift_guided"),
    ("extrapolative_guided", "scratch_guided"),
)


@dataclass(frozen=True)
class Ordering:
    """One metric of one pair of arms.

    Attributes:
        paper: by how much ``better`` is better than ``worse`` in Table 2; None: not in it. Where
            it is not positive (one tie, one difference of 0.001), the paper has no such ordering.
        ours: the same of each seed (positive: better), as both arms of a seed share their data.
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
        """Whether the paper's numbers say so."""
        return self.paper is not None and self.paper > 0

    @property
    def shows(self) -> bool:
        """In every seed."""
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
    """All metrics of all pairs.

    Args:
        arms: name -> "scores", one mapping of metrics a seed.
    """
    found = []
    for better, worse in pairs:
        for metric in METRICS:
            paper = None
            if metric.key in PAPER.get(better, {}) and metric.key in PAPER.get(worse, {}):
                difference = PAPER[better][metric.key] - PAPER[worse][metric.key]
                paper = round(metric.sign * difference, 6)
            ours = metric.sign * (of(arms, better, metric) - of(arms, worse, metric))
            found.append(Ordering(better, worse, metric, paper, tuple(float(v) for v in ours)))
    return found


def of(arms: Mapping[str, Any], name: str, metric: Metric) -> NDArray[np.float64]:
    """A metric of an arm, one value a seed."""
    return np.array([scores[metric.key] for scores in arms[name]["scores"]], dtype=np.float64)


def spread(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
