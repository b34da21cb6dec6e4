"""A node that sends the soak's requests, and waits for their answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.qos import qos_profile_sensor_data
from v2w_msgs.action import Plan as PlanAction

from v2w.demo.action_client import ThreadedActionClient
from v2w.messages import conversions, images

MODEL, PLANNER = "world_model_node", "planner_node"
#: An answer that takes longer counts as none [s].
PATIENCE_S = 120.0


class NoAnswer(Exception):
    """A request was not answered in time."""


class Peer:
    """A node that sends requests; clients and publishers are made once and kept.

    Args:
        node: is spun by somebody.
        here: where the robot is (x m, y m, yaw rad).
    """

    def __init__(self, node: Any, here: Callable[[], Any]) -> None:
        self.node, self.here = node, here
        self.states = threading.Lock()  # one transition at a time: what an active node has is known
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._publishers: dict[str, Any] = {}
        self.plan_action = ThreadedActionClient(node, PlanAction, f"{PLANNER}/plan")
        noise = np.random.default_rng(0)
        frame = noise.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        header = conversions.header_message(0, "camera")
        self.image = images.image_message(noise.integers(0, 255, (48, 64, 3), np.uint8), header)
        self.pictures = [
            bytes(images.compressed_message(frame, header, kind).data) for kind in ("jpeg", "png")
        ]

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """The answer of a service.

        Raises:
            NoAnswer: none came in time.
        """
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = self.node.create_client(kind, name)
        if not client.wait_for_service(PATIENCE_S):
            raise NoAnswer(f"no service {name}")
        return wait(client.call_async(request), name)

    def send(self, kind: Any, topic: str, message: Any, qos: Any = qos_profile_sensor_data) -> None:
        """Publish a message, or its bytes."""
        with self._lock:
            publisher = self._publishers.get(topic)
            if publisher is None:
                publisher = self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        publisher.publish(message)

    def restore(self, node: str, parameters: list[Any]) -> None:
        """Set parameters of a node; those that it does not take are left as they are."""
        request = SetParameters.Request(parameters=parameters)
        self.call(SetParameters, f"{node}/set_parameters", request)

    def now_ns(self) -> int:
        """The time by which the robot stamps [ns]."""
        return int(self.node.get_clock().now().nanoseconds)


def wait(future: Any, what: str) -> Any:
    """The result of a future, which the executor's thread completes."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(PATIENCE_S):
        raise NoAnswer(f"no answer of {what} within {PATIENCE_S:g} s")
    return future.result()
