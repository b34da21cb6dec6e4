"""What the camera has really seen corrects what is imagined near the same place.

A model that is unsure imagines a blurred view, and a blurred view is never far from any goal. So a
robot may find standing still better than it is, or go back to where it has just been in vain. At
the poses of its own past frames the distance to the goal is known; near them it replaces the
imagined one, and fades into it with the distance to the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planners.costs.base import CostContext
from planners.protocols import Pose
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions, relative_motion, wrap_angle

#: Views that a drive remembers; older ones are forgotten, so that plans stay as fast and small.
MOST_VIEWS = 256

#: Closer than this (m, rad) counts as the same place.
SAME_PLACE = (0.1, 0.1)


@dataclass
class VisitedViewsMemory:
    """What the camera saw on one drive.

    Attributes:
        views: (pose, distance to the goal), oldest first; poses in one fixed frame.
    """

    views: list[tuple[Pose, float]] = field(default_factory=list)

    def add(self, pose: Pose, distance: float) -> None:
        """The view from ``pose`` is so far from the goal, in the unit of the goal's distance."""
        self.views.append((pose, distance))
        del self.views[:-MOST_VIEWS]

    def around(self, pose: Pose, revisit_penalty: float) -> VisitedViews | None:
        """What was seen, in the body frame of ``pose``; None: nothing yet.

        Args:
            revisit_penalty: what a place gets worse by each time the robot has looked around there.
        """
        if not self.views:
            return None
        poses, distances = (np.asarray(column) for column in zip(*self.views, strict=True))
        worse = distances + revisit_penalty * times_looked(poses)
        return VisitedViews(np.asarray(relative_motion(pose, poses), dtype=np.float64), worse)


def times_looked(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often each of the poses [N, 3] was looked from before, float [N]."""
    apart = poses[:, None] - poses[None]
    metres, radians = SAME_PLACE
    near = np.hypot(apart[..., 0], apart[..., 1]) < metres
    near &= np.abs(wrap_angle(apart[..., 2])) < radians
    return np.tril(near, -1).sum(axis=1).astype(np.float64)


@dataclass(frozen=True)
class VisitedViews:
    """Poses of past frames and how far their views were from the goal.

    Args:
        poses: [N, 3] (x m, y m, yaw rad) in the current body frame.
        distances: [N], in the unit of the imagined distances.
        reach_m, reach_rad: how far a view tells something about its neighbours: the weight falls
            to 61 % at either of them and to 14 % at twice that.
    """

    poses: NDArray[np.float64]
    distances: NDArray[np.float64]
    reach_m: float = 0.3
    reach_rad: float = 0.15

    def __post_init__(self) -> None:
        if self.poses.shape != (len(self.distances), 3) or not len(self.distances):
            rule = "poses [N, 3] and distances [N], N >= 1"
            raise V2WError("VisitedViews", rule, (self.poses.shape, self.distances.shape))
        if self.reach_m <= 0 or self.reach_rad <= 0:
            rule = "positive metres and radians"
            raise V2WError("VisitedViews.reach", rule, (self.reach_m, self.reach_rad))

    def correct(self, distances: ArrayLike, poses: ArrayLike) -> NDArray[np.float64]:
        """Imagined distances [...] at poses [..., 3], pulled to what was seen near them."""
        imagined = np.asarray(distances, dtype=np.float64)
        here = np.asarray(poses, dtype=np.float64)[..., None, :]
        metres = np.square(here[..., :2] - self.poses[:, :2]).sum(axis=-1) / self.reach_m**2
        radians = np.square(wrap_angle(here[..., 2] - self.poses[:, 2])) / self.reach_rad**2
        weights = np.exp(-0.5 * (metres + radians))
        trust = weights.max(axis=-1)
        seen = (weights * self.distances).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-300)
        return np.asarray((1 - trust) * imagined + trust * seen, dtype=np.float64)


def corrected(
    distances: NDArray[np.float64], context: CostContext, visited: VisitedViews | None
) -> NDArray[np.float64]:
    """Distances [K, horizon] of a cost's candidates; as they are without visited views."""
    return distances if visited is None else visited.correct(distances, context.poses[:, 1:])


def history_poses(actions: ArrayLike) -> NDArray[np.float64]:
    """Poses [T, 3] of a history's frames in the newest one's body frame.

    Args:
        actions: planar displacements [T - 1, 3] between the frames, oldest first.
    """
    array = np.asarray(actions, dtype=np.float64).reshape(-1, 3)
    path = integrate_actions(array, (0.0, 0.0, 0.0))
    return relative_motion(path[-1], path)
