"""Rotations as unit quaternions x y z w, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def unit(turns: Float64Array) -> Float64Array:
    """Quaternions [M, 4] scaled to length 1; those of zeros become NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(turns / np.linalg.norm(turns, axis=1, keepdims=True))


def multiply(first: Float64Array, second: Float64Array) -> Float64Array:
    """The rotation ``first * second`` [M, 4]: the second is done first."""
    x1, y1, z1, w1 = first.T
    x2, y2, z2, w2 = second.T
    return np.column_stack(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ]
    )


def conjugate(turns: Float64Array) -> Float64Array:
    """The opposite rotations [M, 4]."""
    return turns * np.array([-1.0, -1.0, -1.0, 1.0])


def rotate(turns: Float64Array, places: Float64Array) -> Float64Array:
    """The vectors [M, 3], rotated by unit quaternions [M, 4]."""
    axis, w = turns[:, :3], turns[:, 3:]
    across = 2.0 * np.cross(axis, places)
    return np.asarray(places + w * across + np.cross(axis, across))


def interpolate(
    times: NDArray[np.int64], turns: Float64Array, query: NDArray[np.int64]
) -> Float64Array:
    """Unit quaternions [M, 4] at increasing times [M], at other times [Q]; held beyond the ends.

    Between two neighbours along the straight line, which is within a hundredth of a degree of the
    arc where they are less than ten degrees apart.
    """
    near = turns.copy()
    flips = np.sign(np.einsum("ij,ij->i", turns[1:], turns[:-1]))
    near[1:] *= np.cumprod(np.where(flips < 0, -1.0, 1.0))[:, None]
    found = [np.interp(query, times, column) for column in near.T]
    return unit(np.column_stack(found))


def yaw_of(turns: Float64Array) -> Float64Array:
    """Rotation about z of unit quaternions [M, 4], radians [M]."""
    x, y, z, w = turns.T
    return np.asarray(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def upright(turns: Float64Array) -> Float64Array:
    """Cosine [M] of the angle between the body's z axis and the world's: -1 is upside down."""
    x, y = turns[:, 0], turns[:, 1]
    return np.asarray(1.0 - 2.0 * (x * x + y * y))
