"""What planner_node remembers of a drive, without ROS."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from core_toys import history, small_model
from numpy.typing import NDArray

from planners.goals import ImageGoal, PoseGoal
from planners.optimizers.base import shift
from planners.planner import Planner
from v2w.navigation.history import Snapshot
from v2w.navigation.planning import PlanningCore, PlanSettings
from v2w_core.geometry import integrate_actions
from v2w_core.images import encode_image

DRIVE = PlanSettings(
    horizon=6, num_iterations=4, num_candidates=32, time_budget_s=60.0, seed=None,
    execute_steps=2, drive=True,
)  # fmt: skip
AHEAD = PoseGoal((2.0, 0.0, 0.0))


def snapshot_at(x: float, y: float = 0.0, yaw: float = 0.0) -> Snapshot:
    frames, actions = history()
    poses = np.tile([x, y, 0.0, yaw], (len(frames), 1))
    stamps = np.arange(len(frames), dtype=np.int64) * 250_000_000
    return Snapshot(frames, 0 * actions, stamps, poses)


def leads_on(core: PlanningCore, settings: PlanSettings) -> bool:
    path = core.plan(snapshot_at(0.02), AHEAD, "goal", settings).result.poses
    assert path is not None
    return bool(((path[:, 0] > 0.15) & (np.abs(path[:, 1]) < 0.3)).any())


@pytest.fixture
def core() -> PlanningCore:
    """A core whose robot was told to drive 0.6 m ahead and hardly moved."""
    core = PlanningCore(small_model())
    core.plan(snapshot_at(0.0), AHEAD, "goal", DRIVE)
    core.sent((0.0, 0.0, 0.0), np.tile(np.float32([0.3, 0.0, 0.0]), (2, 1)))
    core.executed((0.02, 0.0, 0.0))
    return core


def test_a_drive_keeps_away_from_the_wall_it_touched(core: PlanningCore) -> None:
    assert not leads_on(core, DRIVE)


def test_plans_that_are_not_driven_know_of_no_drive(core: PlanningCore) -> None:
    assert leads_on(core, replace(DRIVE, drive=False))


def test_candidates_are_screened_where_they_are_imagined() -> None:
    model = small_model()
    asked = replace(DRIVE, drive=False)
    goals = (AHEAD, ImageGoal(model, history()[0][0]))
    core = PlanningCore(model, 0)
    poses, image = (core.plan(snapshot_at(0.0), goal, goal, asked).result for goal in goals)
    assert poses.frames_imagined == 6  # the plan that was found
    chunks = 4 + 28, 1 + 7  # the first one tells how long a candidate takes
    assert image.frames_imagined == 4 * (2 * sum(chunks[:1]) + 4 * sum(chunks[1:]))


@pytest.mark.slow
def test_the_same_seed_plans_the_same_one_plan_after_the_other() -> None:
    def plans(seed: int) -> list[NDArray[np.float32]]:
        core = PlanningCore(small_model(), seed)
        asked = replace(DRIVE, drive=False)
        outcomes = [core.plan(snapshot_at(0.0), AHEAD, i, asked) for i in range(2)]
        return [outcome.result.action_sequence for outcome in outcomes]

    first, again, other = plans(1), plans(1), plans(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_a_time_jump_ends_the_drive(core: PlanningCore) -> None:
    core.forget_drive()
    assert leads_on(core, DRIVE)


def test_a_plan_that_is_made_once_more_gets_what_is_left_of_the_time() -> None:
    core = PlanningCore(small_model())
    asked = replace(DRIVE, num_iterations=100_000, time_budget_s=100.0)
    began = time.perf_counter() - 99.5
    outcome = core.plan(snapshot_at(0.0), AHEAD, "goal", asked, began=began)
    assert outcome.result.timed_out
    assert 99.5 < outcome.planning_s < 110.0


@pytest.fixture
def warm_starts(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32] | None]:
    """What the plans of this test were started from."""
    found: list[NDArray[np.float32] | None] = []
    plan = Planner.plan

    def noted(*args: Any, **options: Any) -> Any:
        found.append(options["warm_start"])
        return plan(*args, **options)

    monkeypatch.setattr(Planner, "plan", noted)
    return found


def planned(core: PlanningCore, settings: PlanSettings = DRIVE, x: float = 0.0) -> Any:
    return core.plan(snapshot_at(x), AHEAD, "goal", settings).result.action_sequence


@pytest.mark.parametrize("drive", [True, False])
def test_a_plan_that_was_not_driven_is_not_shifted(warm_starts: list[Any], drive: bool) -> None:
    core, asked = PlanningCore(small_model()), replace(DRIVE, drive=drive)
    first = planned(core, asked)
    core.executed((0.0, 0.0, 0.0))  # whatever that was, it was not this plan
    planned(core, asked)
    assert warm_starts[0] is None
    np.testing.assert_array_equal(warm_starts[1], first)


def test_a_plan_is_shifted_by_what_was_driven_of_it(warm_starts: list[Any]) -> None:
    core = PlanningCore(small_model())
    first = planned(core)
    core.sent((0.0, 0.0, 0.0), first[:2])
    core.executed((0.4, 0.0, 0.0))
    second = planned(core)
    np.testing.assert_array_equal(warm_starts[1], shift(first, 2))
    core.sent((0.4, 0.0, 0.0), second[:2])  # and given up after the first of them
    where = integrate_actions(second[:1], (0.4, 0.0, 0.0))[-1]
    core.plan(snapshot_at(*where), AHEAD, "goal", DRIVE)
    np.testing.assert_array_equal(warm_starts[2], shift(second, 1))


@pytest.mark.slow
def test_plans_that_start_from_nothing(
    warm_starts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = PlanningCore(small_model())
    planned(core)
    planned(core, replace(DRIVE, seed=3, drive=False))  # can be repeated
    planned(core, replace(DRIVE, horizon=5))
    core.plan(snapshot_at(0.0), AHEAD, "another goal", DRIVE)
    core.forget_drive()
    core.plan(snapshot_at(0.0), AHEAD, "another goal", DRIVE)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31.0)
    core.plan(snapshot_at(0.0), AHEAD, "another goal", DRIVE)
    assert warm_starts == [None] * 6


@pytest.mark.slow
def test_a_goal_image_and_each_history_are_encoded_once() -> None:
    model, encoded = small_model(), []
    encode = model.encode

    def noted(frames: Any) -> Any:
        encoded.append(len(frames))
        return encode(frames)

    model.encode = noted
    core = PlanningCore(model)
    picture = encode_image(history(seed=3)[0][0], "png")
    for _ in range(3):
        core.plan(snapshot_at(0.0), core.image_goal(picture), "goal", DRIVE)
    assert sorted(encoded) == [1, 4, 4, 4]
