"""The Frechet distance against its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_core.errors import DataError
from v2w_core.metrics.frechet import frechet_distance


def exactly(mean, covariance, count=50, seed=0):
    """Features whose sample mean and covariance are exactly these."""
    rows = np.random.default_rng(seed).normal(size=(count, len(mean)))
    rows -= rows.mean(axis=0)
    white = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_independent_features_have_the_sum_of_their_distances():
    first = exactly([0.0, 1.0, 2.0], np.diag([1.0, 4.0, 9.0]))
    second = exactly([3.0, 1.0, 2.0], np.diag([4.0, 4.0, 1.0]), seed=1)
    # (0 - 3)^2, and (standard deviation - standard deviation)^2 of each: 1, 0, 4
    assert frechet_distance(first, second) == pytest.approx(14.0)
    assert frechet_distance(second, first) == pytest.approx(14.0)


def test_correlated_features_against_the_matrix_square_root():
    a = np.array([[2.0, 0.9], [0.9, 1.0]])
    b = np.array([[1.0, -0.4], [-0.4, 0.5]])
    product = a @ b
    root_trace = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))  # 2 x 2
    expected = np.trace(a) + np.trace(b) - 2 * root_trace
    found = frechet_distance(exactly([1.0, 1.0], a), exactly([1.0, 1.0], b, seed=2))
    assert found == pytest.approx(expected)


def test_equal_sets_are_at_zero_also_with_fewer_rows_than_features():
    rows = np.random.default_rng(3).normal(size=(5, 40))
    assert frechet_distance(rows, rows) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(rows, rows + 2.0) == pytest.approx(4.0 * 40)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((1, 3)), np.full((4, 3), np.nan)])
def test_what_is_no_table_of_features_is_refused(bad):
    with pytest.raises(DataError, match="features"):
        frechet_distance(bad, np.zeros((4, 3)))
    with pytest.raises(DataError, match="one width"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))
