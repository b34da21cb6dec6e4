"""An action client whose requests may be sent from another thread than the executor's."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.action import ActionClient


class ThreadedActionClient(ActionClient):
    """An ActionClient that loses no answer when requests are sent from another thread.

    rclpy 7.1 registers a request only after it was sent: an answer that comes before that is
    dropped with "unexpected goal response", and its future is never done. Here answers wait until
    requests that are being sent are registered.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sending = threading.Lock()
        super().__init__(*args, **kwargs)

    def send_goal_async(self, *args: Any, **kwargs: Any) -> Any:
        with self._sending:
            return super().send_goal_async(*args, **kwargs)

    def _cancel_goal_async(self, *args: Any, **kwargs: Any) -> Any:
        with self._sending:
            return super()._cancel_goal_async(*args, **kwargs)

    def _get_result_async(self, *args: Any, **kwargs: Any) -> Any:
        with self._sending:
            return super()._get_result_async(*args, **kwargs)

    async def execute(self, taken_data: Any) -> None:
        """Complete the futures of the answers that have come."""
        with self._sending:  # whatever was being sent is registered now
            pass
        await super().execute(taken_data)
