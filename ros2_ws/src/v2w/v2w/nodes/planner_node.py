"""planner_node: plans to a goal (~/plan, service and action), and drives the plan when allowed."""

from __future__ import annotations

import time
from array import array
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.action import CancelResponse
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService

from planners.planner import IterationReport, Planner
from v2w import parameters
from v2w.errors import CODES, NodeError
from v2w.inference.status import StatusReport
from v2w.messages import conversions
from v2w.navigation.plan_follower import Motion
from v2w.navigation.planning import (
    GOAL_IMAGE,
    PlanningCore,
    PlanOutcome,
    PlanSettings,
)
from v2w.nodes import lifecycle
from v2w.nodes.clients import REQUESTS, ClientWatch, PatientActionServer
from v2w.nodes.driving import Driving
from v2w.nodes.model_node import ModelNode
from v2w.nodes.plan_answers import PlanAnswers
from v2w.nodes.plan_goals import ActionGoals, PlanGoal
from v2w.nodes.plan_requests import PlanRequests
from v2w.nodes.requests import not_ready
from v2w.safety import camera
from v2w.safety.checks import PlanOrigin
from v2w_core.errors import V2WError

#: How often a goal that is being driven is looked at, and tells its client how far it is [s].
WAIT_S, FEEDBACK_S = 0.01, 0.2
#: A plan of fewer candidates is none, also where a goal asks for fewer; min_candidates may be less.
FEWEST = 8


