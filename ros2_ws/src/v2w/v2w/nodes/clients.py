"""Who asks: queues that hold the requests of many clients, and whether a client is still there."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

#: Requests and answers that are kept until they are taken. ROS's default of 10 loses some when a
#: dozen clients ask at once.
REQUESTS = QoSProfile(depth=512)
#: How long an action's result is kept after its end [s]; ROS's default is 900 s.
RESULT_TIMEOUT_S = 10
#: Time between two looks at the graph [s].
LOOK_S = 0.25
#: How long after its request a client may be discovered [s].
DISCOVERY_S = 2.0


class ClientWatch:
    """Whether a client that may have sent a request is still there.

    ROS 2 does not tell Python which client sent a request. So a request counts as abandoned when
    none of the clients that the service had when it came is there any more. A client that was
    killed is noticed when the middleware misses it (Fast DDS: after 20 s).

    Args:
        node: that serves.
        service: full name of the service.
    """

    def __init__(self, node: Node, service: str) -> None:
        self._node = node
        # The name of the topic of the answers, as every DDS-based middleware gives it.
        self._topic = f"rr{service}Reply"
        self._clients: set[bytes] = set()
        self._began = self._looked = time.monotonic()
        self._gone = False
        self._look()

    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        if not self._gone and time.monotonic() - self._looked > LOOK_S:
            self._look()
        return self._gone

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found: list[Any] = self._node.get_subscriptions_info_by_topic(self._topic, True)
        except Exception:  # the node is being destroyed, or a middleware without these names
            return
        present = {bytes(endpoint.endpoint_gid) for endpoint in found}
        if self._looked - self._began < DISCOVERY_S or not self._clients:
            self._clients |= present
        self._gone = bool(self._clients) and self._clients.isdisjoint(present)
