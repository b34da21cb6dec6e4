from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from v2w.navigation.plan_follower import PlanFollower
from v2w.navigation.trajectory_tracker import STOP, TrackerConfig, TrajectoryTracker, Twist
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-0.5,) * 3, (0.5,) * 3, rate_hz=4.0)
CONFIG = TrackerConfig()
FORWARD = np.tile(np.float32([0.1, 0.0, 0.0]), (4, 1))
HERE = (0.0, 0.0, 0.0)


class Output:
    """Records what is sent; publishing can be held up."""

    def __init__(self) -> None:
        self.twists: list[Twist] = []
        self.last: list[Twist] = []
        self.executing: list[bool] = []
        self.reasons: list[str] = []
        self.publishing, self.may_publish = threading.Event(), threading.Event()
        self.may_publish.set()

    def publish(self, twist: Twist) -> None:
        self.publishing.set()
        assert self.may_publish.wait(10.0)
        self.twists.append(twist)

    def publish_last(self, twist: Twist) -> None:
        self.publish(twist)
        self.last.append(twist)

    def report_executing(self, executing: bool) -> None:
        self.executing.append(executing)

    def report_stop(self, reason: str) -> None:
        self.reasons.append(reason)


class Robot:
    """Clock and odometry of a follower, and the core that learns from what is driven."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.pose: Any = (0, (0.0, 0.0, 0.0, 0.0))
        self.driven: list[Any] = []

    def newest_pose(self) -> Any:
        return self.pose

    def sent(self, pose: Any, actions: Any) -> None:
        self.driven.append(len(actions))

    def executed(self, pose: Any) -> None:
        self.driven.append(pose)


@pytest.fixture
def robot() -> Robot:
    return Robot()


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def follower(robot: Robot, output: Output) -> PlanFollower:
    tracker = TrajectoryTracker(SPEC, CONFIG)
    follower = PlanFollower(tracker, robot, robot, lambda: robot.now_ns, output)
    follower.follow(FORWARD, HERE)
    follower.tick(CONFIG)
    assert output.twists[-1][0] > 0.1 and output.executing[-1]
    return follower


def test_a_command_that_is_under_way_does_not_follow_the_stop(
    output: Output, follower: PlanFollower
) -> None:
    output.publishing.clear()
    output.may_publish.clear()
    tick = threading.Thread(target=follower.tick, args=(CONFIG,))
    tick.start()
    assert output.publishing.wait(10.0)
    close = threading.Thread(target=follower.close)
    close.start()
    close.join(0.2)
    output.may_publish.set()
    tick.join(10.0)
    close.join(10.0)
    assert output.twists[-2][0] > 0.1 and output.twists[-1] == STOP
    assert not output.executing[-1]


def test_nothing_is_driven_after_the_end(output: Output, follower: PlanFollower) -> None:
    follower.close()
    assert output.twists[-1] == STOP and not output.executing[-1]
    count = len(output.twists)
    follower.follow(FORWARD, HERE)  # by a plan that was begun before
    follower.tick(CONFIG)
    follower.stop("late")
    follower.close()
    assert len(output.twists) == count and not output.executing[-1]


def test_the_last_command_is_waited_for_when_something_is_driven(
    output: Output, follower: PlanFollower
) -> None:
    follower.close()
    assert output.last == [STOP]
    idle, robot = Output(), Robot()
    PlanFollower(TrajectoryTracker(SPEC, CONFIG), robot, robot, lambda: 0, idle).close()
    assert not idle.twists and idle.executing == [False]


def test_a_stop_is_published_at_once_and_only_when_something_is_driven(
    output: Output, follower: PlanFollower
) -> None:
    for _ in range(2):
        follower.stop("the device was lost")
    assert [twist == STOP for twist in output.twists] == [False, True]
    assert output.reasons == ["the device was lost"]
    assert not output.executing[-1]


def test_a_plan_is_given_up_when_driving_is_no_longer_allowed(
    output: Output, follower: PlanFollower
) -> None:
    follower.tick(CONFIG, allowed=False)
    assert output.twists[-1] == STOP and not output.executing[-1]
    assert output.reasons == ["publish_velocity was switched off"]


def test_the_core_learns_what_was_sent_and_where_it_led(
    robot: Robot, output: Output, follower: PlanFollower
) -> None:
    assert robot.driven == [4]
    robot.now_ns = 2_000_000_000
    robot.pose = (robot.now_ns, (0.4, 0.0, 0.1, 0.2))
    follower.tick(CONFIG)
    assert output.twists[-1] == STOP
    assert robot.driven == [4, (0.4, 0.0, 0.2)]


def test_without_odometry_the_robot_stops(
    robot: Robot, output: Output, follower: PlanFollower
) -> None:
    robot.pose = None
    follower.tick(CONFIG)
    assert output.twists[-1] == STOP
    assert output.reasons[0].startswith("no odometry")
