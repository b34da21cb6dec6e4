"""Who asks: queues that hold the requests of many clients, and whether a client is still there."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.action import ActionServer, GoalResponse
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
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
#: Least time between two quick answers [s]. Every client of a service gets the answers to all of
#: them, and keeps the newest 10 until it looks: in a burst of refusals it would miss its own.
QUICK_S = 0.05


class Pacer:
    """Spaces out what it is asked to wait before."""

    def __init__(self, period_s: float = QUICK_S) -> None:
        self._period_s = period_s
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return at least a period after the previous caller did."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._period_s
        time.sleep(turn - now)


class PatientActionServer(ActionServer):
    """An ActionServer of many clients: deep queues, paced answers, results kept for a short time.

    Args:
        node, action_type, action_name, execute_callback, options: as ActionServer's.
        pacer: spaces out the answers to goals and to requests for results.
    """

    def __init__(
        self, node: Node, action_type: Any, action_name: str, execute_callback: Any, *,
        pacer: Pacer, **options: Any,
    ) -> None:  # fmt: skip
        self._pacer = pacer
        super().__init__(
            node, action_type, action_name, execute_callback,
            goal_callback=self._accept,
            callback_group=MutuallyExclusiveCallbackGroup(),
            goal_service_qos_profile=REQUESTS,
            result_service_qos_profile=REQUESTS,
            cancel_service_qos_profile=REQUESTS,
            result_timeout=RESULT_TIMEOUT_S,
            **options,
        )  # fmt: skip

    def _accept(self, goal: Any) -> GoalResponse:
        self._pacer.wait()
        return GoalResponse.ACCEPT

    async def _execute_get_result_request(self, request_header_and_message: Any) -> None:
        self._pacer.wait()
        await super()._execute_get_result_request(request_header_and_message)


class LimitedCallbackGroup(CallbackGroup):
    """At most ``limit`` callbacks at a time, so that requests leave threads for the sensors.

    Requests that come meanwhile wait in the queue of their service.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit, self._running = limit, 0
        self._lock = threading.Lock()

    def can_execute(self, entity: Any) -> bool:
        """Whether one more may begin."""
        with self._lock:
            return self._running < self._limit

    def beginning_execution(self, entity: Any) -> bool:
        """Whether one more begins."""
        with self._lock:
            if self._running >= self._limit:
                return False
            self._running += 1
            return True

    def ending_execution(self, entity: Any) -> None:
        """One has ended."""
        with self._lock:
            self._running -= 1


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
