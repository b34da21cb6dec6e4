"""What makes a plan move the robot: the supervisor, the commands' timer, and ~/stop."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from v2w import parameters
from v2w.messages import conversions
from v2w.navigation.plan_follower import Motion, PlanFollower
from v2w.navigation.planning import PlanningCore
from v2w.navigation.trajectory_tracker import TrackerConfig, TrajectoryTracker
from v2w.nodes.graph import Graph
from v2w.nodes.presence import Presence
from v2w.nodes.velocity_publisher import VelocityPublisher
from v2w.parameters import Parameter
from v2w.safety.camera import Look, look_at_compressed, look_at_image
from v2w.safety.checks import NS, PlanOrigin, settings_from
from v2w.safety.supervisor import SafetySupervisor, steady_ns
from v2w_core.spec import ActionSpec

#: How often the node looks for other publishers of commands [s].
LOOK_S = 1.0
#: How long after a plan was asked for compressed pictures are looked into [s]; else one in IDLE_S
#: is. A look into large ones takes long: the next comes after SHARE times that at the earliest.
ATTENTION_S, IDLE_S, SHARE = 30.0, 1.0, 5


class _Output(VelocityPublisher):
    """Publishes the status as soon as the robot is stopped: it says why."""

    def __init__(
        self, node: Node, base_frame: Callable[[], str], say: Callable[[], object]
    ) -> None:
        super().__init__(node, base_frame)
        self._say = say

    def report_stop(self, reason: str) -> None:
        super().report_stop(reason)
        self._say()


class Driving:
    """Drives plans under supervision, and looks at what the sensors send.

    Args:
        node: has the parameters of ``table``.
        table: those of planner_node.
        graph: who else publishes commands.
        base_frame: the body frame.
        say: publishes the status.
    """

    def __init__(
        self,
        node: Node,
        table: tuple[Parameter, ...],
        graph: Graph,
        base_frame: Callable[[], str],
        say: Callable[[], object],
    ) -> None:
        self._node, self._table = node, table
        self._output = _Output(node, base_frame, say)
        self._graph, self._presence = graph, Presence(node)
        values = parameters.values(node, table)
        self.supervisor = SafetySupervisor(
            self._output, self._ros_ns, settings=settings_from(values)
        )
        self._follower: PlanFollower | None = None
        self._timer: Any = None
        self._lock = threading.Lock()  # a plan is begun, or all are void
        self._attention_ns = self._decode_ns = self._looked_ns = 0
        self._publishers = ""  # other nodes that may send commands as well
        self._group = MutuallyExclusiveCallbackGroup()
        node.create_service(
            Trigger, "~/stop", self._on_stop, callback_group=MutuallyExclusiveCallbackGroup()
        )

    # -- lifecycle ------------------------------------------------------------------------------

    def start(self, action: ActionSpec, core: PlanningCore) -> None:
        """The node is activated: plans may be driven from now on."""
        values = parameters.values(self._node, self._table)
        self.supervisor.restart()
        self._presence.set_active(True)
        tracker = TrajectoryTracker(action, _tracker_config(values))
        self._follower = PlanFollower(tracker, self.supervisor, core, steady_ns, self.supervisor)
        self._timer = self._node.create_timer(
            1.0 / values["cmd_vel_rate"], self._on_command, callback_group=self._group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )  # fmt: skip

    def end(self) -> None:
        """The node is deactivated, and :meth:`halt` was called."""
        timer, self._timer, self._follower = self._timer, None, None
        if timer is not None:
            self._node.destroy_timer(timer)
        self._presence.set_active(False)

    def halt(self) -> None:
        """Stop the robot; no command comes after that until :meth:`start`."""
        follower = self._follower
        if follower is not None:
            follower.close()

    def why_not_active(self) -> str:
        """Why another planner forbids to activate this one; empty when none does."""
        return self._presence.claim()

    # -- motion ---------------------------------------------------------------------------------

    def attend(self) -> None:
        """A plan is being made that may be driven: pictures are looked into."""
        self._attention_ns = steady_ns() + round(ATTENTION_S * NS)
        self._decode_ns = 0

    def origin(self, stamp_ns: int, pose: Any) -> PlanOrigin:
        """Where a plan is made from: stamp and (x, y, z, yaw) of its history's newest frame."""
        x, y, _, yaw = (float(value) for value in pose)
        return self.supervisor.origin((x, y, yaw), (self._ros_ns() - stamp_ns) / NS)

    def begin(self, steps: Any, spec: ActionSpec, origin: PlanOrigin) -> tuple[Motion | None, str]:
        """Drive steps [n, A] of a plan if every check allows it: (motion, "") or (None, why)."""
        path = conversions.planar_path(steps, spec, origin.pose)
        with self._lock:
            follower = self._follower
            if follower is None:
                return None, "the node is not active"
            reason, steps_done = self.supervisor.why_not_begin(origin, path)
            if reason:
                self._node.get_logger().warning(f"the plan is not driven: {reason}")
                return None, reason
            return follower.follow(steps, origin.pose, steps_done), ""

    def stop(self, reason: str) -> bool:
        """Stop the robot now; plans that are being made are not driven."""
        with self._lock:
            self.supervisor.void_plans()
            follower = self._follower
            return follower is not None and follower.stop(reason)

    def stop_motion(self, motion: Motion, reason: str) -> None:
        """Stop the robot if this is what it drives."""
        follower = self._follower
        if follower is not None:
            follower.stop(reason, motion)

    def time_jumped(self) -> None:
        """Stamps went back."""
        self.supervisor.time_jumped()
        self.stop("time jumped backwards")

    def _on_stop(self, request: Any, response: Any) -> Any:
        was_driving = self.stop("~/stop was called")
        response.success = True
        response.message = "stopped" if was_driving else "nothing was driven"
        return response

    def _on_command(self) -> None:
        try:
            follower = self._follower
            if follower is None:
                return
            values = parameters.values(self._node, self._table)
            self.supervisor.settings = settings_from(values)
            self.supervisor.look_at_clock()
            self._react()  # a check that fails names the stop before the tracker does
            self._look_around(values["cmd_vel_topic"])
            follower.tick(_tracker_config(values), values["publish_velocity"])
        except Exception:
            self._fail("the command could not be made", traceback.format_exc())
            raise  # the node counts it and says so

    def _look_around(self, topic: str) -> None:
        self._presence.speak()
        now_ns = steady_ns()
        if now_ns - self._looked_ns >= LOOK_S * NS:
            self._looked_ns = now_ns
            self._publishers = ", ".join(self._graph.other_publishers(topic))
        self.supervisor.saw_publishers(self._presence.other(), self._publishers)

    def _fail(self, what: str, trace: str) -> None:
        """Something that should not have happened: the robot stops, the node goes on."""
        if not self._node.context.ok():
            return
        self._node.get_logger().error(f"{what}: {trace}", throttle_duration_sec=1.0)
        try:
            self.stop(f"{what}: {trace.strip().splitlines()[-1]}")
        except Exception:
            self._output.publish((0.0, 0.0, 0.0))

    def _ros_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    # -- sensors --------------------------------------------------------------------------------

    def frame(self, message: Any, stamp_ns: int) -> bool:
        """Look at a camera message. Returns whether the history may keep it."""
        try:
            look = self._look(message)
        except Exception as error:
            look = Look(0, "", f"{type(error).__name__}: {error}")
        try:
            usable = self.supervisor.saw_frame(look, stamp_ns)
            self._react()
            return usable
        except Exception:
            self._fail("a camera image", traceback.format_exc())
            return False

    def odometry(self, stamp_ns: int, pose: tuple[float, float, float, float], frame: str) -> bool:
        """Look at an odometry message. Returns whether the history may keep it."""
        try:
            usable = self.supervisor.saw_odometry(stamp_ns, pose, frame)
            self._react()
            return usable
        except Exception:
            self._fail("an odometry message", traceback.format_exc())
            return False

    def bad_odometry(self, reason: str) -> None:
        """An odometry message came whose pose cannot be read."""
        self.supervisor.refuse_odometry(reason)
        self._react()

    def _look(self, message: Any) -> Look:
        if not isinstance(message, CompressedImage):
            return look_at_image(message)
        follower, now_ns = self._follower, steady_ns()
        attentive = now_ns < self._attention_ns or (follower is not None and follower.active)
        decode = now_ns >= self._decode_ns
        look = look_at_compressed(message, decode=decode)
        if decode:
            wait_ns = SHARE * (steady_ns() - now_ns)
            self._decode_ns = now_ns + (wait_ns if attentive else max(wait_ns, round(IDLE_S * NS)))
        return look

    def _react(self) -> None:
        """Stop the robot at once where a check fails, instead of with the next command."""
        follower = self._follower
        if follower is not None and follower.active:
            reason = self.supervisor.fault()
            if reason:
                follower.stop(reason)


def _tracker_config(values: dict[str, Any]) -> TrackerConfig:
    return TrackerConfig(
        values["tracking_gain"],
        values["odometry_timeout"],
        values["settle_time"],
        values["max_deviation"],
        values["holonomic"],
    )
