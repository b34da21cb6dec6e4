"""The goals that planner_node is working on: who wants them, and which is the newest."""

from __future__ import annotations

import threading
import time
from typing import Any

from v2w.navigation.plan_follower import Motion
from v2w.nodes.clients import ClientWatch

GONE = "the client is gone (require_live_client)"


class PlanGoal:
    """One request of the service, or one goal of the action.

    Args:
        client: the clients that were there when it came.
        handle: of the action; None for a request of the service.

    Attributes:
        began: when it came, by ``time.monotonic`` [s].
        motion: the driving of its plan; None until it is driven.
        refused: why its plan was not driven, or not to its end; empty when nothing refused it.
    """

    def __init__(self, client: ClientWatch, handle: Any = None) -> None:
        self.client, self.handle = client, handle
        self.began = time.monotonic()
        self.motion: Motion | None = None
        self.refused = ""
        self.given_up = ""

    @property
    def is_cancelled(self) -> bool:
        """Whether its client wants it no more."""
        return self.handle is not None and bool(self.handle.is_cancel_requested)

    def unwanted(self, needs_client: bool) -> str:
        """Why nobody wants it any more; empty when somebody does.

        Args:
            needs_client: it is unwanted when nobody can wait for the answer.
        """
        if self.is_cancelled:
            return "cancelled"
        if self.given_up or not needs_client:
            return self.given_up
        return GONE if self.client.all_are_gone() else ""

    def must_not_drive(self, needs_client: bool) -> str:
        """Why the robot must not move for it; empty when it may.

        Args:
            needs_client: every client that may have asked for it must be there.
        """
        gone = needs_client and self.client.one_is_gone()
        return self.unwanted(False) or (GONE if gone else "")


class ActionGoals:
    """The goals of the action that are not answered yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._goals: dict[bytes, PlanGoal] = {}

    def add(self, goal: PlanGoal, *, alone: bool) -> list[Motion]:
        """Add a new goal; ``alone`` gives the others up, and what they drive is returned."""
        with self._lock:
            older = list(self._goals.values()) if alone else []
            for one in older:
                one.given_up = one.given_up or "pre-empted by a newer goal"
            self._goals[_key(goal.handle)] = goal
        return [one.motion for one in older if one.motion is not None]

    def of(self, handle: Any) -> PlanGoal:
        """The goal of a handle."""
        with self._lock:
            return self._goals[_key(handle)]

    def remove(self, goal: PlanGoal) -> None:
        """Forget a goal that is being answered."""
        with self._lock:
            self._goals.pop(_key(goal.handle), None)


def _key(handle: Any) -> bytes:
    return bytes(handle.goal_id.uuid)