class PlannerNode(ModelNode):
    """Answers ~/plan with a model in its process, so that candidates never cross the network."""

    def __init__(self) -> None:
        super().__init__("planner_node", parameters.PLANNER)
        self._core: PlanningCore | None = None
        self._goals = ActionGoals()
        # One thread for the goal that is being driven, one for ~/stop.
        self.num_threads += 2
        self._asked, self._answers = PlanRequests(self), PlanAnswers(self)
        self._driving = Driving(
            self,
            self.table,
            self.graph,
            lambda: self.base_frame,
            lambda: self.diagnostics.publish(),
        )
        # For the node's life: a request that comes while the node is not active is answered so.
        self.create_service(
            PlanService, "~/plan", self._on_service, qos_profile=REQUESTS,
            callback_group=self.request_group,
        )  # fmt: skip
        self._action = PatientActionServer(
            self, PlanAction, "~/plan", self._on_action, pacer=self.requests.pacer,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )  # fmt: skip
        self.add_on_set_parameters_callback(self._on_parameters)

    def serve(self) -> None:
        values = parameters.values(self, self.table)
        self._core = PlanningCore(self.model, None if values["seed"] < 0 else values["seed"])
        self._driving.start(self.model.config.action, self._core)

    def unserve(self) -> None:
        self._driving.end()
        self._core = None

    def stop_robot(self, reason: str) -> None:
        self._driving.stop(reason)

    def halt(self) -> None:
        self._driving.halt()

    def why_not_active(self) -> str:
        return self._driving.why_not_active()

    def sensor_observer(self) -> Driving:
        return self._driving

    def on_time_jump(self) -> None:
        self._driving.time_jumped()
        core = self._core
        if core is not None:
            core.forget_drive()

    def on_model_replaced(self) -> None:
        core = self._core
        if core is not None:
            core.forget_drive()

    def on_model_lost(self) -> None:
        self._driving.stop("the device was lost")

    def report(self) -> StatusReport:
        supervisor = self._driving.supervisor
        return replace(
            super().report(),
            checks=supervisor.lines(),
            stopped_because=supervisor.stopped_because,
        )

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
        goal = PlanGoal(ClientWatch(self.graph, "~/plan"))
        self.requests.respond(response, lambda: self._plan(request, response, goal), goal.client)
        if response.error_code == 0:
            response.error_msg = goal.refused
        return response

    def _on_accepted(self, handle: Any) -> None:
        """Where plans are driven a new goal pre-empts the others: the robot has one goal at a time.

        What they plan is given up, and what they drive stops.
        """
        goal = PlanGoal(ClientWatch(self.graph, "~/plan/_action/send_goal"), handle)
        alone = self.get_parameter("publish_velocity").value
        for motion in self._goals.add(goal, alone=alone):
            self._driving.stop_motion(motion, "pre-empted by a newer goal")
        handle.execute()

    def _on_action(self, handle: Any) -> Any:
        result, request = PlanAction.Result(), handle.request
        goal = self._goals.of(handle)
        try:
            self.requests.respond(result, lambda: self._plan(request, result, goal), goal.client)
            if goal.motion is not None:
                self._see_it_driven(goal, goal.motion, result)
        finally:
            self._goals.remove(goal)
            request.goal_image.data = array("B")  # the action server keeps the handle for a while
        if result.error_code == 0 and goal.refused:
            result.error_code, result.error_msg = CODES["NOT_DRIVEN"], goal.refused
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.error_code == 0:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _see_it_driven(self, goal: PlanGoal, motion: Motion, result: Any) -> None:
        """Wait until the robot stands; stop it when the goal is cancelled or its client is gone."""
        began, said = time.monotonic(), 0.0
        length_s = self.get_parameter("execute_steps").value * self.model.config.action.dt_s
        length_s += self.get_parameter("settle_time").value
        while not motion.ended.wait(WAIT_S):
            now = time.monotonic()
            if now - said < FEEDBACK_S and not (goal.is_cancelled or goal.given_up):
                continue
            said = now
            why = goal.must_not_drive(self._needs_client)
            if why:
                self._driving.stop_motion(motion, why)
                continue
            feedback = PlanAction.Feedback(
                phase=PlanAction.Feedback.DRIVING,
                elapsed=conversions.duration_message(now - goal.began),
                time_left=conversions.duration_message(max(0.0, length_s - (now - began))),
            )
            goal.handle.publish_feedback(feedback)
        if motion.reason:
            goal.refused = f"stopped: {motion.reason}"
            result.not_driven_because = motion.reason

    @property
    def _needs_client(self) -> bool:
        return bool(self.get_parameter("require_live_client").value)

    def _plan(self, request: Any, result: Any, goal: PlanGoal) -> float:
        core = self._core
        if core is None:
            raise not_ready()
        needs_client = self._needs_client
        self._refuse_unwanted(goal, needs_client)
        settings = self._asked.settings(request)
        described = self._asked.described(request, core)
        snapshot = self.snapshot()
        origin = self._driving.origin(int(snapshot.stamps_ns[-1]), snapshot.poses[-1])
        self._driving.attend()
        target, key = self._asked.goal(described, snapshot)
        shows_nothing = camera.frames_show_nothing(
            snapshot.frames, self._driving.supervisor.settings.camera
        )
        if request.goal_type == GOAL_IMAGE:
            self._refuse_blind(shows_nothing)

        def on_iteration(report: IterationReport) -> None:
            if goal.handle is not None:
                goal.handle.publish_feedback(self._answers.feedback(goal, report, snapshot))

        def interrupted() -> bool:
            return self.requests.is_given_up() or bool(goal.unwanted(needs_client))

        outcome = core.plan(
            snapshot, target, key, settings, on_iteration, interrupted, self.requests.turn_began
        )
        if outcome.result.cancelled:
            self._refuse_unwanted(goal, needs_client)
            why = "the node was deactivated" if self.stopping else "cancelled"
            if self.requests.is_given_up() and not self.stopping:
                why = "its client is gone"
            raise NodeError("plan", "not interrupted", why, code="NO_VALID_PLAN")
        frames = None
        answers = self._answers
        shown = answers.shows_frames
        if (shown or request.return_frames) and outcome.result.latents is not None:
            frames = self.model.decode(outcome.result.latents)
        with self.model.timings.stage("answer"):
            answers.fill(result, outcome, snapshot, frames if request.return_frames else None)
            answers.show(outcome, snapshot, frames if shown else None)
        self._drive(goal, outcome, settings, origin, result, shows_nothing)
        return outcome.planning_s

    def _refuse_unwanted(self, goal: PlanGoal, needs_client: bool) -> None:
        why = "the node was deactivated" if self.stopping else goal.unwanted(needs_client)
        if why:
            raise NodeError("plan", "not interrupted", why, code="NO_VALID_PLAN")

    def _refuse_blind(self, shows_nothing: str) -> None:
        """An image goal needs a camera that shows something."""
        reason = self._driving.supervisor.camera_fault() or shows_nothing
        if reason:
            rule = "pictures of the world, to compare with that of the goal"
            raise NodeError("camera", rule, reason, code="NO_VALID_PLAN")

    def _drive(
        self,
        goal: PlanGoal,
        outcome: PlanOutcome,
        settings: PlanSettings,
        origin: PlanOrigin,
        result: Any,
        shows_nothing: str,
    ) -> None:
        """Drive the first steps of the plan where that is allowed; else the result says why not."""
        if outcome.arrival.arrived:
            result.not_driven_because = "the goal is reached"
            return
        if not self.get_parameter("publish_velocity").value:
            result.not_driven_because = "publish_velocity is off"
            return
        wanted = self.get_parameter("min_candidates").value
        least = min(wanted, max(settings.num_candidates, FEWEST))
        reason, motion = "", None
        if outcome.num_scored < least:
            reason = f"{outcome.num_scored} candidates were scored, at least {least} are needed"
        elif self.stopping:
            reason = "the node was deactivated"
        else:
            reason = goal.must_not_drive(self._needs_client)
        if not reason and shows_nothing:
            reason = f"camera alive: {shows_nothing}"
        if reason:
            self.get_logger().warning(f"the plan is not driven: {reason}")
        else:
            steps = outcome.result.action_sequence[: settings.execute_steps]
            motion, reason = self._driving.begin(steps, self.model.config.action, origin)
        if motion is None:
            result.not_driven_because = reason
            goal.refused = f"not driven: {reason}"
            return
        result.driven = True
        goal.motion = motion
        if goal.handle is not None:
            feedback = PlanAction.Feedback(
                phase=PlanAction.Feedback.DRIVING,
                iteration=outcome.result.num_iterations,
                num_iterations=settings.num_iterations,
                candidates_evaluated=outcome.num_scored,
                best_cost=float(outcome.result.cost),
                best_path=result.path,
                best=result.best,
                goal_distance=result.goal_distance,
                elapsed=conversions.duration_message(time.monotonic() - goal.began),
            )
            goal.handle.publish_feedback(feedback)


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(PlannerNode)


if __name__ == "__main__":
    main()
