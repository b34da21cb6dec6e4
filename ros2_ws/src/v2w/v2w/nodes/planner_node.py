"""planner_node: a goal in, a plan out (~/plan, service and action), driven when allowed to."""

from __future__ import annotations

import time
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Path
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService
from visualization_msgs.msg import MarkerArray

from planners.goals import Goal
from planners.planner import IterationReport, Planner
from planners.settings import ImaginationSettings
from v2w import parameters
from v2w.errors import NodeError
from v2w.messages import conversions, images, rollouts
from v2w.navigation.plan_follower import Driver
from v2w.navigation.planning import (
    GOAL_IMAGE,
    GOAL_POSE,
    PlanningCore,
    PlanOutcome,
    PlanSettings,
    pose_goal,
)
from v2w.navigation.sensor_history import Snapshot
from v2w.nodes import lifecycle
from v2w.nodes.diagnostics import LATCHED
from v2w.nodes.model_node import ModelNode, chosen_seed


class PlannerNode(ModelNode):
    """Owns a model of its own: the candidates' latents never leave the process."""

    def __init__(self) -> None:
        super().__init__("planner_node", parameters.PLANNER)
        self._core: PlanningCore | None = None
        self._driver: Driver | None = None
        self._served: list[tuple[Any, Any]] = []
        self._driving_group = MutuallyExclusiveCallbackGroup()
        self._path = self.create_publisher(Path, "~/optimal_path", 1)
        self._markers = self.create_publisher(MarkerArray, "~/candidate_trajectories", 1)
        self._imagined = self.create_publisher(Image, "~/imagined", 1)
        self._executing = self.create_publisher(Bool, "~/executing", LATCHED)
        self._was_executing: bool | None = None
        self._stamped = self.get_parameter("enable_stamped_cmd_vel").value
        self.cmd_vel = self.create_publisher(
            TwistStamped if self._stamped else Twist, self.get_parameter("cmd_vel_topic").value, 1
        )

    def serve(self) -> None:
        values = parameters.values(self, self.table)
        self._core = PlanningCore(self.model, None if values["seed"] < 0 else values["seed"])
        self._driver = Driver(self, self._core)
        service = self.create_service(
            PlanService, "~/plan", self._on_service, callback_group=self.request_group
        )
        action = ActionServer(
            self,
            PlanAction,
            "~/plan",
            execute_callback=self._on_action,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=self.request_group,
        )
        timer = self.create_timer(
            1.0 / values["cmd_vel_rate"], self._driver.tick, callback_group=self._driving_group
        )
        self._served = [
            (self.destroy_service, service),
            (lambda server: server.destroy(), action),
            (self.destroy_timer, timer),
        ]

    def unserve(self) -> None:
        served, self._served = self._served, []
        for destroy, thing in served:
            destroy(thing)
        self._core = self._driver = None

    def halt(self) -> None:
        if self._driver is not None:
            self._driver.close()

    def on_time_jump(self) -> None:
        driver, core = self._driver, self._core
        if driver is not None:
            driver.stop("time jumped backwards")
        if core is not None:
            core.forget_drive()

    def on_model_replaced(self) -> None:
        core = self._core
        if core is not None:
            core.forget_drive()

    def on_model_lost(self) -> None:
        driver = self._driver
        if driver is not None:
            driver.stop("the device was lost")

    def batch_sizes(self, values: dict[str, Any]) -> tuple[int, ...]:
        from v2w.inference.model_runtime import sizes_up_to

        return sizes_up_to(min(values["num_candidates"], Planner.chunk_size))

    def horizon(self, values: dict[str, Any]) -> int:
        return int(values["horizon"])

    # -- requests -------------------------------------------------------------------------------

    def _on_service(self, request: Any, response: Any) -> Any:
        return self.respond(response, lambda: self._plan(request, response, None))

    def _on_action(self, handle: Any) -> Any:
        result = PlanAction.Result()
        self.respond(result, lambda: self._plan(handle.request, result, handle))
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.error_code == 0:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _plan(self, request: Any, result: Any, handle: Any | None) -> float:
        core, driver = self._core, self._driver
        if core is None or driver is None:
            raise NodeError("node", "configured and active", code="NOT_READY")
        if handle is not None and handle.is_cancel_requested:
            raise NodeError("plan", "not interrupted", "cancelled", code="NO_VALID_PLAN")
        settings = self._settings(request)
        wanted = self._wanted(request)
        snapshot = self.snapshot()
        goal, key = self._goal(wanted, snapshot)
        began = time.perf_counter()

        def unwanted() -> bool:
            return self.stopping or (handle is not None and handle.is_cancel_requested)

        def on_iteration(report: IterationReport) -> None:
            if handle is not None:
                self._feedback(handle, report, snapshot, began)

        outcome = core.plan(snapshot, goal, key, settings, on_iteration, unwanted, self.turn_began)
        if outcome.result.cancelled:
            why = "the node was deactivated" if self.stopping else "cancelled"
            raise NodeError("plan", "not interrupted", why, code="NO_VALID_PLAN")
        frames = None
        shown = self._imagined.get_subscription_count() > 0
        if (shown or request.return_frames) and outcome.result.latents is not None:
            frames = self.model.decode(outcome.result.latents)
        with self.model.timings.stage("answer"):
            self._fill(result, outcome, snapshot, frames if request.return_frames else None)
            self._show(outcome, snapshot, frames if shown else None)
        allowed = self.get_parameter("publish_velocity").value and not unwanted()
        if allowed and not outcome.arrival.arrived:
            steps = outcome.result.action_sequence[: settings.execute_steps]
            self._follow(driver, steps, snapshot)
        return outcome.planning_s

    def _follow(self, driver: Driver, steps: Any, snapshot: Snapshot) -> None:
        """Drive these steps, unless what they were planned from is too long ago."""
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
            driver.follow(steps, (x, y, yaw))

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

    def _wanted(self, request: Any) -> tuple[Goal, object] | tuple[float, float, float, str]:
        """What does not need the history: bad goals are refused whether there is one or not."""
        assert self._core is not None
        if request.goal_type == GOAL_IMAGE:
            data = bytes(request.goal_image.data)
            costs = parameters.goal_costs(parameters.values(self, self.table), "image_goal")
            return self._core.image_goal(data, costs), hash(data)
        if request.goal_type != GOAL_POSE:
            raise NodeError("goal_type", "0 (pose) or 1 (image)", request.goal_type)
        x, y, _, yaw = conversions.planar_pose(request.goal_pose.pose)
        return x, y, yaw, str(request.goal_pose.header.frame_id)

    def _goal(self, wanted: tuple[Any, ...], snapshot: Snapshot) -> tuple[Goal, object]:
        if len(wanted) == 2:
            return wanted[0], wanted[1]
        x, y, yaw, frame_id = wanted
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
        rollout = rollouts.rollout_message(self, snapshot, actions)
        rollout.cost = float(result.cost)
        if frames is not None:
            quality = self.get_parameter("jpeg_quality").value
            rollouts.fill_frames(self, rollout, frames, rollouts.JPEG, quality)
        message.plan, message.path, message.best = rollout.actions, rollout.path, rollout
        message.goal_reached = bool(outcome.arrival.arrived)
        message.goal_distance = float(outcome.arrival.distance)
        message.frames_imagined = int(result.frames_imagined)
        message.timed_out = bool(result.timed_out)
        message.planning_time = conversions.duration_message(outcome.planning_s)

    def _show(self, outcome: PlanOutcome, snapshot: Snapshot, frames: Any | None) -> None:
        """Pictures for RViz; no work for topics that nobody listens to."""
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

    def report_executing(self, executing: bool) -> None:
        """~/executing says so, if it does not already."""
        if executing != self._was_executing:
            self._was_executing = executing
            self._executing.publish(Bool(data=executing))

    def publish_twist(self, twist: tuple[float, float, float]) -> None:
        """One velocity command (m/s, m/s, rad/s)."""
        message = Twist()
        message.linear.x, message.linear.y, message.angular.z = twist
        if self._stamped:
            header = conversions.header_message(self.now_ns, self.base_frame)
            message = TwistStamped(header=header, twist=message)
        self.cmd_vel.publish(message)


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(PlannerNode)


if __name__ == "__main__":
    main()
