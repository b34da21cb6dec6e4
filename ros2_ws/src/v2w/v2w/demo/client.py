"""The demo's client of the nodes: gets camera images, requests plans, and waits for drives."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from v2w_msgs.action import Plan
from v2w_msgs.msg import ModelStatus
from v2w_msgs.srv import Imagine, Teleport
from visualization_msgs.msg import MarkerArray

from v2w.demo.action_client import ThreadedActionClient
from v2w.demo.goals import DemoGoal, Pose
from v2w.demo.records import PlanRecord, Recorder, Trajectory
from v2w.messages import conversions, images
from v2w.nodes.diagnostics import LATCHED
from v2w_core.spec import ActionSpec

MODEL_NODES = ("planner_node", "world_model_node")
#: Errors right after a teleport or between two requests: the request is repeated a little later.
TRY_AGAIN = (
    Plan.Result.HISTORY_UNAVAILABLE, Plan.Result.HISTORY_STALE, Plan.Result.BUSY,
    Plan.Result.NOT_DRIVEN,
)  # fmt: skip
#: The robot drives a plan for no longer than this [s].
LONGEST_DRIVE_S = 30.0


class GraphError(RuntimeError):
    """A node did not answer in time, or refused a request."""


class RobotClient:
    """A node in the process of the demo; its callbacks run in a separate thread.

    Args:
        domain_id: ROS_DOMAIN_ID of the nodes.
        recorder: gets every camera frame.
        check: called while waiting; raises an error when a node has died.
    """

    def __init__(self, domain_id: int, recorder: Recorder, check: Callable[[], None]) -> None:
        self._recorder, self._check = recorder, check
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = rclpy.create_node("demo", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._status: dict[str, ModelStatus] = {}
        self._odometry: dict[int, Pose] = {}
        self._camera: tuple[int, NDArray[np.uint8], Pose] | None = None
        self._markers: MarkerArray | None = None
        self._driven: Any = None  # the feedback with which the driving began
        subscribe = self._node.create_subscription
        for name in MODEL_NODES:
            subscribe(ModelStatus, f"{name}/status", self._on_status(name), LATCHED)
        subscribe(Odometry, "odom", self._on_odometry, qos_profile_sensor_data)
        subscribe(Image, "image_raw", self._on_image, qos_profile_sensor_data)
        subscribe(MarkerArray, "planner_node/candidate_trajectories", self._on_markers, 1)
        self._plan = ThreadedActionClient(self._node, Plan, "planner_node/plan")
        self._teleport = self._node.create_client(Teleport, "simulator_node/teleport")
        self._imagine = self._node.create_client(Imagine, "world_model_node/imagine")
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph. May be called twice."""
        self._context.try_shutdown()  # ends the spinning before its node is destroyed
        self._thread.join(timeout=10.0)
        if not self._thread.is_alive():
            self._executor.shutdown(timeout_sec=2.0)

    # -- waiting --------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Wait for the condition's first true value, and return it.

        Raises:
            GraphError: there was none within ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            self._check()
            time.sleep(0.01)
        raise GraphError(f"{what}: nothing within {timeout_s:.0f} s")

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for camera images, and until both model nodes are READY and offer their services.

        Raises:
            GraphError: one of them is not there within ``timeout_s``.
        """
        self.wait(lambda: self._camera, timeout_s, "simulator_node's camera")
        for name in MODEL_NODES:
            self.wait(lambda name=name: self._is_ready(name), timeout_s, f"{name} ready")
        for client in (self._teleport, self._imagine):
            self.wait(client.service_is_ready, 10.0, client.srv_name)
        self.wait(self._plan.server_is_ready, 10.0, "planner_node/plan")

    def _is_ready(self, name: str) -> bool:
        return name in self._status and self._status[name].state == ModelStatus.READY

    # -- the robot ------------------------------------------------------------------------------

    def look(self) -> tuple[NDArray[np.uint8], Pose]:
        """Wait for the next camera frame; returns RGB uint8 [H, W, 3] and the pose of that time."""
        before = self._camera[0] if self._camera is not None else -1

        def newer() -> Any:
            return self._camera is not None and self._camera[0] > before and self._camera

        _, image, pose = self.wait(newer, 10.0, "simulator_node's camera")
        return image, pose

    def teleport(self, pose: Pose) -> None:
        """Put the robot somewhere, and wait until the nodes' histories begin after that.

        Args:
            pose: (x m, y m, yaw rad) in the maze.

        Raises:
            GraphError: the simulator refused.
        """
        x, y, yaw = pose
        answer = self._call(self._teleport, Teleport.Request(x=x, y=y, yaw=yaw), 10.0)
        if not answer.success:
            raise GraphError(f"teleport to {pose}: {answer.message}")
        begin = self.look_stamp()
        self.wait(lambda: self.look_stamp() > begin + 1_200_000_000, 20.0, "camera frames")

    def look_stamp(self) -> int:
        """Stamp of the newest camera frame [ns]."""
        return self._camera[0] if self._camera is not None else 0

    def imagine(self, candidates: NDArray[np.float32], spec: ActionSpec) -> list[Any]:
        """Let world_model_node imagine candidates.

        Args:
            candidates: [K, horizon, A] in physical units.
            spec: their action space.

        Returns:
            RGB uint8 [horizon, h, w, 3] for each candidate.

        Raises:
            GraphError: the node refused.
        """
        request = Imagine.Request(
            candidates=[conversions.sequence_message(c, spec, 0, "base_link") for c in candidates],
            seed=0,
            frame_format=Imagine.Request.PNG,
        )
        answer = self._call(self._imagine, request, 60.0)
        if answer.error_code:
            raise GraphError(f"world_model_node: {answer.error_msg}")
        return [_frames(rollout) for rollout in answer.rollouts]

    def _call(self, client: Any, request: Any, timeout_s: float) -> Any:
        future = client.call_async(request)
        self.wait(future.done, timeout_s, client.srv_name)
        return future.result()

    # -- plans ----------------------------------------------------------------------------------

    def plan(
        self,
        goal: DemoGoal,
        index: int,
        num_candidates: int,
        num_iterations: int,
        limit_s: float,
        on_driving: Callable[[PlanRecord], None],
    ) -> PlanRecord | None:
        """Request a plan from planner_node, which drives the first steps of it, and see that done.

        Args:
            goal: where to.
            index: number of the plan, for the record.
            num_candidates: action sequences in each iteration.
            num_iterations: iterations of the optimiser.
            limit_s: longest time to wait for the plan [s].
            on_driving: called with the plan when the robot begins to drive.

        Returns:
            The plan; None when there was none within ``limit_s`` and it was cancelled.

        Raises:
            GraphError: the planner refused.
        """
        request = _request(goal)
        request.num_candidates, request.num_iterations = num_candidates, num_iterations
        request.time_budget = conversions.duration_message(min(limit_s, 60.0))
        request.return_frames = True
        deadline = time.monotonic() + limit_s
        self._markers = self._driven = None
        plans: list[PlanRecord] = []

        def begin() -> None:
            feedback = self._driven
            if feedback is not None and not plans:
                seconds = conversions.stamp_ns(feedback.elapsed) / 1e9
                plans.append(self._record(index, feedback.best, feedback.goal_distance, seconds))
                on_driving(plans[0])

        while True:
            result = self._request_plan(request, deadline, begin)
            if result is None:
                return None
            begin()
            if result.error_code == 0 or plans:
                break
            if result.error_code not in TRY_AGAIN or time.monotonic() > deadline:
                raise GraphError(f"planner_node: {result.error_msg}")
            time.sleep(0.2)
        if not plans:
            plans.append(self._record(index, result.best, result.goal_distance, 0.0))
        plan = plans[0]
        plan.planning_s = conversions.stamp_ns(result.planning_time) / 1e9
        plan.believes_arrived = bool(result.goal_reached)
        plan.frames_imagined = int(result.frames_imagined)
        plan.timed_out = bool(result.timed_out)
        return plan

    def _record(self, index: int, best: Any, distance: float, planning_s: float) -> PlanRecord:
        if not self._markers:
            with contextlib.suppress(GraphError):
                self.wait(lambda: self._markers, 0.3, "candidate_trajectories")
        return PlanRecord(
            index=index,
            planning_s=planning_s,
            cost=float(best.cost),
            frames=_frames(best),
            path=_poses(best.path),
            candidates=_trajectories(self._markers),
            distance=float(distance),
            believes_arrived=False,
            frames_imagined=0,
            timed_out=False,
        )

    def _request_plan(self, request: Any, deadline: float, begin: Callable[[], None]) -> Any:
        future = self._plan.send_goal_async(request, feedback_callback=self._on_feedback)
        self.wait(future.done, 20.0, "planner_node/plan")
        handle = future.result()
        if not handle.accepted:
            raise GraphError("planner_node refused the goal")
        answer = handle.get_result_async()
        try:
            while not answer.done():
                limit = deadline if self._driven is None else deadline + LONGEST_DRIVE_S
                if time.monotonic() > limit:
                    break
                begin()
                self._check()
                time.sleep(0.005)
        finally:
            if not answer.done():
                handle.cancel_goal_async()
        if not answer.done():
            self.wait(answer.done, 20.0, "planner_node/plan to be cancelled")
        done = answer.result()
        return None if done.status == GoalStatus.STATUS_CANCELED else done.result

    # -- callbacks ------------------------------------------------------------------------------

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_status(self, name: str) -> Callable[[ModelStatus], None]:
        return lambda message: self._status.update({name: message})

    def _on_odometry(self, message: Odometry) -> None:
        x, y, _, yaw = conversions.planar_pose(message.pose.pose)
        self._odometry[conversions.stamp_ns(message.header.stamp)] = (x, y, yaw)
        while len(self._odometry) > 32:
            self._odometry.pop(next(iter(self._odometry)))

    def _on_image(self, message: Image) -> None:
        stamp = conversions.stamp_ns(message.header.stamp)
        pose = self._odometry.get(stamp)  # the simulator's two have the same stamps
        if pose is None:
            return
        image = images.rgb_from_image(message)
        self._camera = (stamp, image, pose)
        self._recorder.camera(image, pose, stamp)

    def _on_markers(self, message: MarkerArray) -> None:
        self._markers = message

    def _on_feedback(self, message: Any) -> None:
        feedback = message.feedback
        if feedback.phase == Plan.Feedback.DRIVING:
            if feedback.best.actions.horizon:
                self._driven = feedback
            return
        self._recorder.iteration(
            f"iteration {feedback.iteration} of {feedback.num_iterations}, "
            f"cost {feedback.best_cost:.3f}"
        )


def _request(goal: DemoGoal) -> Any:
    """The goal message; it has the image or the pose, never both."""
    if goal.kind == "image":
        picture = images.compressed_message(goal.image, conversions.header_message(0, ""), "png")
        return Plan.Goal(goal_type=Plan.Goal.GOAL_IMAGE, goal_image=picture, seed=-1)
    pose = PoseStamped(pose=conversions.pose_message(*goal.pose))
    return Plan.Goal(goal_type=Plan.Goal.GOAL_POSE, goal_pose=pose, seed=-1)


def _frames(rollout: Any) -> NDArray[np.uint8]:
    frames = [images.rgb_from_compressed(frame) for frame in rollout.compressed_frames]
    return np.stack(frames) if frames else np.zeros((0, 1, 1, 3), np.uint8)


def _poses(path: Any) -> NDArray[np.float64]:
    rows = [conversions.planar_pose(stamped.pose) for stamped in path.poses]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 4)[:, [0, 1, 3]]


def _trajectories(markers: MarkerArray | None) -> list[Trajectory]:
    found = []
    for marker in markers.markers if markers is not None else ():
        if len(marker.points) > 1:
            points = np.array([[point.x, point.y] for point in marker.points])
            colour = (marker.color.r, marker.color.g, marker.color.b)
            red, green, blue = (round(255 * value) for value in colour)
            found.append(Trajectory(points, (red, green, blue)))
    return found
