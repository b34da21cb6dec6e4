"""The files that the demo writes: result.json, drive.mp4 and report.html."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.envs.world import World
from v2w.demo.draw import (
    BACKGROUND,
    DRIVEN,
    FAINT,
    GOAL,
    PLANNED,
    WorldMap,
    paste,
    put_text,
)
from v2w.demo.film import FPS, film
from v2w.demo.records import GoalRecord, percentile
from v2w.demo.settings import DemoSettings
from v2w_core.files import write_text
from v2w_core.media.pictures import contact_sheet
from v2w_core.media.plots import line_plot
from v2w_core.media.report import Section, write_report
from v2w_core.media.video import write_video

UInt8Array = NDArray[np.uint8]
#: A film larger than this is not embedded in the report [bytes].
LARGEST_VIDEO = 25_000_000


@dataclass(frozen=True)
class Futures:
    """Futures that world_model_node imagined at the first start.

    Attributes:
        now: the camera frame there, RGB uint8 [H, W, 3].
        frames: imagined frames by name, RGB uint8 [horizon, h, w, 3].
    """

    now: UInt8Array
    frames: dict[str, UInt8Array]


@dataclass(frozen=True)
class Outcome:
    """The whole demo; ``elapsed_s`` is the time from its first line to the last goal [s]."""

    settings: DemoSettings
    records: list[GoalRecord]
    futures: Futures
    elapsed_s: float

    @property
    def num_reached(self) -> int:
        """How many goals were reached: the robot says so, and is right."""
        return sum(record.reached for record in self.records)

    @property
    def num_mistaken(self) -> int:
        """At how many goals the robot believed to have arrived, and had not."""
        return sum(record.arrived and not record.at_goal for record in self.records)

    @property
    def exit_code(self) -> int:
        """0: the robot says at every goal that it has arrived, and is right; 1: otherwise."""
        return 0 if self.num_reached == len(self.records) else 1

    @property
    def in_words(self) -> str:
        """What became of the goals."""
        num_missed = len(self.records) - self.num_reached - self.num_mistaken
        return (
            f"{self.num_reached} of {len(self.records)} goals reached, {num_missed} given up, "
            f"mistaken about {self.num_mistaken}"
        )

    def to_json(self) -> dict[str, Any]:
        """The content of result.json; lengths in metres, angles in radians, times in seconds."""
        settings = self.settings
        times = [plan.planning_s for record in self.records for plan in record.plans]
        return {
            "num_goals": len(self.records),
            "num_reached": self.num_reached,
            "num_mistaken": self.num_mistaken,
            "goals": [record.to_json() for record in self.records],
            "plan_s_p50": percentile(times, 50),
            "plan_s_p95": percentile(times, 95),
            "frames_imagined": sum(p.frames_imagined for r in self.records for p in r.plans),
            "elapsed_s": self.elapsed_s,
            "checkpoint": settings.checkpoint.name,
            "seed": settings.seed,
            "world": settings.world,
            "world_seed": settings.world_seed,
            "candidates": settings.num_candidates,
            "iterations": settings.num_iterations,
            "horizon": settings.horizon,
            "execute_steps": settings.execute_steps,
            "max_steps": settings.max_steps,
        }

    def rows(self) -> list[list[str]]:
        """The table of the goals; the first row is its head."""
        head = ["goal", "kind", "robot says", "in truth", "final distance", "yaw error", "steps",
                "plans", "plan p50", "plan p95", "frames imagined"]  # fmt: skip
        rows = [head]
        for record in self.records:
            data = record.to_json()
            rows.append(
                [
                    str(record.number),
                    record.goal.kind,
                    "arrived" if record.arrived else "gave up",
                    "there" if record.at_goal else "elsewhere",
                    f"{record.final_distance_m:.2f} m",
                    f"{math.degrees(record.final_yaw_error_rad):.0f}°",
                    str(record.steps_driven),
                    str(len(record.plans)),
                    _seconds(data["plan_s_p50"]),
                    _seconds(data["plan_s_p95"]),
                    str(data["frames_imagined"]),
                ]
            )
        return rows

    def table(self) -> str:
        """The table of the goals as text for a terminal."""
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )


def write_results(outcome: Outcome, world: World) -> None:
    """Write the three files; each appears complete or not at all."""
    out = outcome.settings.out
    out.mkdir(parents=True, exist_ok=True)
    video = write_video(out / "drive.mp4", film(outcome.records, world), FPS)
    sections = [_summary(outcome)]
    if video.stat().st_size <= LARGEST_VIDEO:
        sections.append(Section("The drive", videos=[("drive.mp4", video)]))
    above = WorldMap(world, 640)
    sections += [_goal_section(record, above) for record in outcome.records]
    sections += [_times(outcome), _futures(outcome.futures)]
    write_report(out / "report.html", "v2w demo: a robot drives by its imagination", sections)
    write_text(out / "result.json", json.dumps(outcome.to_json(), indent=2) + "\n")


def _summary(outcome: Outcome) -> Section:
    settings = outcome.settings
    num_driven = settings.execute_steps
    driven = "the first step" if num_driven == 1 else f"the first {num_driven} steps"
    text = (
        f"{outcome.in_words}, in {outcome.elapsed_s:.0f} s, start-up included (model "
        f"{settings.checkpoint.name}, {settings.world} {settings.world_seed}, seed "
        f"{settings.seed}).\n\n"
        "The robot knows what its camera sees and how it has moved; it has no map. For every plan "
        f"the world model imagines {settings.num_candidates} action sequences of "
        f"{settings.horizon} steps (0.25 s each), {settings.num_iterations} times over; the robot "
        f"drives {driven} of the best one and looks again. For a "
        "pose the planner scores the path that the actions lead along, and imagines only the best."
        "\n\nThe robot ends each drive itself: it says that it has arrived, or gives up. Only then "
        "the simulator is asked whether it stands within 0.4 m and 20° of the goal. A goal is "
        "reached when the robot says so and is right."
    )
    return Section("What happened", text, table=outcome.rows())


def _goal_section(record: GoalRecord, world: WorldMap) -> Section:
    goal = record.goal
    kind = "an image" if goal.kind == "image" else "a pose"
    where = ", behind a wall" if goal.behind_wall else ""
    x, y, yaw = goal.pose
    text = (
        f"{goal.steps} steps away{where}: {goal.distance_m:.2f} m as the crow flies, a turn of "
        f"{abs(math.degrees(goal.turn_rad)):.0f}°, at x {x:.2f} m, y {y:.2f} m, yaw "
        f"{math.degrees(yaw):.0f}°. It ended {record.final_distance_m:.2f} m and "
        f"{math.degrees(record.final_yaw_error_rad):.0f}° from there: {record.in_words}."
    )
    pictures = [
        ("Where it started, where it should go, where it stopped.", _views(record)),
        ("From above: every plan, and the way that was driven.", _map(record, world)),
    ]
    plan = next((plan for plan in record.plans if len(plan.frames)), None)
    if plan is not None:
        sheet = contact_sheet([plan.frames], min_height=100)
        pictures.append(("What the first plan expects to see, step by step.", sheet))
    return Section(f"Goal {record.number}: {kind}, {record.verdict}", text, pictures=pictures)


def _views(record: GoalRecord) -> UInt8Array:
    width, height, gap, top = 340, 255, 10, 28
    assert record.start_image is not None
    assert record.final_image is not None
    sheet = np.full((top + height, 3 * width + 2 * gap, 3), 255, dtype=np.uint8)
    arrival = "arrival" if record.reached else "where it stopped"
    goal = "goal image" if record.goal.kind == "image" else "view at the goal (it got the pose)"
    views = (("start", record.start_image), (goal, record.goal.image),
             (arrival, record.final_image))  # fmt: skip
    for index, (label, image) in enumerate(views):
        left = index * (width + gap)
        put_text(sheet, left, 2, label, size=16, colour=(30, 30, 30), bold=True)
        paste(sheet, left, top, width, height, image)
    return sheet


def _map(record: GoalRecord, world: WorldMap) -> UInt8Array:
    image = world.blank()
    world.goal(image, record.goal.pose)
    for plan in record.plans:
        world.path(image, plan.path, PLANNED, 1)
    world.path(image, record.driven, DRIVEN, 4)
    world.dot(image, record.start_pose, DRIVEN, 7)
    world.robot(image, record.final_pose)
    canvas = np.full((world.height + 60, world.width, 3), BACKGROUND, dtype=np.uint8)
    canvas[: world.height] = image
    for index, (colour, text) in enumerate(
        ((GOAL, "goal, 0.4 m around"), (DRIVEN, "driven"), (PLANNED, "plans"))
    ):
        left, top = 12 + index * 200, world.height + 20
        canvas[top + 7 : top + 11, left : left + 22] = colour
        put_text(canvas, left + 30, top, text, size=14, colour=FAINT)
    return canvas


def _times(outcome: Outcome) -> Section:
    series = {
        f"goal {record.number} ({record.goal.kind})": [plan.planning_s for plan in record.plans]
        for record in outcome.records
        if record.plans
    }
    if not series:
        return Section("Plan time", "No plan was made.")
    plot = line_plot(series, title="Time of every plan", x_label="plan", y_label="seconds")
    return Section("Plan time", pictures=[("As planner_node measured it.", plot)])


def _futures(futures: Futures) -> Section:
    horizon = max(len(frames) for frames in futures.frames.values())
    rows = [np.concatenate([_like(futures.now, frames), frames]) for frames in
            futures.frames.values()]  # fmt: skip
    sheet = contact_sheet(rows, list(futures.frames), min_height=100)
    text = (
        "world_model_node imagined these at the start of the first goal: the camera's view (left), "
        f"and the next {horizon} steps under three action sequences."
    )
    return Section("Three futures of one moment", text, pictures=[("", sheet)])


def _like(image: UInt8Array, frames: UInt8Array) -> UInt8Array:
    """The image [1, h, w, 3] at the size of the frames."""
    resized = np.zeros((1, *frames.shape[1:]), np.uint8)
    paste(resized[0], 0, 0, frames.shape[2], frames.shape[1], image)
    return resized


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
