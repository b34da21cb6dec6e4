"""Intervals against published values and against what they must cover; the area under the ROC."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2w_core.errors import V2WError
from v2w_core.metrics.intervals import (
    auroc,
    bootstrap_auroc,
    bootstrap_mean,
    bootstrap_ratio,
    wilson,
)


def test_wilson_is_that_of_the_textbook():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)
    assert wilson(0, 9)[0] == 0.0 and wilson(9, 9)[1] == 1.0
    for count, total in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(V2WError, match="share"):
            wilson(count, total)


def test_a_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(3.0, 2.0, size=(40, 300))
    low, high = bootstrap_mean(samples)  # 300 experiments of 40 items
    covered = ((low <= 3.0) & (high >= 3.0)).mean()
    assert 0.89 <= covered <= 0.98
    assert (high - low).mean() == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(40), rel=0.1)
    again = bootstrap_mean(samples)
    assert np.array_equal(again[0], low) and np.array_equal(again[1], high)


def test_unknown_values_are_left_out_and_too_few_have_no_interval():
    values = np.array([[1.0, np.nan, np.nan], [2.0, 5.0, np.nan], [3.0, 5.0, 1.0]])
    low, high = bootstrap_mean(values)
    assert low[0] < 2.0 < high[0]
    assert low[1] == high[1] == 5.0
    assert np.isnan(low[2]) and np.isnan(high[2])


def test_a_ratio_of_sums():
    low, high = bootstrap_ratio([1, 2, 3, 4], [2, 4, 6, 8])
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)
    assert all(np.isnan(bootstrap_ratio([0, 1], [0, 0])))


def test_auroc_counts_pairs_in_the_right_order():
    scores, labels = [0.9, 0.8, 0.7, 0.6], [True, False, True, False]
    assert auroc(scores, labels) == 0.75
    assert auroc([1, 1, 1], [True, False, False]) == 0.5
    assert auroc([3, 2, 1], [True, True, False]) == 1.0
    assert math.isnan(auroc([1, 2], [True, True]))
    low, high = bootstrap_auroc(scores * 20, labels * 20)
    assert 0.6 < low < 0.75 < high < 0.9
