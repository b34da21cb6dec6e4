"""What happened during the demo: plain data for the film, the report and result.json."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from v2w.demo.goals import DemoGoal, Pose

UInt8Array = NDArray[np.uint8]
Phase = Literal["waiting", "planning", "driving"]
#: While the robot stands and plans, only this many camera frames go into the film.
PLANNING_FRAMES = 6


@dataclass(frozen=True)
class Trajectory:
    """One candidate: places [N, 2] in metres; its colour goes from green (low cost) to red."""

    points: NDArray[np.float64]
    colour: tuple[int, int, int]


@dataclass
class PlanRecord:
    """One plan.

    Attributes:
        index: number of the plan, from 1 for each goal.
        planning_s: planning time that planner_node measured, with encoding the history [s].
        cost: of the best candidate; lower is better.
        frames: what the model imagines under the plan, uint8 [horizon, h, w, 3].
        path: poses (x m, y m, yaw rad) [horizon + 1, 3] that the plan leads along.
        candidates: the best ones of the last iteration.
        distance: to the goal, as the planner estimates it: metres for a pose, no unit for an image.
        believes_arrived: whether the planner believes that the robot has arrived.
        frames_imagined: frames that were imagined for this plan.
        timed_out: whether the time budget ended the optimisation.
        num_driven: how many of its steps are driven before the next plan.
    """

    index: int
    planning_s: float
    cost: float
    frames: UInt8Array
    path: NDArray[np.float64]
    candidates: list[Trajectory]
    distance: float
    believes_arrived: bool
    frames_imagined: int
    timed_out: bool
    num_driven: int = 0


@dataclass(frozen=True)
class Moment:
    """One camera frame of the film.

    Attributes:
        image: RGB uint8 [H, W, 3].
        pose: (x m, y m, yaw rad) of the robot.
        phase: what the robot is doing.
        plan: the plan that is being driven, or None before the first.
        elapsed_s: time since the drive of that plan began [s].
        note: progress of the planner, as text.
    """

    image: UInt8Array
    pose: Pose
    phase: Phase
    plan: PlanRecord | None
    elapsed_s: float
    note: str


@dataclass
class GoalRecord:
    """One goal and the way to it.

    Attributes:
        arrived: whether the robot ended the drive, as it believed to have arrived; otherwise it
            gave up.
        at_goal: whether it stood within 0.4 m and 20 degrees of the goal then: the simulator's
            word, which is asked for when the drive is over.
    """

    number: int
    goal: DemoGoal
    start_pose: Pose = (0.0, 0.0, 0.0)
    start_image: UInt8Array | None = None
    final_pose: Pose = (0.0, 0.0, 0.0)
    final_image: UInt8Array | None = None
    arrived: bool = False
    at_goal: bool = False
    ended_because: str = ""
    plans: list[PlanRecord] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    steps_driven: int = 0
    duration_s: float = 0.0

    @property
    def reached(self) -> bool:
        """The robot says that it has arrived, and is right."""
        return self.arrived and self.at_goal

    @property
    def verdict(self) -> str:
        """Reached or missed, in a word."""
        return "reached" if self.reached else "missed"

    @property
    def in_words(self) -> str:
        """What the robot says, and what the simulator says to that."""
        truth = "is there" if self.at_goal else "is not there"
        joined = ", and" if self.arrived == self.at_goal else ", but"
        return f"{self.ended_because}{joined} {truth}"

    @property
    def final_distance_m(self) -> float:
        """Distance from the final pose to the goal [m]."""
        return float(np.hypot(*(np.subtract(self.final_pose, self.goal.pose)[:2])))

    @property
    def final_yaw_error_rad(self) -> float:
        """Absolute yaw error at the final pose [rad]."""
        from v2w_core.geometry import wrap_angle

        return float(abs(wrap_angle(self.final_pose[2] - self.goal.pose[2])))

    @property
    def driven(self) -> NDArray[np.float64]:
        """Poses (x m, y m, yaw rad) [N, 3] along the way, the start first."""
        poses = [self.start_pose, *(moment.pose for moment in self.moments), self.final_pose]
        return np.asarray(poses, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """The goal as plain numbers; lengths in metres, angles in radians, times in seconds."""
        times = [plan.planning_s for plan in self.plans]
        return {
            "kind": self.goal.kind,
            "reached": self.reached,
            "arrived": self.arrived,
            "at_goal": self.at_goal,
            "final_distance_m": self.final_distance_m,
            "final_yaw_error_rad": self.final_yaw_error_rad,
            "num_plans": len(self.plans),
            "plan_s_p50": percentile(times, 50),
            "plan_s_p95": percentile(times, 95),
            "frames_imagined": sum(plan.frames_imagined for plan in self.plans),
            "steps_driven": self.steps_driven,
            "duration_s": self.duration_s,
            "ended_because": self.ended_because,
            "steps_away": self.goal.steps,
            "start_pose": list(self.start_pose),
            "goal_pose": list(self.goal.pose),
            "final_pose": list(self.final_pose),
            "plan_s": times,
        }


def percentile(values: list[float], percent: float) -> float | None:
    """A percentile of the values, or None when there are none."""
    return float(np.percentile(values, percent)) if values else None


class Recorder:
    """Collects the moments of one goal, from the camera's callback and from the driving thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._record: GoalRecord | None = None
        self._phase: Phase = "waiting"
        self._plan: PlanRecord | None = None
        self._began_ns: int | None = None
        self._left = 0
        self._note = ""
        self._last: tuple[UInt8Array, Pose] | None = None

    def begin(self, record: GoalRecord) -> None:
        """Record for this goal from now on."""
        with self._lock:
            self._record, self._plan = record, None
            self._phase, self._note = "waiting", ""
            self._last = None

    def planning(self) -> None:
        """Record that a plan is being made."""
        with self._lock:
            self._phase, self._note, self._left = "planning", "", PLANNING_FRAMES

    def iteration(self, note: str) -> None:
        """Record one more picture for an iteration of the planner."""
        with self._lock:
            self._note = note
            if self._record is not None and self._last is not None and self._phase == "planning":
                self._add(*self._last, 0.0)

    def driving(self, plan: PlanRecord) -> None:
        """Record that this plan is driven from now on."""
        with self._lock:
            self._phase, self._plan, self._note, self._began_ns = "driving", plan, "", None

    def end(self) -> None:
        """Record nothing more for this goal."""
        with self._lock:
            self._record = None

    def camera(self, image: UInt8Array, pose: Pose, stamp_ns: int) -> None:
        """Record a camera frame, RGB uint8 [H, W, 3], with the pose and stamp [ns] of that time."""
        with self._lock:
            self._last = (image, pose)
            if self._record is None or self._phase == "waiting":
                return
            if self._phase == "planning":
                self._left -= 1
                if self._left < 0:
                    return
            if self._phase == "driving" and self._began_ns is None:
                self._began_ns = stamp_ns
            elapsed_s = 0.0 if self._began_ns is None else (stamp_ns - self._began_ns) / 1e9
            self._add(image, pose, elapsed_s)

    def _add(self, image: UInt8Array, pose: Pose, elapsed_s: float) -> None:
        assert self._record is not None
        moment = Moment(image, pose, self._phase, self._plan, elapsed_s, self._note)
        self._record.moments.append(moment)
