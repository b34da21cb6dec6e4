"""Who asks: queues that hold the requests of many clients, and whether a client is still there."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.action import ActionServer, GoalResponse
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

from v2w.nodes.graph import Graph

#: Requests and answers that are kept until they are taken. ROS's default of 10 loses some when a
#: dozen clients ask at once.
REQUESTS = QoSProfile(depth=512)
#: How long an action's result is kept after its end [s]; ROS's default is 900 s.
RESULT_TIMEOUT_S = 10
#: Time between two looks at the graph [s].
LOOK_S = 0.2
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
    """Whether the client that sent a request is still there.

    ROS 2 does not tell Python which client that is: it is one of those that the service had when
    the request came, or that were discovered shortly after.

    Args:
        graph: of the node that offers the service.
        service: e.g. "~/plan".
    """

    def __init__(self, graph: Graph, service: str) -> None:
        self._graph, self._service = graph, service
        self._began = self._looked = time.monotonic()
        self._present = self._seen = graph.clients(service)

    def one_is_gone(self) -> bool:
        """Whether one of them is gone: it may be the one that waits for the answer."""
        self._look()
        return bool(self._seen - self._present)

    def all_are_gone(self) -> bool:
        """Whether nobody can wait for the answer any more; looked at every LOOK_S."""
        if time.monotonic() - self._looked > LOOK_S:
            self._look()
        return bool(self._seen) and not self._seen & self._present

    def _look(self) -> None:
        self._looked = time.monotonic()
        present = self._graph.clients(self._service)
        if self._looked - self._began < DISCOVERY_S or not self._seen:
            self._seen |= present
        self._present = present
