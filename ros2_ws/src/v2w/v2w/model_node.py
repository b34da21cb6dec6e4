"""What world_model_node and planner_node share: a lifecycle node with a model and a history.

configure loads the weights, activate subscribes and serves, deactivate stops that, cleanup frees
the device. Camera and odometry have callback groups of their own, so that no request starves them.
"""

from __future__ import annotations

import gc
import random
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.lifecycle import State, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from v2w import conversions, images, parameters
from v2w.errors import NodeError, answer
from v2w.health import Health
from v2w.history import HistoryBuffer, HistoryConfig, Snapshot
from v2w.lifecycle import AutostartNode
from v2w.parameters import Parameter
from v2w.readiness import Readiness
from v2w_core.errors import V2WError


class ModelNode(AutostartNode, ABC):
    """Subclasses add their services in :meth:`serve` and remove them in :meth:`unserve`."""

    def __init__(self, name: str, table: tuple[Parameter, ...]) -> None:
        super().__init__(name, table)
        self.model: Any = None
        self.history: HistoryBuffer | None = None
        self.readiness = Readiness()
        self.stopping = False
        self.odom_frame, self.base_frame = "odom", "base_link"
        # Requests may overlap on purpose: whoever does not get the device is told BUSY at once.
        self.request_group = ReentrantCallbackGroup()
        self._device_lock = threading.Lock()
        # All torch work runs in this one thread. Every thread that computes gets its own OpenMP
        # workers, and where there are more of them than cores, all of them wait by sleeping: a
        # plan took 4 s instead of 2.3.
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._subscriptions_here: list[Any] = []
        self._watch: Any = None
        self.health = Health(self)

    # -- lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the weights."""
        self.readiness = Readiness(loading=True)
        self.health.publish()
        try:
            values = parameters.values(self, self.table)
            self._model_thread.submit(self._load, values).result()
        except Exception as error:
            self.problem = str(error) if isinstance(error, V2WError) else traceback.format_exc()
            self.readiness = Readiness(error=self.problem)
            self.get_logger().error(f"cannot configure: {self.problem}")
            self.health.publish()
            return TransitionCallbackReturn.FAILURE
        self.readiness = Readiness(loaded=True)
        self.health.start()
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Subscribe and serve."""
        assert self.history is not None
        self.stopping = False
        self.history.clear()
        self._subscribe()
        self.serve()
        self.readiness.active = True
        self.health.publish()
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop serving; a request that is being worked on is given up."""
        self.stopping = True
        self.readiness.active = False
        self.unserve()
        self._unsubscribe()
        self.health.publish()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Free the model and the device."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self.stopping = True
        self.unserve()
        self._unsubscribe()
        self._free()
        return super().on_shutdown(state)

    @abstractmethod
    def serve(self) -> None:
        """Create services, actions and timers of the subclass."""

    @abstractmethod
    def unserve(self) -> None:
        """Destroy what :meth:`serve` created; called more than once."""

    def _load(self, values: dict[str, Any]) -> None:
        if not values["checkpoint"]:
            raise V2WError("parameter checkpoint", "the folder of a checkpoint", "")
        import torch

        from v2w_core.world_model import WorldModel

        if values["num_threads"]:
            torch.set_num_threads(values["num_threads"])
        device = values["device"]
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        began = time.perf_counter()
        path = Path(values["checkpoint"]).expanduser()
        self.model = WorldModel.from_pretrained(
            path, device, values["backend"], values["precision"]
        )
        self.device_name = device
        self.model_id = path.name
        config = HistoryConfig(
            num_frames=self.model.config.num_history,
            buffer_s=values["buffer_duration"],
            max_age_s=values["max_history_age"],
            tolerance=values["frame_tolerance"],
        )
        action = self.model.config.action
        needed_s = (config.num_frames - 1 + config.tolerance) * action.dt_s
        if config.buffer_s < needed_s:
            rule = f"at least {needed_s:g} s for {config.num_frames} frames"
            raise V2WError("parameter buffer_duration", rule, config.buffer_s)
        self.history = HistoryBuffer(action, self.model.config.observation, config)
        self.get_logger().info(
            f"{path.name}: {config.num_frames} frames {action.dt_s:g} s apart, actions "
            f"{', '.join(action.names)}, on {device} ({self.model.backend.name}), loaded in "
            f"{time.perf_counter() - began:.1f} s"
        )

    def _free(self) -> None:
        self.health.stop()
        self.model = None
        self.history = None
        self.readiness = Readiness()
        self.health.publish()
        gc.collect()
        try:
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        except ImportError:
            pass

    # -- camera and odometry --------------------------------------------------------------------

    def _subscribe(self) -> None:
        depth = self.get_parameter("queue_depth").value
        self._sensor_qos = QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._camera_group = MutuallyExclusiveCallbackGroup()
        odometry = self._listen(
            Odometry,
            self.get_parameter("odom_topic").value,
            self._on_odometry,
            MutuallyExclusiveCallbackGroup(),
        )
        self._subscriptions_here = [odometry]
        transport = self.get_parameter("image_transport").value
        if transport == "auto":
            self._watch = self.create_timer(0.2, self._choose_transport)
        else:
            self._listen_to_camera(transport)

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], group: Any) -> Any:
        return self.create_subscription(
            kind,
            topic,
            callback,
            self._sensor_qos,
            callback_group=group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _choose_transport(self) -> None:
        topic = self.get_parameter("image_topic").value
        for transport, name in (("raw", topic), ("compressed", f"{topic}/compressed")):
            if self._watch is not None and self.count_publishers(self.resolve_topic_name(name)):
                self.destroy_timer(self._watch)
                self._watch = None
                self._listen_to_camera(transport)
                self.get_logger().info(f"camera: {self.resolve_topic_name(name)}")
                return

    def _listen_to_camera(self, transport: str) -> None:
        topic = self.get_parameter("image_topic").value
        kind, load = Image, images.rgb_from_image
        if transport == "compressed":
            topic, kind, load = f"{topic}/compressed", CompressedImage, images.rgb_from_compressed
        listener = self._listen(kind, topic, partial(self._on_image, load), self._camera_group)
        self._subscriptions_here.append(listener)

    def _unsubscribe(self) -> None:
        if self._watch is not None:
            self.destroy_timer(self._watch)
            self._watch = None
        for subscription in self._subscriptions_here:
            self.destroy_subscription(subscription)
        self._subscriptions_here = []

    def _on_image(self, load: Callable[[Any], Any], message: Any) -> None:
        history = self.history
        if history is None:
            return
        stamp = conversions.stamp_ns(message.header.stamp)
        if not history.add_frame(stamp, partial(load, message)):
            self.get_logger().warning("camera: time jumped backwards, the history was cleared")
            self.on_time_jump()

    def _on_odometry(self, message: Odometry) -> None:
        history = self.history
        if history is None:
            return
        self.odom_frame = message.header.frame_id or self.odom_frame
        self.base_frame = message.child_frame_id or self.base_frame
        try:
            x, y, z, yaw = conversions.planar_pose(message.pose.pose)
        except V2WError as error:
            history.counters.dropped += 1
            self.get_logger().warning(f"odometry: {error}", throttle_duration_sec=5.0)
            return
        if not history.add_odometry(conversions.stamp_ns(message.header.stamp), x, y, z, yaw):
            self.get_logger().warning("odometry: time jumped backwards, the history was cleared")
            self.on_time_jump()

    def on_time_jump(self) -> None:
        """For subclasses: what was planned before a jump no longer holds."""

    # -- requests -------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The node's clock (simulated time with use_sim_time), nanoseconds."""
        return int(self.get_clock().now().nanoseconds)

    def snapshot(self, at_ns: int | None = None) -> Snapshot:
        """A history to start from. Raises NodeError, see :class:`HistoryBuffer`."""
        history = self.history
        if history is None or not self.readiness.active:
            raise NodeError("node", "configured and active", code="NOT_READY")
        return history.snapshot(self.now_ns, at_ns)

    @contextmanager
    def device(self) -> Iterator[None]:
        """The device for one request. Raises NodeError BUSY when another one has it."""
        if not self._device_lock.acquire(blocking=False):
            raise NodeError("device", "free; ask again later", "another request", code="BUSY")
        try:
            self.readiness.busy = True
            self.health.publish()
            yield
        finally:
            self.readiness.busy = False
            self._device_lock.release()

    def respond(self, response: Any, work: Callable[[], float]) -> Any:
        """Fill a response by ``work`` (returns the seconds the model took), or its error_code."""
        seconds = None
        try:
            with self.device():
                seconds = self._model_thread.submit(work).result()
            response.error_code, response.error_msg = 0, ""
        except Exception as error:
            response.error_code, response.error_msg = answer(error)
            known = isinstance(error, V2WError)
            detail = response.error_msg if known else traceback.format_exc()
            self.get_logger().warning(f"request refused ({response.error_code}): {detail}")
        self.readiness.finish(response.error_code == 0, seconds)
        self.health.publish()
        return response


def chosen_seed(seed: int) -> int:
    """The request's seed; a random one when it is negative."""
    return random.SystemRandom().randrange(2**31) if seed < 0 else seed % 2**62
