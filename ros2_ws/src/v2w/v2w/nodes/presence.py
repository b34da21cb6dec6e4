"""One active planner of a name: each says that it is there, and one that starts listens first.

What the graph says of another process may be old, or missing. So a planner publishes on
``~/_active`` while it is active, and before that while it claims to become so. Two that claim at
the same moment both hear it, and the one whose random id is larger gives way.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

TOPIC = "~/_active"
ACTIVE, CLAIMS = "active", "claims"
#: How long a planner listens before it becomes active, where there may be another [s]; and how
#: often it speaks meanwhile, and while it is active [s].
CLAIM_S, CLAIM_PERIOD_S, ACTIVE_PERIOD_S = 1.5, 0.1, 0.25
#: A planner that was not heard for longer is not there [s].
SILENT_S = 2.0
#: So many others are remembered.
MAX_HEARD = 64
_WORDS = re.compile(f"({ACTIVE}|{CLAIMS}) ([0-9a-f]{{32}})")


class Presence:
    """What a planner says of itself, and hears of others of its name.

    Args:
        node: the planner.
        clock: a steady time [s].
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[str, float]] = {}
        self._active, self._said = False, -ACTIVE_PERIOD_S
        self._publisher = node.create_publisher(String, TOPIC, QoSProfile(depth=10))
        node.create_subscription(
            String, TOPIC, self._on_word, QoSProfile(depth=10),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )  # fmt: skip

    def claim(self) -> str:
        """Why this planner must not become active now; empty when it may.

        Takes CLAIM_S where another node of its name is in the graph, or was not long ago.
        """
        with self._lock:
            self._heard = {}  # one that was active a moment ago need not be so now
        until = self._clock() + CLAIM_S
        topic = self._node.resolve_topic_name(TOPIC)
        alone = len(self._node.get_publishers_info_by_topic(topic)) <= 1
        while not self.other(claims=True):
            if alone or self._clock() > until:
                return ""
            self._say(CLAIMS)
            time.sleep(CLAIM_PERIOD_S)
        return self.other(claims=True)

    def other(self, *, claims: bool = False) -> str:
        """Why another planner forbids this one to drive; empty when none does.

        Args:
            claims: one that claims to become active, and has a smaller id, forbids it as well.
        """
        name, now = self._node.get_fully_qualified_name(), self._clock()
        with self._lock:
            self._heard = {i: w for i, w in self._heard.items() if now - w[1] < SILENT_S}
            heard = {one: word for one, (word, _) in self._heard.items()}
        if ACTIVE in heard.values():
            return f"another {name} is active: two planners must not drive one robot"
        if claims and any(one < self._id for one in heard):
            return f"another {name} is being activated: two planners must not drive one robot"
        return ""

    def set_active(self, active: bool) -> None:
        """Be active from now on, or no more."""
        self._active = active
        self.speak()

    def speak(self) -> None:
        """Called often while the planner is active; says so every ACTIVE_PERIOD_S."""
        if self._active and self._clock() - self._said >= ACTIVE_PERIOD_S:
            self._said = self._clock()
            self._say(ACTIVE)

    def _say(self, word: str) -> None:
        self._publisher.publish(String(data=f"{word} {self._id}"))

    def _on_word(self, message: String) -> None:
        match = _WORDS.fullmatch(message.data)
        if match is not None and match[2] != self._id:
            with self._lock:
                self._heard.pop(match[2], None)
                if len(self._heard) >= MAX_HEARD:
                    self._heard.pop(next(iter(self._heard)))  # the oldest
                self._heard[match[2]] = match[1], self._clock()
