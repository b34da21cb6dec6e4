from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from v2w.navigation import plan_follower
from v2w.navigation.plan_follower import Driver
from v2w.navigation.trajectory_tracker import STOP
from v2w_core.testing import PLANAR_4HZ

PARAMETERS = {
    "publish_velocity": True, "tracking_gain": 1.5, "odometry_timeout": 0.5, "settle_time": 0.5,
}  # fmt: skip
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))
HERE = (0.0, 0.0, 0.0)


class Node:
    """What a driver sees of the planner node; publishing can be held up."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(config=SimpleNamespace(action=PLANAR_4HZ))
        self.history = SimpleNamespace(newest_pose=lambda: (0, (0.0, 0.0, 0.0, 0.0)))
        self.now_ns = 0
        self.cmd_vel = SimpleNamespace(wait_for_all_acked=lambda timeout: True)
        self.twists: list[Any] = []
        self.executing: list[bool] = []
        self.publishing, self.may_publish = threading.Event(), threading.Event()
        self.may_publish.set()

    def get_parameter(self, name: str) -> Any:
        return SimpleNamespace(value=PARAMETERS[name])

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=lambda text: None)

    def publish_twist(self, twist: Any) -> None:
        self.publishing.set()
        assert self.may_publish.wait(10.0)
        self.twists.append(twist)

    def report_executing(self, executing: bool) -> None:
        self.executing.append(executing)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def driver(node: Node) -> Driver:
    core = SimpleNamespace(sent=lambda pose, actions: None, executed=lambda pose: None)
    driver = Driver(node, core)
    driver.follow(FORWARD, HERE)
    driver.tick()
    assert node.twists[-1][0] > 0.1 and node.executing[-1]
    return driver


def test_a_command_that_is_under_way_does_not_follow_the_stop(node: Node, driver: Driver) -> None:
    node.publishing.clear()
    node.may_publish.clear()
    tick = threading.Thread(target=driver.tick)
    tick.start()
    assert node.publishing.wait(10.0)
    close = threading.Thread(target=driver.close)
    close.start()
    close.join(0.2)
    node.may_publish.set()
    tick.join(10.0)
    close.join(10.0)
    assert node.twists[-2][0] > 0.1 and node.twists[-1] == STOP
    assert not node.executing[-1]


def test_nothing_is_driven_after_the_end(node: Node, driver: Driver) -> None:
    driver.close()
    assert node.twists[-1] == STOP and not node.executing[-1]
    count = len(node.twists)
    driver.follow(FORWARD, HERE)  # by a plan that was begun before
    driver.tick()
    driver.stop("late")
    driver.close()
    assert len(node.twists) == count and not node.executing[-1]


def test_a_stop_is_published_at_once_and_only_when_something_is_driven(
    node: Node, driver: Driver
) -> None:
    for _ in range(2):
        driver.stop("the device was lost")
    assert [twist == STOP for twist in node.twists] == [False, True]
    assert not node.executing[-1]


def test_the_last_command_is_waited_for(node: Node, driver: Driver) -> None:
    waited: list[float] = []
    node.cmd_vel.wait_for_all_acked = lambda timeout: waited.append(timeout.nanoseconds / 1e9)
    driver.close()
    assert waited == [plan_follower.LAST_COMMAND_S]
