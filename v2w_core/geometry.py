"""Planar pose arithmetic, REP 103: x forward, y left, yaw counter-clockwise, metres and radians.

A pose is (x, y, yaw) in a fixed frame. An action (dx, dy, dyaw) is a displacement in the body
frame of the pose it starts from: ``xy' = xy + R(yaw) @ (dx, dy)``, ``yaw' = yaw + dyaw``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import V2WError

Float64Array = NDArray[np.float64]
#: Largest coordinate of a pose [m]; what is farther off is a fault of its sender.
MAX_COORDINATE_M = 1e6


def wrap_angle(angle: ArrayLike) -> Float64Array:
    """Angles [...] in radians, wrapped to (-pi, pi]."""
    array = np.asarray(angle, dtype=np.float64)
    wrapped = np.pi - np.mod(np.pi - array, 2.0 * np.pi)
    return np.asarray(wrapped, dtype=np.float64)


def first_unusable(poses: ArrayLike) -> tuple[int, ...] | None:
    """Index of the first number of poses that is not finite or beyond MAX_COORDINATE_M; or None."""
    bad = np.argwhere(~(np.abs(np.asarray(poses, dtype=np.float64)) <= MAX_COORDINATE_M))
    return tuple(int(item) for item in bad[0]) if len(bad) else None


def planar(poses: ArrayLike) -> Float64Array:
    """(x, y, z, yaw) [..., 4] -> (x, y, yaw) [..., 3]; poses [..., 3] are returned unchanged.

    Raises:
        V2WError: the last axis has neither 3 nor 4 entries.
    """
    array = np.asarray(poses, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] not in (3, 4):
        raise V2WError("poses", "shape [..., 4] (x y z yaw) or [..., 3] (x y yaw)", array.shape)
    return array if array.shape[-1] == 3 else array[..., [0, 1, 3]]


def integrate_actions(actions: ArrayLike, start_pose: ArrayLike = (0.0, 0.0, 0.0)) -> Float64Array:
    """Integrates body-frame displacements into a path of poses.

    Args:
        actions: (dx, dy, dyaw) [..., horizon, 3] in metres and radians.
        start_pose: (x, y, yaw) [3] or [..., 3], one for each action sequence.

    Returns:
        Poses (x, y, yaw) [..., horizon + 1, 3], the start pose first, yaw in (-pi, pi].

    Raises:
        V2WError: the last axis of the actions is not 3.
    """
    array = np.asarray(actions, dtype=np.float64)
    if array.ndim < 2 or array.shape[-1] != 3:
        raise V2WError("actions", "shape [..., horizon, 3] (dx dy dyaw)", array.shape)
    start = np.broadcast_to(planar(start_pose), (*array.shape[:-2], 3))
    path = np.empty((*array.shape[:-2], array.shape[-2] + 1, 3), dtype=np.float64)
    path[..., 0, :] = start
    path[..., 1:, 2] = start[..., None, 2] + np.cumsum(array[..., 2], axis=-1)
    yaw = path[..., :-1, 2]
    cos, sin = np.cos(yaw), np.sin(yaw)
    step_x = cos * array[..., 0] - sin * array[..., 1]
    step_y = sin * array[..., 0] + cos * array[..., 1]
    path[..., 1:, 0] = start[..., None, 0] + np.cumsum(step_x, axis=-1)
    path[..., 1:, 1] = start[..., None, 1] + np.cumsum(step_y, axis=-1)
    path[..., 2] = wrap_angle(path[..., 2])
    return path


def integrated_spread(motion: ArrayLike, std: ArrayLike) -> Float64Array:
    """Standard deviation of the poses that uncertain displacements lead to.

    The covariance is propagated to first order; errors of different steps are independent.

    Args:
        motion: mean displacements (dx, dy, dyaw) [..., horizon, 3] in metres and radians.
        std: their standard deviations [..., horizon, 3].

    Returns:
        Standard deviations of (x, y, yaw) after each step [..., horizon, 3], in the frame of the
        pose before the first.
    """
    mean, variance = np.asarray(motion, dtype=np.float64), np.square(np.asarray(std, np.float64))
    yaw = np.cumsum(mean[..., 2], axis=-1) - mean[..., 2]  # before each step
    cos, sin = np.cos(yaw), np.sin(yaw)
    covariance = np.zeros((*mean.shape[:-2], 3, 3))
    spreads = np.empty_like(mean)
    for step in range(mean.shape[-2]):
        c, s = cos[..., step], sin[..., step]
        turned = np.zeros_like(covariance)  # the step's frame in that of the first pose
        turned[..., 0, 0], turned[..., 0, 1], turned[..., 2, 2] = c, -s, 1.0
        turned[..., 1, 0], turned[..., 1, 1] = s, c
        moved = np.zeros_like(covariance) + np.eye(3)  # an error of the yaw swings the step
        dx, dy = mean[..., step, 0], mean[..., step, 1]
        moved[..., 0, 2], moved[..., 1, 2] = -s * dx - c * dy, c * dx - s * dy
        added = (turned * variance[..., step, None, :]) @ np.swapaxes(turned, -1, -2)
        covariance = moved @ covariance @ np.swapaxes(moved, -1, -2) + added
        spreads[..., step, :] = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return spreads


def from_pose(start: ArrayLike, relative: ArrayLike) -> Float64Array:
    """Poses [..., 3] in the frame in which ``start`` (x, y, yaw) [3] is given.

    Args:
        relative: poses (x, y, yaw) [..., 3] in the body frame of the start.
    """
    x, y, yaw = planar(start)
    poses = np.asarray(relative, dtype=np.float64)
    cos, sin = np.cos(yaw), np.sin(yaw)
    across = x + cos * poses[..., 0] - sin * poses[..., 1]
    along = y + sin * poses[..., 0] + cos * poses[..., 1]
    return np.stack([across, along, wrap_angle(yaw + poses[..., 2])], axis=-1)


def relative_motion(pose_a: ArrayLike, pose_b: ArrayLike) -> Float64Array:
    """The body-frame displacement (dx, dy, dyaw) [..., 3] that leads from pose a to pose b.

    Poses are (x, y, yaw) [..., 3] or (x, y, z, yaw) [..., 4]; dyaw is in (-pi, pi].
    """
    first, second = planar(pose_a), planar(pose_b)
    delta = second - first
    cos, sin = np.cos(first[..., 2]), np.sin(first[..., 2])
    forward = cos * delta[..., 0] + sin * delta[..., 1]
    left = -sin * delta[..., 0] + cos * delta[..., 1]
    return np.stack([forward, left, wrap_angle(delta[..., 2])], axis=-1)


def actions_from_poses(poses: ArrayLike) -> Float64Array:
    """Displacements [T-1, 3] between successive poses [T, 3] or [T, 4]."""
    array = planar(poses)
    return relative_motion(array[:-1], array[1:])


def yaw_from_quaternion(x: float, y: float, z: float, w: float) -> float:
    """Rotation about z of a unit quaternion, radians in (-pi, pi]."""
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def interpolate_poses(stamps_ns: ArrayLike, poses: ArrayLike, query_ns: ArrayLike) -> Float64Array:
    """Interpolates poses at given times: positions linearly, yaw along the shorter arc.

    Args:
        stamps_ns: strictly increasing int64 [N], N >= 1.
        poses: (x, y, z, yaw) [N, 4].
        query_ns: int64 [M], within [stamps_ns[0], stamps_ns[-1]].

    Returns:
        Poses [M, 4], yaw in (-pi, pi].

    Raises:
        V2WError: a query lies outside the stamps (nothing is extrapolated).
    """
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    table = np.asarray(poses, dtype=np.float64)
    query = np.asarray(query_ns, dtype=np.int64)
    if stamps.ndim != 1 or table.shape != (stamps.size, 4) or stamps.size == 0:
        raise V2WError("poses", "stamps [N] and poses [N, 4]", (stamps.shape, table.shape))
    if query.size and (query.min() < stamps[0] or query.max() > stamps[-1]):
        rule = f"within the poses' stamps [{stamps[0]}, {stamps[-1]}] ns"
        raise V2WError("query_ns", rule, [int(query.min()), int(query.max())])
    right = np.clip(np.searchsorted(stamps, query, side="left"), 1, max(stamps.size - 1, 1))
    if stamps.size == 1:
        return np.repeat(table, query.size, axis=0)
    left = right - 1
    span = (stamps[right] - stamps[left]).astype(np.float64)
    weight = ((query - stamps[left]).astype(np.float64) / span)[:, None]
    result = table[left] + weight * (table[right] - table[left])
    turn = wrap_angle(table[right, 3] - table[left, 3])
    result[:, 3] = wrap_angle(table[left, 3] + weight[:, 0] * turn)
    return result
