"""Planner and MPC loop in a known world: deadlines, cancelling, arriving."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from planner_toys import SPEC, ToyModel, ToySession, picture

from planners.bounds import Bounds
from planners.costs.base import CostContext
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_pose import GoalPose
from planners.costs.visited_views import VisitedViewsMemory
from planners.mpc import MPC, ImageGoal, Observation, Planner, PoseGoal
from planners.optimizers.base import shift
from planners.optimizers.cem import CEM
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec

GOAL = np.array([1.6, 0.3, 0.4])


def latent_cost(goal=GOAL):
    return GoalImageLatent(picture(goal))


def test_plan_leads_to_the_goal_and_says_everything_about_itself():
    session, planner = ToySession(), Planner(SPEC)
    result = planner.plan(session, latent_cost(), num_iterations=4, num_candidates=64, seed=1)
    assert result.action_sequence.shape == (8, 3)
    assert Bounds.from_spec(SPEC).contains(result.action_sequence)
    nearest = np.linalg.norm(result.poses[1:, :2] - GOAL[:2], axis=1).min()
    assert nearest < 0.3
    assert list(result.cost_curve) == sorted(result.cost_curve, reverse=True)
    assert result.cost == result.cost_curve[-1]
    assert result.latents.shape == (8, 2, 8, 8)
    expected = picture(integrate_actions(result.action_sequence)[1:])
    np.testing.assert_allclose(result.latents.numpy(), expected.numpy(), atol=1e-6)
    assert result.candidates.shape == (64, 8, 3)
    assert result.costs.shape == (64,)
    assert result.num_iterations == 4
    assert result.frames_imagined == 4 * 64 * 8
    assert not result.timed_out
    assert not result.cancelled
    assert [call["num_candidates"] for call in session.calls] == [64] * 4  # one batch each


def test_the_same_seed_gives_the_same_plan():
    first, second, other = (
        Planner(SPEC).plan(ToySession(), latent_cost(), seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.action_sequence, second.action_sequence)
    assert not np.array_equal(first.action_sequence, other.action_sequence)


@pytest.mark.parametrize("deadline_s", [0.001, 0.15, 0.4])
def test_a_deadline_returns_the_best_so_far(deadline_s):
    planner = Planner(SPEC)
    slow = ToySession(seconds_per_candidate=0.004)  # 64 * 3 candidates would take 0.77 s
    result = planner.plan(slow, latent_cost(), deadline_s=deadline_s)
    assert result.timed_out
    assert np.isfinite(result.cost)
    begun = sum(call["num_candidates"] for call in slow.calls)
    scored = result.frames_imagined // 8  # a chunk that the deadline interrupts counts for nothing
    assert 4 <= scored <= begun <= max(4, deadline_s / 0.004)  # the first chunk is always scored
    assert scored == np.isfinite(result.costs).sum() or result.num_iterations > 1


def test_a_deadline_lets_the_chunks_grow_to_what_fits():
    session = ToySession(seconds_per_candidate=0.0005)
    result = Planner(SPEC, chunk_size=16).plan(session, latent_cost(), deadline_s=30.0)
    sizes = [call["num_candidates"] for call in session.calls]
    assert sizes[:5] == [4, 16, 16, 16, 12]  # a first look at the clock, then full chunks
    assert sum(sizes) == 3 * 64
    assert not result.timed_out
    session.calls.clear()
    Planner(SPEC).plan(session, latent_cost(), deadline_s=30.0)
    assert [call["num_candidates"] for call in session.calls][:4] == [4, 60, 64, 64]


def test_a_machine_that_slows_down_does_not_make_a_plan_late():
    class Slowing(ToySession):
        def rollout(self, candidates, **settings):
            self.seconds = 0.0005 if len(self.calls) < 2 else 0.1
            return super().rollout(candidates, **settings)

    began = time.perf_counter()
    result = Planner(SPEC).plan(Slowing(), latent_cost(), deadline_s=0.5, num_iterations=9)
    assert result.timed_out
    assert np.isfinite(result.cost)
    # scoring the chunk that was begun to its end would take 6.4 s, one step of it takes 0.8 s
    assert time.perf_counter() - began < 0.5 + 2 * 0.8


def test_a_generous_deadline_changes_nothing():
    free = Planner(SPEC).plan(ToySession(), latent_cost(), seed=4)
    bound = Planner(SPEC).plan(ToySession(), latent_cost(), seed=4, deadline_s=60.0)
    assert not bound.timed_out
    np.testing.assert_array_equal(free.action_sequence, bound.action_sequence)


def test_on_iteration_sees_progress_and_can_cancel():
    reports = []

    def watch(report):
        reports.append(report)
        return report.iteration < 2

    result = Planner(SPEC).plan(ToySession(), latent_cost(), num_iterations=5, on_iteration=watch)
    assert result.cancelled
    assert result.num_iterations == len(reports) == 2
    assert reports[-1].cost == result.cost
    assert reports[-1].frames_imagined == 2 * 64 * 8
    quiet = Planner(SPEC).plan(ToySession(), latent_cost(), on_iteration=lambda report: None)
    assert not quiet.cancelled


def test_a_shrinking_population_is_counted_as_it_is_imagined():
    reports, session = [], ToySession()
    planner = Planner(SPEC, optimizer=CEM(population_decay=0.5))
    result = planner.plan(session, latent_cost(), on_iteration=reports.append, seed=1)
    assert [call["num_candidates"] for call in session.calls] == [64, 32, 16]
    assert [report.num_scored for report in reports] == [64, 96, 112]
    assert [report.frames_imagined for report in reports] == [64 * 8, 96 * 8, 112 * 8]
    assert result.frames_imagined == 112 * 8
    whole = Planner(SPEC).plan(ToySession(), latent_cost(), seed=1)
    assert result.cost_curve[0] == whole.cost_curve[0]


def test_candidates_that_a_deadline_left_out_are_not_counted():
    reports, slow = [], ToySession(seconds_per_candidate=0.004)
    result = Planner(SPEC).plan(slow, latent_cost(), deadline_s=0.15, on_iteration=reports.append)
    assert result.timed_out
    assert reports[-1].num_scored == result.frames_imagined // 8


def test_a_pose_cost_imagines_only_the_best_sequence_or_nothing():
    session = ToySession()
    result = Planner(SPEC).plan(session, GoalPose((1.0, 0.0, 0.0)))
    assert [call["num_candidates"] for call in session.calls] == [1]
    assert result.latents is not None
    blind = Planner(SPEC).plan(None, GoalPose((1.0, 0.0, 0.0)))
    assert blind.latents is None
    assert blind.frames_imagined == 0
    np.testing.assert_array_equal(blind.action_sequence, result.action_sequence)


def test_costs_that_are_never_finite_do_not_crash():
    result = Planner(SPEC).plan(ToySession(), lambda c: np.full(c.num_candidates, np.nan))
    assert result.cost == np.inf
    np.testing.assert_array_equal(result.action_sequence, np.zeros((8, 3)))


def test_actions_that_are_not_planar_have_no_path():
    arm = ActionSpec(("a", "b"), ("rad", "rad"), (-1, -1), (1, 1), 4)
    result = Planner(arm, horizon=3).plan(None, lambda c: np.square(c.candidates).sum(axis=(1, 2)))
    assert result.poses is None
    assert result.action_sequence.shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"deadline_s": 0.0}, "deadline_s"), ({"num_candidates": 0}, "num_candidates"),
     ({"num_iterations": 0}, "num_iterations"), ({"warm_start": np.zeros((3, 3))}, "warm_start")],
)  # fmt: skip
def test_bad_numbers_name_the_field(arguments, field):
    with pytest.raises(V2WError, match=field):
        Planner(SPEC).plan(ToySession(), latent_cost(), **arguments)


def drive(mpc, start, max_steps=16):
    """Executes decisions exactly; returns the poses along the way and the last decision."""
    poses = [np.asarray(start, dtype=float)] * 4
    actions = [np.zeros(3)] * 3
    while len(poses) < 4 + max_steps:
        frames = np.stack([ToyModel.frame_of(pose) for pose in poses[-4:]])
        pose = tuple(float(value) for value in poses[-1])
        decision = mpc.decide(Observation(frames, np.float32(actions[-3:]), pose))
        if decision.arrival.arrived:
            break
        for action in decision.actions:
            actions.append(action)
            poses.append(integrate_actions(action[None], poses[-1])[-1])
    return np.stack(poses[3:]), decision


@pytest.mark.parametrize("num_execute", [1, 2])
def test_mpc_reaches_an_image_goal_and_knows_it(num_execute):
    model = ToyModel()
    start, goal = np.array([-1.0, 0.5, 0.3]), np.array([0.9, 1.2, 0.2])
    mpc = MPC(
        Planner(SPEC), ImageGoal(model, model.frame_of(goal), arrival_distance=1e-4), model,
        num_execute=num_execute,
    )  # fmt: skip
    path, decision = drive(mpc, start)
    assert decision.arrival.arrived
    assert decision.actions.shape == (0, 3)
    assert np.hypot(*(path[-1, :2] - goal[:2])) < 0.3
    assert abs(path[-1, 2] - goal[2]) < 0.35
    assert mpc.num_plans == len(model.sessions) - (decision.plan is None)


def test_mpc_reaches_a_pose_goal_without_a_model():
    goal = (1.2, -0.6, -0.5)
    mpc = MPC(Planner(SPEC), PoseGoal(goal), num_iterations=6)
    path, decision = drive(mpc, (0.0, 0.0, 0.0))
    assert decision.arrival.arrived
    assert decision.plan is None
    assert np.hypot(*(path[-1, :2] - goal[:2])) <= 0.2


def test_an_image_goal_asks_the_plan_whether_to_go_further():
    model = ToyModel()
    goal = ImageGoal(model, model.frame_of(GOAL), arrival_distance=1e-5)
    close, far = GOAL + np.array([0.1, 0.0, 0.05]), GOAL - np.array([0.6, 0.0, 0.0])

    def believed(pose, drop=()):
        seen = Observation(model.frame_of(pose)[None].repeat(4, axis=0), np.zeros((3, 3)))
        plan = Planner(SPEC).plan(ToySession(pose), goal.cost(seen), num_iterations=4)
        return goal.arrival(seen).arrived, goal.arrival(seen, replace(plan, **dict(drop))).arrived

    assert believed(GOAL) == (True, True)
    assert believed(close) == (False, True)
    assert believed(far) == (False, False)
    assert believed(far, {"poses": None}) == (False, False)  # a plan that leads nearer


class VagueModel(ToyModel):
    """Sure of what it sees when it moves on, but standing still always looks like the goal."""

    def start(self, frames, actions, *, seed=0):
        session = super().start(frames, actions, seed=seed)
        exact = session.latents_after

        def latents_after(actions):
            moved = np.abs(integrate_actions(actions)[:, 1:]).max(axis=-1)
            vague = torch.from_numpy(np.exp(-np.square(moved / 0.1)))[..., None, None, None]
            return ((1 - vague) * exact(actions) + vague * picture(GOAL)).float()

        session.latents_after = latents_after
        return session


def test_a_robot_does_not_trust_a_view_that_it_can_check():
    model = VagueModel()
    goal = ImageGoal(model, model.frame_of(GOAL), arrival_distance=1e-3, near_distance=1e-3)
    mpc = MPC(Planner(SPEC), goal, model)
    path, _ = drive(mpc, (0.0, 0.0, 0.0))
    assert np.hypot(*(path[-1, :2] - GOAL[:2])) < 0.4
    assert len(mpc.drive.views.views) >= len(path) - 1


class CountingModel(ToyModel):
    """Notes how many frames went through its autoencoder in each call."""

    def __init__(self):
        super().__init__()
        self.encoded = []

    def encode(self, frames):
        self.encoded.append(len(frames))
        return super().encode(frames)


def seen_from(*poses):
    frames = np.stack([ToyModel.frame_of(pose) for pose in poses])
    pose = tuple(float(value) for value in poses[-1])
    return Observation(frames, np.zeros((len(poses) - 1, 3), np.float32), pose)


def test_a_camera_frame_is_encoded_once_a_plan():
    model = CountingModel()
    goal = ImageGoal(model, model.frame_of(GOAL), arrival_distance=1e-5)
    assert model.encoded == []  # a goal is only a goal
    mpc = MPC(Planner(SPEC), goal, model)
    for _ in range(3):
        mpc.decide(seen_from(*[np.zeros(3)] * 4))
    assert sorted(model.encoded) == [1, 4, 4, 4]


def test_latents_of_a_session_are_those_of_the_observation():
    model = CountingModel()
    seen = seen_from(*[GOAL * i for i in range(5)])
    session = model.start(seen.frames, seen.actions)
    session.latents = model.encode(seen.frames[-4:])
    model.encoded.clear()
    latents = seen.encoded_by(session).latents(model)
    assert model.encoded == [1]  # the frame that is older than the session's
    torch.testing.assert_close(latents, ToyModel().encode(seen.frames))


def test_asking_for_a_cost_changes_nothing():
    model = ToyModel()
    goal, memory = ImageGoal(model, model.frame_of(GOAL)), VisitedViewsMemory()
    seen = seen_from(*[np.zeros(3)] * 4)
    context = CostContext(np.zeros((1, 8, 3), np.float32), SPEC, ToySession().imagine)
    first, again = (goal.cost(seen, memory)(context)[0] for _ in range(2))
    assert first == again and not memory.views
    for _ in range(3):
        goal.observe(seen, memory)
    assert len(memory.views) == 3
    assert goal.cost(seen, memory)(context)[0] > first  # it has looked there in vain


def test_a_decision_that_nobody_executes_is_not_shifted():
    mpc = MPC(Planner(SPEC), PoseGoal((2.0, 0.0, 0.0)), num_execute=2)
    seen = seen_from(*[np.zeros(3)] * 4)
    proposed = mpc.plan(seen).plan.action_sequence
    np.testing.assert_array_equal(mpc.drive.warm_start(8, seen.pose, 9.0), proposed)
    decided = mpc.decide(seen).plan.action_sequence
    mpc.drive.executed(seen.pose)
    np.testing.assert_array_equal(mpc.drive.warm_start(8, seen.pose, 9.0), shift(decided, 2))
    mpc.reset()
    assert mpc.drive.warm_start(8, seen.pose, 9.0) is None


def test_a_plan_is_made_where_the_robot_has_arrived_a_decision_is_not():
    mpc = MPC(Planner(SPEC), PoseGoal((0.0, 0.0, 0.0)))
    seen = seen_from(*[np.zeros(3)] * 4)
    assert mpc.decide(seen).plan is None
    planned = mpc.plan(seen)
    assert planned.arrival.arrived and planned.plan is not None and not len(planned.actions)


def test_encoding_counts_for_the_deadline():
    mpc = MPC(Planner(SPEC), PoseGoal((2.0, 0.0, 0.0)), deadline_s=60.0, num_iterations=10**6)
    began = time.perf_counter() - 59.7
    assert mpc.plan(seen_from(*[np.zeros(3)] * 4), began=began).plan.timed_out
    assert time.perf_counter() - began < 65.0


def test_goals_refuse_what_they_cannot_use():
    with pytest.raises(V2WError, match="goal_image"):
        ImageGoal(ToyModel(), np.zeros((4, 4, 3)))
    observation = Observation(np.zeros((4, 4, 2, 3), np.uint8), np.zeros((3, 3), np.float32))
    with pytest.raises(V2WError, match="pose"):
        PoseGoal((0.0, 0.0, 0.0)).arrival(observation)
    with pytest.raises(V2WError, match="num_execute"):
        MPC(Planner(SPEC), PoseGoal((0.0, 0.0, 0.0)), num_execute=9)


@pytest.mark.parametrize("frames", [0, 4])
def test_a_plan_that_is_unwanted_ends_within_a_rollout(frames):
    """Not only after an iteration, and also before anything was scored."""
    asked = []

    def unwanted():
        asked.append(True)
        return len(asked) > frames

    reports = []
    result = Planner(SPEC).plan(
        ToySession(seconds_per_candidate=0.001), latent_cost(), num_candidates=1000,
        num_iterations=1000, interrupt=unwanted, on_iteration=reports.append,
    )  # fmt: skip
    assert result.cancelled and not result.timed_out
    assert result.num_iterations == 1 and not reports
    assert result.latents is None


def test_a_deadline_while_the_best_is_imagined_leaves_the_plan_without_a_picture():
    planner = Planner(SPEC)
    result = planner.plan(
        ToySession(seconds_per_candidate=0.5), GoalPose((1.0, 0.0, 0.0)), deadline_s=0.2,
        num_iterations=1,
    )  # fmt: skip
    assert np.isfinite(result.cost) and result.latents is None
    assert not result.cancelled
