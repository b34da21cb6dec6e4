"""Odometry, clocks and goals while a plan is driven or made: the time from fault to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from base_robot import BaseRobot
from fault_harness import (
    AHEAD,
    FRAME_S,
    LATE_S,
    LONG,
    NAME,
    PERIOD_S,
    drives,
    ended,
    fine,
    loses_camera,
    report,
    send,
    set_parameter,
    shifts,
    suspends,
)
from nav_msgs.msg import Odometry
from ros_harness import Nodes, pose_goal, wait_for
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from v2w_msgs.action import Plan as PlanAction
from v2w_msgs.srv import Plan as PlanService

from v2w.errors import CODES
from v2w.messages.conversions import duration_message


def sticks(robot: BaseRobot) -> None:
    kept: list[Any] = []

    def change(message: Odometry) -> None:
        kept.append(message.pose.pose)
        message.pose.pose = kept[0]

    robot.change_odometry = change


def is_ahead_then_silent(robot: BaseRobot) -> None:
    seen: list[int] = []

    def change(message: Odometry) -> Any:
        seen.append(1)
        message.header.stamp.sec += 10
        return len(seen) <= 3 or False

    robot.change_odometry = change


def loses_odometry(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: False


def says_nan(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.position, "x", math.nan)


def is_huge(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.position, "y", 1e300)


def has_a_huge_quaternion(robot: BaseRobot) -> None:
    robot.change_odometry = lambda message: setattr(message.pose.pose.orientation, "z", 1e200)


def is_blocked(robot: BaseRobot) -> None:
    robot.blocked = True


ODOMETRY = {
    "jumps 5 m": (partial(shifts, x=5.0), FRAME_S, "jumped"),
    "jumps half a turn": (partial(shifts, yaw=math.pi), FRAME_S, "jumped"),
    "sticks with fresh stamps": (sticks, 0.5, "commanded but not moving"),
    "shows a blocked robot": (is_blocked, 0.5, "commanded but not moving"),
    "is 10 s ahead, then silent": (is_ahead_then_silent, 0.5, "ahead of the clock"),
    "ends": (loses_odometry, 0.5, "no odometry for"),
    "is NaN": (says_nan, FRAME_S, "finite"),
    "is huge": (is_huge, FRAME_S, "coordinates within"),
    "has a huge quaternion": (has_a_huge_quaternion, FRAME_S, "odometry plausible"),
}


@pytest.mark.parametrize("what", ODOMETRY)
def test_odometry_that_fails_stops_the_robot(base: BaseRobot, what: str) -> None:
    fault, within_s, why = ODOMETRY[what]
    _, result = drives(base)
    measured = base.stops(lambda: fault(base))
    report(f"odometry {what}", measured)
    assert measured[0] < within_s + LATE_S
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert why in answer.result.error_msg
    time.sleep(0.3)
    assert not base.moving, "the plan was dropped"


# -- clocks ---------------------------------------------------------------------------------------


def test_a_clock_that_is_not_there_stops_the_robot(base: BaseRobot) -> None:
    _, result = drives(base)
    try:
        measured = base.stops(lambda: set_parameter(base, "use_sim_time", True))
        report("use_sim_time without /clock", measured)
        assert measured[0] < 0.5 + LATE_S
        assert "clock alive" in ended(result).result.error_msg
    finally:
        set_parameter(base, "use_sim_time", False)


def test_a_clock_that_stops_stops_the_robot(base: BaseRobot) -> None:
    publisher = base.node.create_publisher(Clock, "/clock", 10)
    timer = base.node.create_timer(
        0.02, lambda: publisher.publish(Clock(clock=base.node.get_clock().now().to_msg()))
    )
    try:
        set_parameter(base, "use_sim_time", True)
        time.sleep(0.5)
        wait_for(lambda: fine(base), 20.0, "all checks")
        _, result = drives(base)
        measured = base.stops(timer.cancel)
        report("/clock stops", measured)
        assert measured[0] < 0.5 + LATE_S
        assert "clock alive: time stands still" in ended(result).result.error_msg
    finally:
        base.node.destroy_timer(timer)
        base.node.destroy_publisher(publisher)
        set_parameter(base, "use_sim_time", False)


def test_a_process_that_stood_still_drops_its_plan(base: BaseRobot, driver: Nodes) -> None:
    _, result = drives(base)
    measured = base.stops(lambda: suspends(driver))
    report("SIGSTOP for 1 s while driving", measured)
    assert measured[0] < 1.0 + PERIOD_S + LATE_S
    assert "stood still" in ended(result).result.error_msg


# -- goals ----------------------------------------------------------------------------------------


def test_a_base_that_cannot_go_sideways_is_never_told_to(base: BaseRobot) -> None:
    set_parameter(base, "holonomic", False)
    try:
        count = len(base.commands)
        _, result = send(base, goal_pose=pose_goal(1.0, 1.0, frame_id="base_link"))
        answer = ended(result).result
        assert answer.driven and not answer.not_driven_because
        assert all(twist.linear.y == 0.0 for _, twist in base.commands[count:])
        end = answer.path.poses[-1].pose.position
        assert math.dist(base.true_pose[:2], (end.x, end.y)) < 0.25
    finally:
        set_parameter(base, "holonomic", True)


def test_a_goal_lives_until_the_robot_stands(base: BaseRobot) -> None:
    seen: list[Any] = []
    _, result = send(base, lambda m: seen.append(m.feedback), goal_pose=AHEAD)
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_SUCCEEDED, answer.result.error_msg
    assert answer.result.driven and not answer.result.not_driven_because
    end = answer.result.path.poses[-1].pose.position
    assert math.dist(base.true_pose[:2], (end.x, end.y)) < 0.15
    assert not base.moving
    assert max(math.hypot(t.linear.x, t.linear.y) for _, t in base.commands) < 0.5 + 1e-6
    phases = [feedback.phase for feedback in seen]
    assert phases == sorted(phases) and phases[-1] == PlanAction.Feedback.DRIVING
    best = [feedback.best for feedback in seen if feedback.best.actions.horizon]
    assert len(best) == 1 and best[0].actions.horizon == 8


def test_cancelling_stops_the_robot(base: BaseRobot) -> None:
    handle, result = drives(base)
    measured = base.stops(handle.cancel_goal_async)
    report("cancelled", measured)
    assert measured[0] < PERIOD_S + LATE_S
    assert ended(result).status == GoalStatus.STATUS_CANCELED


def test_stop_stops_the_robot_and_voids_the_plan_that_is_made(base: BaseRobot) -> None:
    _, result = drives(base)
    measured = base.stops(lambda: base.call(Trigger, f"{NAME}/stop", Trigger.Request()))
    report("~/stop", measured)
    assert measured[0] < PERIOD_S + LATE_S
    assert "~/stop was called" in ended(result).result.error_msg
    _, result = send(base, **LONG, time_budget=duration_message(1.0))
    time.sleep(0.3)
    assert base.call(Trigger, f"{NAME}/stop", Trigger.Request()).success
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "told to stop" in answer.result.error_msg
    assert not base.moving


def test_a_newer_goal_pre_empts_the_one_that_is_driven_or_made(base: BaseRobot) -> None:
    _, driven = drives(base)
    began = time.monotonic()
    _, made = send(base, **LONG, time_budget=duration_message(20.0))
    assert "pre-empted" in ended(driven).result.error_msg
    report("pre-empted while driven", (time.monotonic() - began, 0.0))
    assert time.monotonic() - began < 0.5 + LATE_S
    wait_for(lambda: not base.moving, 1.0, "a stop")
    began = time.monotonic()
    seen: list[float] = []
    _, newest = send(
        base, lambda m: seen.append(time.monotonic() - began) if m.feedback.phase else None,
        goal_pose=AHEAD,
    )  # fmt: skip
    answer = ended(made)
    report("pre-empted while planned", (time.monotonic() - began, 0.0))
    assert answer.status == GoalStatus.STATUS_ABORTED and "pre-empted" in answer.result.error_msg
    wait_for(lambda: seen or newest.done(), 10.0, "the newer one to be driven")
    assert seen and seen[0] < 1.0 + LATE_S, newest.done() and newest.result().result.error_msg


def carried(robot: BaseRobot, nodes: Nodes) -> None:
    robot.true_pose = np.add(robot.true_pose, (5.0, 0.0, 0.0))


def restarted(robot: BaseRobot, nodes: Nodes) -> None:
    x, _, yaw = robot.true_pose
    shifts(robot, x=-x, yaw=-yaw)


def blinded(robot: BaseRobot, nodes: Nodes) -> None:
    loses_camera(robot)


def suspended(robot: BaseRobot, nodes: Nodes) -> None:
    suspends(nodes)


@pytest.mark.parametrize("what", [carried, restarted, blinded, suspended])
def test_a_plan_of_another_place_or_time_is_not_driven(
    base: BaseRobot, driver: Nodes, what: Callable[[BaseRobot, Nodes], None]
) -> None:
    time.sleep(1.0)  # the history must not have the jump of the last case
    count = len(base.commands)
    _, result = send(base, **LONG, time_budget=duration_message(1.5))
    time.sleep(0.4)
    what(base, driver)
    answer = ended(result)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == CODES["NOT_DRIVEN"]
    print(f"FAULT {what.__name__} while planned: {answer.result.error_msg}")
    assert answer.result.plan.horizon and not answer.result.driven
    assert answer.result.not_driven_because
    time.sleep(0.3)
    assert len(base.commands) == count


def test_a_plan_that_was_hardly_made_and_a_goal_that_is_nowhere(base: BaseRobot) -> None:
    count = len(base.commands)
    budget = duration_message(0.001)
    answer = base.call(
        PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD, time_budget=budget)
    )
    assert answer.error_code == 0 and not answer.driven
    assert "candidates were scored" in answer.error_msg
    for x, rule in ((1e300, "coordinates within"), (1e4, "max_goal_distance")):
        for frame in ("", "base_link"):
            goal = pose_goal(x, 0.0, frame_id=frame)
            answer = base.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=goal))
            assert answer.error_code == CODES["INVALID_REQUEST"], answer.error_msg
            assert rule in answer.error_msg
    assert len(base.commands) == count


def test_a_plan_that_is_made_while_the_robot_moves_ends_where_it_should(base: BaseRobot) -> None:
    first = base.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD))
    assert first.driven, first.error_msg
    wait_for(lambda: base.moving, 5.0, "driving")
    time.sleep(0.7)
    second = base.call(PlanService, f"{NAME}/plan", PlanService.Request(goal_pose=AHEAD))
    assert second.error_code == 0
    wait_for(lambda: not base.moving, 10.0, "the end")
    time.sleep(0.2)
    last = second if second.driven else first
    end = last.path.poses[-1].pose.position
    away = math.dist(base.true_pose[:2], (end.x, end.y))
    print(f"FAULT made while moving: driven {second.driven}, {away:.2f} m from the planned end")
    assert away < 0.8
