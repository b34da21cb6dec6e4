"""planner_node: plans to a goal (~/plan, service and action), and drives the plan when allowed."""

from __future__ import annotations

import time
from array import array
from collections.abc import Collection
from typing import Any

from nav_msgs.msg import Path
from rcl_interfaces.msg import SetParametersResult
from rclpy.action import CancelResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import Image
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService
from visualization_msgs.msg import MarkerArray

from planners.goals import Goal
from planners.planner import IterationReport, Planner
from planners.settings import ImaginationSettings
from v2w import parameters
from v2w.errors import NodeError
from v2w.messages import conversions, images, rollouts
from v2w.navigation.plan_follower import PlanFollower
from v2w.navigation.planning import (
    GOAL_IMAGE,
    GOAL_POSE,
    PlanningCore,
    PlanOutcome,
    PlanSettings,
    pose_goal,
)
from v2w.navigation.sensor_history import Snapshot
from v2w.navigation.trajectory_tracker import TrackerConfig, TrajectoryTracker
from v2w.nodes import lifecycle
from v2w.nodes.clients import REQUESTS, PatientActionServer
from v2w.nodes.model_node import ModelNode, chosen_seed, not_ready
from v2w.nodes.velocity_publisher import VelocityPublisher
from v2w_core.errors import V2WError


