"""The requests of a node with a model: one is computed, the others wait for their turn."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from v2w.errors import NodeError, answer
from v2w.inference.model_thread import ModelThread
from v2w.inference.status import StatusRecord
from v2w.nodes.clients import ClientWatch, Pacer
from v2w.nodes.diagnostics import Diagnostics
from v2w_core.errors import Interrupted, V2WError


class NodeWithModel(Protocol):
    """What requests need of their node: see :class:`~v2w.nodes.model_node.ModelNode`."""

    model: Any
    status: StatusRecord
    diagnostics: Diagnostics
    stopping: bool

    def get_parameter(self, name: str) -> Any:
        """As rclpy's."""

    def get_logger(self) -> Any:
        """As rclpy's."""

    def on_model_lost(self) -> None:
        """Called when no request can be answered any more."""


class Requests:
    """Answers requests in the order in which they came.

    Args:
        node: whose model computes.
        max_waiting: how many may wait; one more is answered BUSY.

    Attributes:
        turn_began: when the current request's turn came, by time.perf_counter.
        pacer: spaces out quick answers.
    """

    def __init__(self, node: NodeWithModel, max_waiting: int) -> None:
        self._node = node
        self._thread = ModelThread(max_waiting)
        self._client: ClientWatch | None = None  # of the current request
        self.pacer = Pacer()
        self.turn_began = 0.0

    @property
    def count(self) -> int:
        """Requests that are not answered yet."""
        return self._thread.num_requests

    def run(self, work: Callable[[], None]) -> None:
        """Do work that is no request, such as loading the model, when its turn comes."""
        self._thread.run(work)

    def is_given_up(self) -> bool:
        """Whether the current request must end: the node is deactivated, or its client is gone."""
        client = self._client
        return self._node.stopping or (client is not None and client.all_are_gone())

    def respond(self, response: Any, work: Callable[[], float], client: ClientWatch) -> Any:
        """Answer a request: wait for its turn, do the work, and set error_code and error_msg.

        Args:
            response: of a service or an action; returned after it was filled.
            work: fills the response and returns how long the model took [s].
            client: waits for the answer.
        """
        node, seconds = self._node, None
        try:
            self._check_active()
            longest_s = node.get_parameter("max_waiting_time").value
            seconds = self._thread.run(lambda: self._turn(work, client), longest_s)
            response.error_code, response.error_msg = 0, ""
        except Exception as error:
            known = isinstance(error, V2WError)
            if known or node.status.active:
                response.error_code, response.error_msg = answer(error)
            else:  # the model was freed meanwhile
                response.error_code, response.error_msg = answer(not_ready())
            detail = response.error_msg if known else traceback.format_exc()
            node.get_logger().warning(
                f"request refused ({response.error_code}): {detail}", throttle_duration_sec=0.5
            )
        node.status.finish(response.error_code == 0, seconds)
        model = node.model
        if model is not None and model.lost and node.status.fail(model.lost):
            node.on_model_lost()
        node.diagnostics.publish()
        if response.error_code:
            self.pacer.wait()
        return response

    def wait_for_end(self, patience_s: float) -> None:
        """Wait until none is computed, but no longer than ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while self._thread.busy and time.monotonic() < deadline:
            time.sleep(0.02)

    def _check_active(self) -> None:
        if self._node.model is None or not self._node.status.active:
            raise not_ready()

    def _turn(self, work: Callable[[], float], client: ClientWatch) -> float:
        self._check_active()
        if client.all_are_gone():
            raise NodeError("client", "still there when its turn comes", code="TIMEOUT")
        assert self._node.model is not None
        self._node.diagnostics.publish()
        self.turn_began = time.perf_counter()
        self._client = client
        try:
            return self._node.model.run(work)
        except Interrupted:
            why = "deactivated" if self._node.stopping else "its client is gone"
            raise NodeError("request", "not interrupted", why, code="NOT_READY") from None
        finally:
            self._client = None


def not_ready() -> NodeError:
    """The refusal of a node that is not active."""
    return NodeError("node", "configured and active", code="NOT_READY")
