"""What a request for a plan asks for: its numbers and its goal, checked before anything begins."""

from __future__ import annotations

import math
from typing import Any

from planners.goals import Goal
from planners.settings import ImaginationSettings
from v2w import parameters
from v2w.errors import NodeError
from v2w.messages import conversions
from v2w.navigation.history import Snapshot
from v2w.navigation.planning import GOAL_IMAGE, GOAL_POSE, PlanningCore, PlanSettings, pose_goal
from v2w.nodes.model_node import ModelNode, chosen_seed
from v2w.safety.checks import settings_from


class PlanRequests:
    """Reads requests of the service and goals of the action.

    Args:
        node: has the model, the frames and the parameters of planner_node.
    """

    def __init__(self, node: ModelNode) -> None:
        self._node = node

    @property
    def _model(self) -> Any:
        return self._node.model

    def _costs(self, goal: str) -> Any:
        return parameters.goal_costs(parameters.values(self._node, self._node.table), goal)

    def settings(self, request: Any) -> PlanSettings:
        """The numbers of a request, defaults filled in.

        Raises:
            NodeError: INVALID_REQUEST; a number out of range, or a plan that would take too long.
        """
        values = parameters.values(self._node, self._node.table)
        iterations = request.num_iterations or values["num_iterations"]
        candidates = request.num_candidates or values["num_candidates"]
        budget_s = conversions.stamp_ns(request.time_budget) / 1e9 or values["time_budget"]
        config = self._model.config
        longest = min(values["max_horizon"], config.num_frames - config.num_history)
        for name, value, low, high in (
            ("num_iterations", iterations, 1, 1000),
            ("num_candidates", candidates, 2, values["max_candidates"]),
            ("time_budget", budget_s, 0.001, 3600.0),
            ("horizon", values["horizon"], 1, longest),
        ):
            if not low <= value <= high:
                raise NodeError(name, f"from {low} to {high}", value)
        cost = self._model.cost(iterations * candidates * values["horizon"])
        seconds = min(budget_s, cost.seconds(self._model.pace, decoded=False))
        cost.check_time(seconds, values["max_request_time"])
        return PlanSettings(
            horizon=values["horizon"],
            num_iterations=iterations,
            num_candidates=candidates,
            time_budget_s=budget_s,
            seed=None if request.seed < 0 else chosen_seed(request.seed),
            drive=values["publish_velocity"] and request.seed < 0,
            blocked_motion_weight=values["blocked_motion.weight"],
            execute_steps=min(values["execute_steps"], values["horizon"]),
            imagination=ImaginationSettings(
                screening_fraction=values["screening_fraction"],
                screening_horizon=values["screening_horizon"],
            ),
            limits=settings_from(values).limits,
        )

    def described(
        self, request: Any, core: PlanningCore
    ) -> tuple[Goal, object] | tuple[float, float, float, str]:
        """The goal of a request without its history: (goal, key) or (x, y, yaw, frame_id).

        Bad goals are refused here, whether there is a history or not.

        Raises:
            V2WError: INVALID_REQUEST; no picture, no pose, or an unknown kind of goal.
        """
        if request.goal_type == GOAL_IMAGE:
            data = bytes(request.goal_image.data)
            return core.image_goal(data, self._costs("image_goal")), hash(data)
        if request.goal_type != GOAL_POSE:
            raise NodeError("goal_type", "0 (pose) or 1 (image)", request.goal_type)
        x, y, _, yaw = conversions.planar_pose(request.goal_pose.pose)
        return x, y, yaw, str(request.goal_pose.header.frame_id)

    def goal(self, described: tuple[Any, ...], snapshot: Snapshot) -> tuple[Goal, object]:
        """The goal in the odometry frame, and what tells it from others.

        Raises:
            NodeError: TF_ERROR for a frame that is not known; INVALID_REQUEST where it is too far.
        """
        if len(described) == 2:
            return described[0], described[1]
        x, y, yaw, frame_id = described
        here = snapshot.poses[-1]
        goal = pose_goal(
            (x, y, yaw),
            frame_id,
            odom_frame=self._node.odom_frame,
            base_frame=self._node.base_frame,
            here=(float(here[0]), float(here[1]), float(here[3])),
            tolerance_m=self._node.get_parameter("goal_tolerance").value,
            tolerance_rad=self._node.get_parameter("goal_yaw_tolerance").value,
            costs=self._costs("pose_goal"),
        )
        away_m = math.hypot(goal.pose[0] - here[0], goal.pose[1] - here[1])
        farthest_m = self._node.get_parameter("max_goal_distance").value
        if not away_m <= farthest_m:
            raise NodeError(
                "goal_pose", f"at most {farthest_m:g} m away (max_goal_distance)", f"{away_m:g} m"
            )
        return goal, goal.pose