class PlannerNode(ModelNode):
    """Answers ~/plan with a model in its process, so that candidates never cross the network."""

    def __init__(self) -> None:
        super().__init__("planner_node", parameters.PLANNER)
        self._core: PlanningCore | None = None
        self._follower: PlanFollower | None = None
        self._timer: Any = None
        # For the node's life: a request that comes while the node is not active is answered so.
        self._service = self.create_service(
            PlanService, "~/plan", self._on_service, qos_profile=REQUESTS,
            callback_group=self.request_group,
        )  # fmt: skip
        self._action = PatientActionServer(
            self, PlanAction, "~/plan", self._on_action, pacer=self.pacer,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )  # fmt: skip
        self._command_group = MutuallyExclusiveCallbackGroup()
        self._path = self.create_publisher(Path, "~/optimal_path", 1)
        self._markers = self.create_publisher(MarkerArray, "~/candidate_trajectories", 1)
        self._imagined = self.create_publisher(Image, "~/imagined", 1)
        self._velocity = VelocityPublisher(self, lambda: self.base_frame)
        self.add_on_set_parameters_callback(self._on_parameters)

    def serve(self) -> None:
        values = parameters.values(self, self.table)
        self._core = PlanningCore(self.model, None if values["seed"] < 0 else values["seed"])
        tracker = TrajectoryTracker(self.model.config.action, self._tracker_config())
        self._follower = PlanFollower(
            tracker, self.history, self._core, lambda: self.now_ns, self._velocity
        )
        self._timer = self.create_timer(
            1.0 / values["cmd_vel_rate"], self._on_command, callback_group=self._command_group
        )

    def unserve(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._timer = self._core = self._follower = None

    def stop_robot(self, reason: str) -> None:
        follower = self._follower
        if follower is not None:
            follower.stop(reason)

    def halt(self) -> None:
        if self._follower is not None:
            self._follower.close()

    def on_time_jump(self) -> None:
        follower, core = self._follower, self._core
        if follower is not None:
            follower.stop("time jumped backwards")
        if core is not None:
            core.forget_drive()

    def on_model_replaced(self) -> None:
        core = self._core
        if core is not None:
            core.forget_drive()

    def on_model_lost(self) -> None:
        self.stop_robot("the device was lost")

    def batch_sizes(self, values: dict[str, Any]) -> tuple[int, ...]:
        from v2w.inference.model_runtime import sizes_up_to

        return sizes_up_to(min(values["num_candidates"], Planner.chunk_size))

    def horizon(self, values: dict[str, Any]) -> int:
        return int(values["horizon"])

    def check_parameters(
        self, values: dict[str, Any], changed: Collection[str] = ("horizon",)
    ) -> None:
        model = self.model
        if model is not None:  # else configure checks them
            window = model.config.num_frames - model.config.num_history
            parameters.check_horizon(values, window, changed)

    def _on_parameters(self, changes: list[Any]) -> SetParametersResult:
        changed = {change.name: change.value for change in changes}
        try:
            parameters.check_all(self.table, changed)
            self.check_parameters(parameters.values(self, self.table) | changed, changed)
        except V2WError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # -- requests -------------------------------------------------------------------------------

    def _on_service(self, request: Any, response: Any) -> Any:
        name = self._service.service_name
        return self.respond(response, lambda: self._plan(request, response, None), name)

    def _on_action(self, handle: Any) -> Any:
        result, request = PlanAction.Result(), handle.request
        name = self.resolve_service_name("~/plan") + "/_action/get_result"
        self.respond(result, lambda: self._plan(request, result, handle), name)
        request.goal_image.data = array("B")  # the action server keeps the handle for a while
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.error_code == 0:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _plan(self, request: Any, result: Any, handle: Any | None) -> float:
        core, follower = self._core, self._follower
        if core is None or follower is None:
            raise not_ready()
        if handle is not None and handle.is_cancel_requested:
            raise NodeError("plan", "not interrupted", "cancelled", code="NO_VALID_PLAN")
        settings = self._settings(request)
        described = self._described_goal(request)
        snapshot = self.snapshot()
        goal, key = self._goal(described, snapshot)
        began = time.perf_counter()

        def cancelled() -> bool:
            return self.is_given_up() or (handle is not None and handle.is_cancel_requested)

        def on_iteration(report: IterationReport) -> None:
            if handle is not None:
                self._feedback(handle, report, snapshot, began)

        outcome = core.plan(snapshot, goal, key, settings, on_iteration, cancelled, self.turn_began)
        if outcome.result.cancelled:
            why = "the node was deactivated" if self.stopping else "cancelled"
            if self.is_given_up() and not self.stopping:
                why = "its client is gone"
            raise NodeError("plan", "not interrupted", why, code="NO_VALID_PLAN")
        frames = None
        shown = self._imagined.get_subscription_count() > 0
        if (shown or request.return_frames) and outcome.result.latents is not None:
            frames = self.model.decode(outcome.result.latents)
        with self.model.timings.stage("answer"):
            self._fill(result, outcome, snapshot, frames if request.return_frames else None)
            self._show(outcome, snapshot, frames if shown else None)
        allowed = self.get_parameter("publish_velocity").value and not cancelled()
        if allowed and not outcome.arrival.arrived:
            steps = outcome.result.action_sequence[: settings.execute_steps]
            self._follow(follower, steps, snapshot)
        return outcome.planning_s

    def _follow(self, follower: PlanFollower, steps: Any, snapshot: Snapshot) -> None:
        """Drive these steps, unless the history that they were planned from is too old."""
        age_s = (self.now_ns - int(snapshot.stamps_ns[-1])) / conversions.NS
        longest_s = self.get_parameter("max_plan_age").value
        if age_s > longest_s:
            self.get_logger().warning(
                f"the plan is not driven: its newest frame is {age_s:.2f} s old, "
                f"max_plan_age is {longest_s:g} s"
            )
            return
        newest = self.history.newest_pose() if self.history is not None else None
        if newest is not None:
            x, y, _, yaw = newest[1]
            follower.follow(steps, (x, y, yaw))

    def _settings(self, request: Any) -> PlanSettings:
        values = parameters.values(self, self.table)
        iterations = request.num_iterations or values["num_iterations"]
        candidates = request.num_candidates or values["num_candidates"]
        budget_s = conversions.stamp_ns(request.time_budget) / 1e9 or values["time_budget"]
        config = self.model.config
        longest = min(values["max_horizon"], config.num_frames - config.num_history)
        for name, value, low, high in (
            ("num_iterations", iterations, 1, 1000),
            ("num_candidates", candidates, 2, values["max_candidates"]),
            ("time_budget", budget_s, 0.001, 3600.0),
            ("horizon", values["horizon"], 1, longest),
        ):
            if not low <= value <= high:
                raise NodeError(name, f"from {low} to {high}", value)
        cost = self.model.cost(iterations * candidates * values["horizon"])
        seconds = min(budget_s, cost.seconds(self.model.pace, decoded=False))
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
        )

    def _described_goal(
        self, request: Any
    ) -> tuple[Goal, object] | tuple[float, float, float, str]:
        """The goal of a request without its history: (goal, key) or (x, y, yaw, frame_id).

        Bad goals are refused here, whether there is a history or not.
        """
        assert self._core is not None
        if request.goal_type == GOAL_IMAGE:
            data = bytes(request.goal_image.data)
            costs = parameters.goal_costs(parameters.values(self, self.table), "image_goal")
            return self._core.image_goal(data, costs), hash(data)
        if request.goal_type != GOAL_POSE:
            raise NodeError("goal_type", "0 (pose) or 1 (image)", request.goal_type)
        x, y, _, yaw = conversions.planar_pose(request.goal_pose.pose)
        return x, y, yaw, str(request.goal_pose.header.frame_id)

    def _goal(self, described: tuple[Any, ...], snapshot: Snapshot) -> tuple[Goal, object]:
        if len(described) == 2:
            return described[0], described[1]
        x, y, yaw, frame_id = described
        here = snapshot.poses[-1]
        goal = pose_goal(
            (x, y, yaw),
            frame_id,
            odom_frame=self.odom_frame,
            base_frame=self.base_frame,
            here=(float(here[0]), float(here[1]), float(here[3])),
            tolerance_m=self.get_parameter("goal_tolerance").value,
            tolerance_rad=self.get_parameter("goal_yaw_tolerance").value,
            costs=parameters.goal_costs(parameters.values(self, self.table), "pose_goal"),
        )
        return goal, goal.pose

    # -- answers --------------------------------------------------------------------------------

    def _path_of(self, actions: Any, snapshot: Snapshot) -> Any:
        spec = self.model.config.action
        poses = conversions.planar_path(actions, spec, snapshot.poses[-1][[0, 1, 3]])
        stamp = int(snapshot.stamps_ns[-1])
        return conversions.path_message(poses, stamp, spec.dt_s, self.odom_frame)

    def _feedback(
        self, handle: Any, report: IterationReport, snapshot: Snapshot, began: float
    ) -> None:
        feedback = PlanAction.Feedback(
            iteration=report.iteration,
            num_iterations=report.num_iterations,
            candidates_evaluated=report.num_scored,
            best_cost=float(report.cost),
            mean_cost=float(report.mean_cost),
            best_path=self._path_of(report.action_sequence, snapshot),
            elapsed=conversions.duration_message(time.perf_counter() - began),
        )
        handle.publish_feedback(feedback)

    def _fill(
        self, message: Any, outcome: PlanOutcome, snapshot: Snapshot, frames: Any | None
    ) -> None:
        result = outcome.result
        actions = result.action_sequence
        spec = self.model.config.action
        rollout = rollouts.rollout_message(
            spec, snapshot, actions, odom_frame=self.odom_frame, base_frame=self.base_frame
        )
        rollout.cost = float(result.cost)
        if frames is not None:
            quality = self.get_parameter("jpeg_quality").value
            rollouts.fill_frames(
                rollout, frames, spec, base_frame=self.base_frame, frame_format=rollouts.JPEG,
                quality=quality,
            )  # fmt: skip
        message.plan, message.path, message.best = rollout.actions, rollout.path, rollout
        message.goal_reached = bool(outcome.arrival.arrived)
        message.goal_distance = float(outcome.arrival.distance)
        message.frames_imagined = int(result.frames_imagined)
        message.timed_out = bool(result.timed_out)
        message.planning_time = conversions.duration_message(outcome.planning_s)

    def _show(self, outcome: PlanOutcome, snapshot: Snapshot, frames: Any | None) -> None:
        """Publish path, markers and imagined frames for RViz, where somebody subscribes."""
        result, stamp = outcome.result, int(snapshot.stamps_ns[-1])
        self._path.publish(self._path_of(result.action_sequence, snapshot))
        if self._markers.get_subscription_count():
            spec = self.model.config.action
            best = result.ranking[: self.get_parameter("max_markers").value]
            paths = conversions.planar_path(
                result.candidates[best], spec, snapshot.poses[-1][[0, 1, 3]]
            )
            self._markers.publish(
                conversions.trajectory_markers(paths, result.costs[best], stamp, self.odom_frame)
            )
        if frames is not None:
            strip = frames.transpose(1, 0, 2, 3).reshape(frames.shape[1], -1, 3)
            header = conversions.header_message(stamp, self.base_frame)
            self._imagined.publish(images.image_message(strip, header))

    # -- driving --------------------------------------------------------------------------------

    def _on_command(self) -> None:
        follower = self._follower
        if follower is not None:
            allowed = self.get_parameter("publish_velocity").value
            follower.tick(self._tracker_config(), allowed)

    def _tracker_config(self) -> TrackerConfig:
        names = ("tracking_gain", "odometry_timeout", "settle_time")
        return TrackerConfig(*(self.get_parameter(name).value for name in names))


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(PlannerNode)


if __name__ == "__main__":
    main()
