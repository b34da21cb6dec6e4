"""Frechet distance of two sets of features, modelled as Gaussians (Dowson and Landau 1982).

FID and FVD are this distance for the features of a specific network. Results must name the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import DataError

Float64Array = NDArray[np.float64]


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of features [N, D] and [M, D].

    The covariances divide by N - 1. For small sets the distance of equal distributions is larger
    than zero: compare sets of the same size, and use the distance of two sets of recordings as a
    reference.

    Raises:
        DataError: the features are not two tables of one width, have fewer than two rows, or are
            not finite.
    """
    a, b = _table(first, "first"), _table(second, "second")
    if a.shape[1] != b.shape[1]:
        raise DataError("features", "two tables of one width", (a.shape, b.shape))
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    cov_a, cov_b = _covariance(a), _covariance(b)
    # tr (C1 C2)^1/2 = tr (R C2 R)^1/2 with R = C1^1/2: symmetric, so its eigenvalues are real
    root = _root(cov_a)
    between = np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)
    distance = shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(between).sum()
    return max(float(distance), 0.0)


def _covariance(table: Float64Array) -> Float64Array:
    centred = table - table.mean(axis=0)
    covariance: Float64Array = centred.T @ centred / (len(table) - 1)
    return covariance


def _root(covariance: Float64Array) -> Float64Array:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    root: Float64Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _table(features: ArrayLike, name: str) -> Float64Array:
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise DataError(f"features ({name})", "a table [N >= 2, D >= 1]", list(table.shape))
    if not np.isfinite(table).all():
        raise DataError(f"features ({name})", "finite numbers", "NaN or infinity")
    return table
