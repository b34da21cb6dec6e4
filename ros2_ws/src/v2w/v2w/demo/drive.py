"""One goal of the demo: plan, drive the first steps, and repeat until the robot has arrived."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.evaluation.goals import is_reached
from v2w.demo.goals import DemoGoal, Pose
from v2w.demo.records import GoalRecord, PlanRecord, Recorder
from v2w.demo.settings import DemoSettings

if TYPE_CHECKING:
    from v2w.demo.client import RobotClient

NO_TIME = "it gave up: no time left"


def drive_to(
    client: RobotClient,
    recorder: Recorder,
    goal: DemoGoal,
    number: int,
    settings: DemoSettings,
    limit_s: float,
    say: Callable[[str], None],
) -> GoalRecord:
    """Drive to one goal through the graph.

    The planner knows the goal and nothing of the world. The drive ends when it believes to have
    arrived, or gives up: there is no step or no time left. Only then the simulator is asked whether
    the robot stands at the goal.

    Args:
        client: of the nodes.
        recorder: records camera frames and plans.
        goal: where to.
        number: of the goal, from 1.
        settings: of the demo.
        limit_s: longest wall time for this goal [s].
        say: prints one line.

    Raises:
        GraphError: a node died or did not answer.
    """
    record = GoalRecord(number, goal)
    image, pose = client.look()
    if not (goal.continues and is_reached(pose, goal.start)):
        client.teleport(goal.start)
        image, pose = client.look()
    record.start_image, record.start_pose = image, pose
    record.final_image, record.final_pose = image, pose
    say(
        f"goal {number} is {'an image' if goal.kind == 'image' else 'a pose'}, "
        f"{goal.steps} steps away ({describe(pose, goal.pose)})"
    )
    began = time.monotonic()
    recorder.begin(record)
    try:
        while not record.ended_because:
            left_s = limit_s - (time.monotonic() - began)
            record.ended_because = _go_on(client, recorder, record, settings, left_s, say)
    finally:
        recorder.end()
    record.duration_s = time.monotonic() - began
    record.at_goal = is_reached(record.final_pose, goal.pose)
    verdict = "reached" if record.reached else "MISSED"
    say(
        f"goal {number} {verdict}: {describe(record.final_pose, goal.pose)} away after "
        f"{record.steps_driven} steps and {record.duration_s:.0f} s ({record.in_words})"
    )
    return record


def describe(pose: Pose, goal: Pose) -> str:
    """Distance and angle from a pose to a goal, as text."""
    from training.evaluation.goals import errors

    metres, radians = errors(pose, goal)
    return f"{metres:.2f} m, {math.degrees(radians):.0f} degrees"


def _go_on(
    client: RobotClient,
    recorder: Recorder,
    record: GoalRecord,
    settings: DemoSettings,
    left_s: float,
    say: Callable[[str], None],
) -> str:
    """Make one plan and drive it. Returns why the drive to the goal is over; empty if it is not."""
    goal = record.goal
    if record.steps_driven + settings.execute_steps > settings.max_steps:
        return f"it gave up: {settings.max_steps} steps are all it may drive"
    if left_s <= 0.0:
        return NO_TIME
    recorder.planning()
    number = len(record.plans) + 1

    def begin(plan: PlanRecord) -> None:
        plan.num_driven = settings.execute_steps
        recorder.driving(plan)

    plan = client.plan(
        goal, number, settings.num_candidates, settings.num_iterations, left_s, begin
    )
    if plan is None:
        return NO_TIME
    if plan.believes_arrived:
        recorder.driving(plan)
    record.plans.append(plan)
    say(_line(plan, goal.kind))
    record.steps_driven += plan.num_driven
    record.final_image, record.final_pose = client.look()
    record.arrived = plan.believes_arrived
    return "it says that it has arrived" if plan.believes_arrived else ""


def _line(plan: PlanRecord, kind: str) -> str:
    unit = "m" if kind == "pose" else "(distance of views)"
    away = f"goal {plan.distance:.2f} {unit} away"
    what = "arrived, it believes" if plan.believes_arrived else "drives"
    late = ", cut off" if plan.timed_out else ""
    return (
        f"  plan {plan.index}: {plan.frames_imagined} frames imagined in "
        f"{plan.planning_s:.2f} s{late}; {away}; {what}"
    )
