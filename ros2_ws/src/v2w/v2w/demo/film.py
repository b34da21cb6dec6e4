"""drive.mp4 shows the camera, the frame imagined for the same moment, and the maze from above."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.envs.world import World
from training.evaluation.goals import errors
from v2w.demo.draw import (
    BACKGROUND,
    BAD,
    DRIVEN,
    FAINT,
    GOAL,
    GOOD,
    INK,
    PANEL,
    PLANNED,
    WorldMap,
    frame_box,
    paste,
    put_text,
)
from v2w.demo.records import GoalRecord, Moment, PlanRecord

UInt8Array = NDArray[np.uint8]

FPS = 12
WIDTH, HEIGHT = 1280, 548
GAP, TOP, VIEW_W, VIEW_H = 16, 84, 352, 264
THUMB_W, THUMB_H = 85, 64
MAP_X, MAP_W = 3 * GAP + 2 * VIEW_W, WIDTH - 4 * GAP - 2 * VIEW_W
LOW = TOP + VIEW_H + 32
LEGEND = 58
#: How long each frame of a new plan, the title and the ending are shown [pictures].
PLAY, TITLE, ENDING = 2, 20, 30
STEP_S = 0.25


def film(records: list[GoalRecord], world: World) -> Iterator[UInt8Array]:
    """Yield the pictures of drive.mp4, RGB uint8 [548, 1280, 3], FPS of them a second."""
    painter = _Painter(WorldMap(world, map_width(world)), len(records))
    for record in records:
        yield from painter.goal(record)


def map_width(world: World) -> int:
    """Width of the map in pixels, so that its legend has room below."""
    columns, rows = world.size_m
    return min(MAP_W, int((HEIGHT - TOP - LEGEND) * columns / rows))


class _Painter:
    def __init__(self, world: WorldMap, num_goals: int) -> None:
        self._world = world
        self._num_goals = num_goals

    def goal(self, record: GoalRecord) -> Iterator[UInt8Array]:
        """Yield title, drive and ending of one goal."""
        assert record.start_image is not None
        assert record.final_image is not None
        first = Moment(record.start_image, record.start_pose, "waiting", None, 0.0, "")
        title = self._picture(
            record, first, [record.start_pose], None, "this is what the robot gets"
        )
        yield from [title] * TITLE
        driven = [record.start_pose]
        shown: PlanRecord | None = None
        step: int | None = None
        for moment in record.moments:
            driven.append(moment.pose)
            if moment.phase == "driving" and moment.plan is not shown:
                shown = moment.plan
                yield from self._play(record, moment, driven)
            if moment.phase == "driving" and moment.plan is not None:
                step = _step(moment.elapsed_s, moment.plan)
            yield self._picture(record, moment, driven, step, moment.note)
        plan = record.plans[-1] if record.plans else None
        last = Moment(record.final_image, record.final_pose, "waiting", plan, 0.0, "")
        note = f"{record.verdict.upper()}: {record.in_words}"
        ending = self._picture(record, last, driven, step, note, ended=True)
        yield from [ending] * ENDING

    def _play(
        self, record: GoalRecord, moment: Moment, driven: list[tuple[float, float, float]]
    ) -> Iterator[UInt8Array]:
        """Yield the frames of a new plan, while the robot stands still."""
        assert moment.plan is not None
        note = f"plan {moment.plan.index}: what it expects to see"
        for index in range(len(moment.plan.frames)):
            picture = self._picture(record, moment, driven, index, note)
            yield from [picture] * PLAY

    def _picture(
        self,
        record: GoalRecord,
        moment: Moment,
        driven: list[tuple[float, float, float]],
        step: int | None,
        note: str,
        ended: bool = False,
    ) -> UInt8Array:
        canvas = np.full((HEIGHT, WIDTH, 3), BACKGROUND, dtype=np.uint8)
        self._header(canvas, record, moment, note, ended)
        self._left(canvas, record, moment)
        self._middle(canvas, moment.plan, step)
        self._right(canvas, record, moment, driven)
        return canvas

    def _header(
        self, canvas: UInt8Array, record: GoalRecord, moment: Moment, note: str, ended: bool
    ) -> None:
        canvas[:46] = PANEL
        kind = "an image" if record.goal.kind == "image" else "a pose"
        title = f"Goal {record.number} of {self._num_goals}: {kind}"
        width = put_text(canvas, GAP, 11, title, size=19, bold=True)
        colour = FAINT if not ended else GOOD if record.reached else BAD
        put_text(canvas, GAP + width + 24, 14, note or _phase(moment), size=16, colour=colour,
                 bold=ended)  # fmt: skip
        metres, radians = errors(moment.pose, record.goal.pose)
        away = f"{metres:.2f} m, {math.degrees(radians):.0f}° from the goal"
        put_text(canvas, WIDTH - GAP, 14, away, size=16, right=True)

    def _left(self, canvas: UInt8Array, record: GoalRecord, moment: Moment) -> None:
        put_text(canvas, GAP, TOP - 24, "Camera", bold=True)
        paste(canvas, GAP, TOP, VIEW_W, VIEW_H, moment.image)
        is_image = record.goal.kind == "image"
        label = "Goal image" if is_image else "View at the goal (not shown to the robot)"
        put_text(canvas, GAP, LOW - 24, label, bold=is_image, colour=INK if is_image else FAINT)
        height = HEIGHT - LOW - GAP
        width = round(height * 4 / 3)
        paste(canvas, GAP, LOW, width, height, record.goal.image)
        if is_image:
            frame_box(canvas, GAP, LOW, width, height, GOAL)
        left = GAP + width + GAP
        plan, lines = moment.plan, []
        if plan is not None:
            lines = [f"plan {plan.index}", f"took {plan.planning_s:.2f} s",
                     f"{plan.frames_imagined} frames"]  # fmt: skip
        if not is_image:
            x, y, yaw = record.goal.pose
            lines += [f"x {x:.2f} m", f"y {y:.2f} m", f"yaw {math.degrees(yaw):.0f}°"]
        for row, line in enumerate(lines):
            colour = FAINT if plan is not None and row < 3 else GOAL
            put_text(canvas, left, LOW + 24 * row, line, size=14, colour=colour)

    def _middle(self, canvas: UInt8Array, plan: PlanRecord | None, step: int | None) -> None:
        left = 2 * GAP + VIEW_W
        frames = plan.frames if plan is not None else np.zeros((0, 1, 1, 3), np.uint8)
        label = "Imagined"
        width = put_text(canvas, left, TOP - 24, label, bold=True, colour=PLANNED)
        canvas[TOP : TOP + VIEW_H, left : left + VIEW_W] = PANEL
        if not len(frames):
            put_text(canvas, left + 128, TOP + 120, "no plan yet", size=17, colour=FAINT)
            return
        shown = len(frames) - 1 if step is None else min(step, len(frames) - 1)
        when = f"{(shown + 1) * STEP_S:.2f} s into the plan"
        put_text(canvas, left + width + 10, TOP - 23, when, size=14, colour=FAINT)
        paste(canvas, left, TOP, VIEW_W, VIEW_H, frames[shown])
        put_text(canvas, left, LOW - 24, "Best rollout, every step", colour=FAINT)
        for index, frame in enumerate(frames[:8]):
            x = left + (index % 4) * (THUMB_W + 4)
            y = LOW + (index // 4) * (THUMB_H + 4)
            paste(canvas, x, y, THUMB_W, THUMB_H, frame)
            if index == shown:
                frame_box(canvas, x, y, THUMB_W, THUMB_H, PLANNED)

    def _right(
        self,
        canvas: UInt8Array,
        record: GoalRecord,
        moment: Moment,
        driven: list[tuple[float, float, float]],
    ) -> None:
        width = put_text(canvas, MAP_X, TOP - 24, "From above", bold=True)
        put_text(canvas, MAP_X + width + 10, TOP - 23, "(the robot does not know the map)", size=14,
                 colour=FAINT)  # fmt: skip
        image = self._world.blank()
        self._world.goal(image, record.goal.pose)
        self._world.path(image, driven, DRIVEN, 4)
        if moment.plan is not None and moment.phase == "driving":
            self._world.candidates(image, moment.plan.candidates)
            self._world.path(image, moment.plan.path, PLANNED, 3)
        self._world.robot(image, moment.pose)
        canvas[TOP : TOP + self._world.height, MAP_X : MAP_X + self._world.width] = image
        legend(canvas, MAP_X, TOP + self._world.height + 12)


def legend(canvas: UInt8Array, x: int, y: int) -> None:
    """Draw what the colours on the map mean, in two columns."""
    entries = (
        (GOAL, "goal, 0.4 m around"),
        (DRIVEN, "driven"),
        (PLANNED, "plan"),
        ((120, 190, 60), "candidates: green is best"),
    )
    for index, (colour, text) in enumerate(entries):
        left, top = x + (index % 2) * 190, y + (index // 2) * 24
        canvas[top + 7 : top + 11, left : left + 22] = colour
        put_text(canvas, left + 30, top, text, size=14, colour=FAINT)


def _step(elapsed_s: float, plan: PlanRecord) -> int:
    """Index of the imagined frame nearest to now; frame k shows the end of step k.

    After the last driven step the robot stands, and the index stays.
    """
    nearest = round(elapsed_s / STEP_S) - 1
    return max(0, min(nearest, plan.num_driven - 1))


def _phase(moment: Moment) -> str:
    if moment.phase == "driving" and moment.plan is not None:
        return f"plan {moment.plan.index}: driving its first steps"
    return "planning"
