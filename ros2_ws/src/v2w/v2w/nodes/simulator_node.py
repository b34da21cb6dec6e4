"""simulator_node: a robot in a generated world, with camera, odometry and velocity commands.

The simulated world follows the clock in whole camera periods: on a busy machine frames come late,
but none is left out, and their stamps stay regular. The node publishes ground truth as odometry and
in no other way.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.lifecycle import State, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from v2w_msgs.srv import Teleport

from v2w import parameters
from v2w.errors import NodeError
from v2w.inference.faults import one_line
from v2w.messages import conversions, images, transforms
from v2w.nodes import lifecycle
from v2w.nodes.lifecycle import AutostartNode
from v2w.nodes.transform_broadcaster import TransformBroadcaster
from v2w_core.errors import V2WError

#: How many frames late the world may be and still catch up; after a longer pause it jumps.
MAX_LATE_FRAMES = 12
#: How high the camera is: the engine's 41 units, of which 32 are a metre [m].
CAMERA_HEIGHT_M = 41 / 32
NS = 1_000_000_000


class SimulatorNode(AutostartNode):
    """A DoomMazeEnv with the topics of a robot. One lock is around whatever uses the engine."""

    def __init__(self) -> None:
        super().__init__("simulator_node", parameters.SIMULATOR)
        self._env: Any = None
        self._lock = threading.RLock()
        self._things: list[tuple[Any, Any]] = []
        self._twist = (0.0, 0.0, 0.0)
        self._twist_ns = 0
        self._world_ns = 0
        self._owed_tics = 0.0
        # For the node's life: a request that comes while the node is not active is answered so.
        self.create_service(Teleport, "~/teleport", self._on_teleport)

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Build the world and start the game engine."""
        try:
            from training.envs.doom import TIC_HZ, DoomMazeEnv

            self._tic_hz = TIC_HZ
            seed, world = (self.get_parameter(name).value for name in ("maze_seed", "world"))
            self._env = DoomMazeEnv(seed, world_name=world)
            self._env.reset(seed=0)
        except ImportError as error:
            self.problem = f"the simulator needs the extra sim: pip install 'v2w[sim]' ({error})"
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.problem = one_line(error)
            return TransitionCallbackReturn.FAILURE
        self.problem = ""
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start the simulation; create publishers and subscription."""
        with self._lock:
            self._start()
        return super().on_activate(state)

    def _start(self) -> None:
        values = self._values = parameters.values(self, self.table)
        sensor = QoSProfile(
            depth=5, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE
        )
        transport, topic = values["image_transport"], values["image_topic"]
        self._raw = self._compressed = None
        if transport in ("raw", "both"):
            self._raw = self.create_publisher(Image, topic, sensor)
            self._things.append((self.destroy_publisher, self._raw))
        if transport in ("compressed", "both"):
            self._compressed = self.create_publisher(CompressedImage, f"{topic}/compressed", sensor)
            self._things.append((self.destroy_publisher, self._compressed))
        self._odom = self.create_publisher(Odometry, values["odom_topic"], sensor)
        kind = TwistStamped if values["enable_stamped_cmd_vel"] else Twist
        commands = self.create_subscription(kind, values["cmd_vel_topic"], self._on_twist, 1)
        self._transforms = TransformBroadcaster(self)
        self._transforms.send_static(
            [
                transforms.camera_transform(
                    CAMERA_HEIGHT_M, self._now_ns, values["base_frame"], values["camera_frame"]
                )
            ]
        )
        self._world_ns = self._now_ns
        timer = self.create_timer(0.5 / values["camera_rate"], self._tick)
        self._things += [
            (self.destroy_publisher, self._odom),
            (self.destroy_subscription, commands),
            (self.destroy_timer, timer),
            (TransformBroadcaster.close, self._transforms),
        ]
        self.get_logger().info(
            f"{values['world']} {values['maze_seed']}, "
            f"{values['camera_rate']:g} Hz camera on {topic}"
        )

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop the simulation and remove publishers and subscription."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Stop the game engine."""
        self._close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Stop everything, from any state."""
        self._stop()
        self._close()
        return super().on_shutdown(state)

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """After a transition that failed with an exception: stop everything."""
        self._stop()
        self._close()
        return super().on_error(state)

    def release(self) -> None:
        """Stop the game engine and destroy the node."""
        self._stop()
        self._close()
        super().release()

    def _stop(self) -> None:
        with self._lock:
            things, self._things = self._things, []
            for destroy, thing in things:
                destroy(thing)

    def _close(self) -> None:
        with self._lock:
            if self._env is not None:
                self._env.close()
                self._env = None

    @property
    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_twist(self, message: Any) -> None:
        twist = message.twist if hasattr(message, "twist") else message
        command = (twist.linear.x, twist.linear.y, twist.angular.z)
        if not all(math.isfinite(value) for value in command):
            self.get_logger().warning("cmd_vel: not finite, stopping", throttle_duration_sec=5.0)
            command = (0.0, 0.0, 0.0)
        self._twist, self._twist_ns = command, self._now_ns

    def _tick(self) -> None:
        with self._lock:
            if self._things:
                self._catch_up()

    def _catch_up(self) -> None:
        now, period_ns = self._now_ns, round(NS / self._values["camera_rate"])
        if not 0 <= now - self._world_ns <= MAX_LATE_FRAMES * period_ns:
            self._world_ns = now - period_ns
        while self._world_ns + period_ns <= now:
            self._world_ns += period_ns
            self._advance(self._world_ns, period_ns)

    def _advance(self, world_ns: int, period_ns: int) -> None:
        """Advance the world by one camera period, and publish camera image and odometry."""
        self._owed_tics += period_ns / NS * self._tic_hz
        tics = int(self._owed_tics + 1e-6)
        self._owed_tics -= tics
        timeout_s = self.get_parameter("cmd_vel_timeout").value
        if (world_ns - self._twist_ns) / NS > timeout_s:
            self._twist = (0.0, 0.0, 0.0)
        before = self._env.pose
        observation = self._env.drive(*self._twist, tics)
        try:
            self._publish(observation["image"], before, tics / self._tic_hz, world_ns)
        except Exception:
            if self.context.ok():  # else: interrupted between the two lines
                raise

    def _publish(self, image: Any, before: Any, elapsed_s: float, now_ns: int) -> None:
        from v2w_core.geometry import relative_motion

        values, pose = self._values, self._env.pose
        odometry = Odometry(
            header=conversions.header_message(now_ns, values["odom_frame"]),
            child_frame_id=values["base_frame"],
        )
        odometry.pose.pose = conversions.pose_message(*pose)
        moved = relative_motion(before, pose) / elapsed_s
        odometry.twist.twist.linear.x = float(moved[0])
        odometry.twist.twist.linear.y = float(moved[1])
        odometry.twist.twist.angular.z = float(moved[2])
        self._odom.publish(odometry)
        self._transforms.send(
            [
                transforms.planar_transform(
                    tuple(pose), now_ns, values["odom_frame"], values["base_frame"]
                )
            ]
        )
        header = conversions.header_message(now_ns, values["camera_frame"])
        if self._raw is not None:
            self._raw.publish(images.image_message(image, header))
        if self._compressed is not None:
            quality = self.get_parameter("jpeg_quality").value
            self._compressed.publish(images.compressed_message(image, header, "jpeg", quality))

    def _on_teleport(self, request: Any, response: Any) -> Any:
        with self._lock:
            return self._teleport(request, response)

    def _teleport(self, request: Any, response: Any) -> Any:
        if not self._things:
            response.success, response.message = False, "the simulator is not active"
            return response
        try:
            if request.random:
                seed = None if request.seed < 0 else request.seed
                pose = self._env.sample_free_pose(np.random.default_rng(seed))
            else:
                pose = (request.x, request.y, request.yaw)
            if not all(math.isfinite(value) for value in pose):
                raise NodeError("pose", "finite numbers", pose)
            self._env.teleport(*pose)
            self._twist = (0.0, 0.0, 0.0)
            response.success = True
        except V2WError as error:
            response.success, response.message = False, str(error)
        response.x, response.y, response.yaw = (float(value) for value in self._env.pose)
        return response


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(SimulatorNode)


if __name__ == "__main__":
    main()
