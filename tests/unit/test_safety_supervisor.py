"""The supervisor of all motion, and what follows plans under it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_plan_follower import FORWARD, SPEC, Output

from v2w.navigation.plan_follower import PlanFollower
from v2w.navigation.trajectory_tracker import TrackerConfig, TrajectoryTracker
from v2w.safety import checks
from v2w.safety.camera import Look
from v2w.safety.limits import STOP
from v2w.safety.supervisor import SafetySupervisor, steady_ns

NS, MS = 1_000_000_000, 1_000_000
CONFIG = TrackerConfig()
PATH = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])


class World:
    """A robot that does what it is told, seen by a supervisor; both clocks start together."""

    def __init__(self) -> None:
        self.now = self.ros = 1_000 * NS
        self.pose = [0.0, 0.0, 0.0, 0.0]
        self.output = Output()
        self.supervisor = SafetySupervisor(self.output, lambda: self.ros, lambda: self.now)
        self.executed_at: list[Any] = []
        self.follower = PlanFollower(
            TrajectoryTracker(SPEC, CONFIG), self.supervisor, self, lambda: self.now,
            self.supervisor,
        )  # fmt: skip
        self.number = 0
        self.camera = self.odometry = self.time = True
        self.blocked = False
        self.step()

    def sent(self, pose: Any, actions: Any) -> None:
        pass

    def executed(self, pose: Any) -> None:
        self.executed_at.append(pose)

    def step(self, count: int = 1) -> None:
        """50 ms each."""
        for _ in range(count):
            self.now += 50 * MS
            self.ros += 50 * MS * self.time
            twist = self.output.twists[-1] if self.output.twists else STOP
            self.pose[0] += 0.05 * twist[0] * (not self.blocked)
            self.number += 1
            if self.odometry:
                self.supervisor.saw_odometry(self.ros, tuple(self.pose), "odom")
            if self.camera:
                self.supervisor.saw_frame(Look(self.number, "a", "", 99.0, 50.0), self.ros)
            self.supervisor.look_at_clock()
            self.follower.tick(CONFIG)

    def drive(self) -> Any:
        origin = self.supervisor.origin((self.pose[0], 0.0, 0.0), 0.1)
        path = np.add(PATH, (self.pose[0], 0.0, 0.0))
        reason, steps = self.supervisor.why_not_begin(origin, path)
        assert not reason, reason
        return self.follower.follow(FORWARD, (self.pose[0], 0.0, 0.0), steps)


@pytest.fixture
def world() -> World:
    return World()


def test_a_plan_is_driven_within_the_limits_and_ends(world: World) -> None:
    motion = world.drive()
    world.step(3)
    assert 0.3 < world.output.twists[-1][0] <= 0.5 and not motion.ended.is_set()
    world.step(40)
    assert motion.ended.is_set() and motion.reason == ""
    assert world.output.twists[-1] == STOP
    assert world.pose[0] == pytest.approx(0.4, abs=0.05)
    assert all(line.endswith(": OK") for line in world.supervisor.lines())
    assert [line.partition(":")[0] for line in world.supervisor.lines()] == list(checks.NAMES)


def lose(world: World, what: str) -> None:
    setattr(world, what, False)


@pytest.mark.parametrize(
    ("what", "ticks", "name"),
    [("camera", 11, "camera fresh"), ("odometry", 11, "no odometry"), ("time", 7, "clock")],
)
def test_what_is_lost_stops_the_robot_in_time(
    world: World, what: str, ticks: int, name: str
) -> None:
    motion = world.drive()
    world.step(3)
    lose(world, what)
    world.step(ticks)
    assert world.output.twists[-1] == STOP and motion.ended.is_set()
    assert motion.reason.startswith((name, "odometry plausible: stamped"))
    assert world.supervisor.stopped_because == motion.reason == world.output.reasons[-1]
    count = len(world.output.twists)
    world.camera = world.odometry = world.time = True
    world.step(3)
    assert len(world.output.twists) == count, "the plan was dropped"
    world.drive()
    assert world.supervisor.stopped_because == ""


def test_a_robot_that_is_blocked_is_stopped_and_the_drive_learns_of_it(world: World) -> None:
    motion = world.drive()
    world.step(2)
    world.blocked = True
    world.step(9)
    assert motion.ended.is_set() and motion.reason.startswith("moving as commanded")
    assert world.executed_at


def test_a_check_that_fails_to_run_stops_the_robot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = world.drive()
    world.step(2)

    def broken(_: Any) -> str:
        raise KeyError("oh")

    monkeypatch.setitem(checks.CHECKS, "single publisher", broken)
    world.step()
    assert world.output.twists[-1] == STOP
    assert motion.reason == "single publisher: the check failed: KeyError: 'oh'"


def test_a_command_that_is_no_number_is_a_stop(world: World) -> None:
    assert world.supervisor.publish((float("nan"), 0.0, 0.0)).startswith("limits: ")
    assert world.output.twists[-1] == STOP


def test_a_plan_is_void_once_somebody_said_stop(world: World) -> None:
    origin = world.supervisor.origin((0.0, 0.0, 0.0), 0.1)
    assert world.supervisor.why_not_begin(origin, PATH) == ("", 0.0)
    world.supervisor.void_plans()
    reason, _ = world.supervisor.why_not_begin(origin, PATH)
    assert reason == "plan valid from here: the robot was told to stop while it was made"
    assert world.supervisor.stopped_because == f"not driven: {reason}"


def test_a_plan_that_is_made_by_another_place_is_void(world: World) -> None:
    origin = world.supervisor.origin((0.0, 0.0, 0.0), 0.1)
    world.pose[0] += 5.0
    world.step(2)
    assert "jumped while it was made" in world.supervisor.why_not_begin(origin, PATH)[0]


def test_another_planner_forbids_and_another_publisher_is_named(world: World) -> None:
    world.supervisor.saw_publishers("", "/teleop")
    assert "single publisher: OK (/teleop publishes on the same topic)" in world.supervisor.lines()
    assert world.supervisor.fault() == ""
    world.supervisor.saw_publishers("two planners")
    assert world.supervisor.fault() == "single publisher: two planners"


def test_only_the_motion_that_is_meant_is_stopped(world: World) -> None:
    first = world.drive()
    world.step(2)
    second = world.drive()
    assert first.ended.is_set() and "pre-empted" in first.reason
    assert not world.follower.stop("cancelled", first)
    assert not second.ended.is_set()
    assert world.follower.stop("cancelled", second)
    assert second.reason == "cancelled" and world.output.twists[-1] == STOP


def test_the_clock_is_steady() -> None:
    moments = [steady_ns() for _ in range(100)]
    assert moments == sorted(moments)
