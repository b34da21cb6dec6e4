"""95 % intervals of what was measured, and the area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import V2WError

Interval = tuple[float, float]
#: Standard normal quantile of a two-sided 95 % interval.
Z = 1.959964
#: Resamples of a bootstrap interval.
NUM_RESAMPLES = 2000


def wilson(count: int, total: int) -> Interval:
    """The 95 % interval of a share, ``count`` of ``total`` trials.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Raises:
        V2WError: no trial, or a count that is not from 0 to ``total``.
    """
    if total < 1 or not 0 <= count <= total:
        raise V2WError("share", "a count from 0 to at least 1 trial", (count, total))
    share, spread = count / total, Z**2 / total
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / total + spread / total / 4)
    low = (middle - half) / (1 + spread) if count else 0.0  # exactly, without a rounding error
    high = (middle + half) / (1 + spread) if count < total else 1.0
    return low, high


def resampled(num_items: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each of the items occurs in each bootstrap sample: int64 [NUM_RESAMPLES, N]."""
    rng = np.random.default_rng(seed)
    shares = np.full(num_items, 1.0 / num_items)
    return rng.multinomial(num_items, shares, size=NUM_RESAMPLES)


def bootstrap_mean(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % percentile bootstrap interval of a mean over the first axis.

    Args:
        values: float [N, ...], N independent items; NaN where an item has no value.

    Returns:
        lower and upper ends, float64 [...]; NaN where fewer than two items have a value.
    """
    table = np.asarray(values, dtype=np.float64)
    flat = table.reshape(len(table), -1)
    known = np.isfinite(flat)
    times = resampled(len(table)).astype(np.float64)
    counts = times @ known
    sums = times @ np.where(known, flat, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(counts > 0, sums / counts, np.nan)
    low, high = _percentiles(means)
    unknown = known.sum(axis=0) < 2
    low[unknown] = high[unknown] = np.nan
    return low.reshape(table.shape[1:]), high.reshape(table.shape[1:])


def bootstrap_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Interval:
    """The 95 % percentile bootstrap interval of sum(numerators) / sum(denominators).

    Args:
        numerators, denominators: [N] of N independent items; the second at least 0.

    Returns:
        Both ends; NaN where the denominators of most samples are zero.
    """
    times = resampled(len(np.atleast_1d(numerators))).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = (times @ np.asarray(numerators, float)) / (times @ np.asarray(denominators, float))
    low, high = _percentiles(np.where(np.isfinite(ratios), ratios, np.nan)[:, None])
    return float(low[0]), float(high[0])


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive has a higher score than a negative.

    Ties count half (the Mann-Whitney U statistic over the number of pairs). 0.5 is guessing.

    Args:
        scores: [N], higher for what is believed to be positive.
        labels: bool [N].

    Returns:
        The area; NaN where all labels are the same.
    """
    wanted = np.asarray(labels, dtype=np.bool_)
    num_positive = int(wanted.sum())
    num_negative = len(wanted) - num_positive
    if not num_positive or not num_negative:
        return math.nan
    values, inverse, counts = np.unique(
        np.asarray(scores, np.float64), return_inverse=True, return_counts=True
    )
    assert len(values) == len(counts)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    total = float(ranks[inverse.ravel()][wanted].sum())
    return (total - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def bootstrap_auroc(scores: ArrayLike, labels: ArrayLike) -> Interval:
    """The 95 % percentile bootstrap interval of :func:`auroc` over items that have several labels.

    Args:
        scores, labels: [N, ...] of N independent items.
    """
    rng = np.random.default_rng(0)
    table, wanted = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    areas = np.empty(NUM_RESAMPLES // 4)
    for index in range(len(areas)):
        chosen = rng.integers(0, len(table), len(table))
        areas[index] = auroc(table[chosen].ravel(), wanted[chosen].ravel())
    low, high = _percentiles(areas[:, None])
    return float(low[0]), float(high[0])


def _percentiles(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 2.5 and 97.5 percentiles over the first axis [S, M]; NaN where a half is NaN."""
    low, high = np.full((2, samples.shape[1]), np.nan)
    for column in np.flatnonzero(np.isfinite(samples).mean(axis=0) > 0.5):
        low[column], high[column] = np.nanpercentile(samples[:, column], (2.5, 97.5))
    return low, high
