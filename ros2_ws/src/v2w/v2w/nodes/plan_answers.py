"""Plans as messages: answers, feedback, and what RViz shows of them."""

from __future__ import annotations

import time
from typing import Any

from nav_msgs.msg import Path
from sensor_msgs.msg import Image
from v2w_msgs.action import Plan as PlanAction
from visualization_msgs.msg import MarkerArray

from planners.planner import IterationReport
from v2w.messages import conversions, images, rollouts
from v2w.navigation.history import Snapshot
from v2w.navigation.planning import PlanOutcome
from v2w.nodes.model_node import ModelNode
from v2w.nodes.plan_goals import PlanGoal
from v2w_core.geometry import from_pose


class PlanAnswers:
    """Makes messages of plans.

    Args:
        node: has the model, the frames, and the parameters jpeg_quality and max_markers.
    """

    def __init__(self, node: ModelNode) -> None:
        self._node = node
        self._path = node.create_publisher(Path, "~/optimal_path", 1)
        self._markers = node.create_publisher(MarkerArray, "~/candidate_trajectories", 1)
        self._imagined = node.create_publisher(Image, "~/imagined", 1)

    @property
    def shows_frames(self) -> bool:
        """Whether somebody looks at the imagined frames."""
        return bool(self._imagined.get_subscription_count() > 0)

    @property
    def _spec(self) -> Any:
        return self._node.model.config.action  # type: ignore[union-attr]

    def _path_message(self, poses: Any, snapshot: Snapshot) -> Any:
        """A nav_msgs/Path of poses relative to the newest frame of the history."""
        path = from_pose(snapshot.poses[-1][[0, 1, 3]], poses)
        stamp = int(snapshot.stamps_ns[-1])
        return conversions.path_message(path, stamp, self._spec.dt_s, self._node.odom_frame)

    def feedback(self, goal: PlanGoal, report: IterationReport, snapshot: Snapshot) -> Any:
        """The action's feedback after an iteration; its path integrates the commands."""
        commanded = conversions.planar_path(report.action_sequence, self._spec, (0.0, 0.0, 0.0))
        return PlanAction.Feedback(
            iteration=report.iteration,
            num_iterations=report.num_iterations,
            candidates_evaluated=report.num_scored,
            best_cost=float(report.cost),
            mean_cost=float(report.mean_cost),
            best_path=self._path_message(commanded, snapshot),
            elapsed=conversions.duration_message(time.monotonic() - goal.began),
        )

    def fill(
        self, message: Any, outcome: PlanOutcome, snapshot: Snapshot, frames: Any | None
    ) -> None:
        """Fill an answer of the service or the action; frames [horizon, H, W, 3], or None."""
        result, node = outcome.result, self._node
        rollout = rollouts.rollout_message(
            self._spec, snapshot, result.action_sequence, result.poses[1:],
            odom_frame=node.odom_frame, base_frame=node.base_frame,
        )  # fmt: skip
        rollout.cost = float(result.cost)
        if frames is not None:
            quality = node.get_parameter("jpeg_quality").value
            rollouts.fill_frames(
                rollout, frames, self._spec, base_frame=node.base_frame,
                frame_format=rollouts.JPEG, quality=quality,
            )  # fmt: skip
        message.plan, message.path, message.best = rollout.actions, rollout.path, rollout
        message.goal_reached = bool(outcome.arrival.arrived)
        message.goal_distance = float(outcome.arrival.distance)
        message.frames_imagined = int(result.frames_imagined)
        message.timed_out = bool(result.timed_out)
        message.planning_time = conversions.duration_message(outcome.planning_s)

    def show(self, outcome: PlanOutcome, snapshot: Snapshot, frames: Any | None) -> None:
        """Publish path, markers and imagined frames for RViz, where somebody subscribes."""
        result, stamp, node = outcome.result, int(snapshot.stamps_ns[-1]), self._node
        self._path.publish(self._path_message(result.poses, snapshot))
        if self._markers.get_subscription_count():
            best = result.ranking[: node.get_parameter("max_markers").value]
            paths = conversions.planar_path(
                result.candidates[best], self._spec, snapshot.poses[-1][[0, 1, 3]]
            )
            self._markers.publish(
                conversions.trajectory_markers(paths, result.costs[best], stamp, node.odom_frame)
            )
        if frames is not None:
            strip = frames.transpose(1, 0, 2, 3).reshape(frames.shape[1], -1, 3)
            header = conversions.header_message(stamp, node.base_frame)
            self._imagined.publish(images.image_message(strip, header))
