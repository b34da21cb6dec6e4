"""Each cost term on cases whose answer is known; nothing is imagined that no term asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planner_toys import SPEC, ToySession, picture, to_frames

from planners.costs.base import CostContext, WeightedSum
from planners.costs.compose import BUILDERS, CostTarget, compose
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_image_pixel import GoalImagePixel
from planners.costs.goal_pose import GoalPose
from planners.costs.settings import (
    IMAGE_GOAL_COSTS,
    POSE_GOAL_COSTS,
    GoalPoseSettings,
    SmoothnessSettings,
    chosen_costs,
)
from planners.costs.smoothness import Smoothness
from planners.costs.soft_minimum import SoftMinimum
from planners.costs.visited_views import VisitedViews, history_poses
from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec

FORWARD = np.tile(np.float32([0.4, 0.0, 0.0]), (8, 1))
LEFT = np.tile(np.float32([0.3, 0.0, 0.3]), (8, 1))
STAY = np.zeros((8, 3), dtype=np.float32)
ARRIVE = np.concatenate([FORWARD[:4], STAY[4:]])
CANDIDATES = np.stack([FORWARD, LEFT, STAY, ARRIVE])


def context(session=None, candidates=CANDIDATES, **more):
    return CostContext(candidates, SPEC, session.imagine if session else None, **more)


def test_pose_cost_prefers_to_arrive_and_stay():
    goal = GoalPose((1.6, 0.0, 0.0))
    costs = goal(context())
    assert costs.shape == (4,)
    assert np.argmin(costs) == 3
    assert costs[2] == pytest.approx(1.6)  # 1.6 m away at every step
    assert GoalPose((0.0, 0.0, 1.0), yaw_weight_m=0.5)(context())[2] == pytest.approx(0.5)


def test_pose_cost_turns_the_short_way_round():
    near = GoalPose((0.0, 0.0, np.pi - 0.05)).distances(np.array([0.0, 0.0, -np.pi + 0.05]))
    assert near == pytest.approx(0.05)


def test_latent_cost_knows_which_candidate_sees_the_goal():
    session = ToySession()
    goal = GoalImageLatent(picture(np.array([1.6, 0.0, 0.0])))
    costs = goal(context(session))
    assert list(np.argsort(costs))[:2] == [3, 0]
    assert goal.distances(goal.goal[None, None]).shape == (1, 1)
    assert goal.distances(goal.goal[None])[0] == 0.0


def test_latent_cost_propagates_nan_as_nan():
    goal = GoalImageLatent(torch.zeros(2, 8, 8))
    assert np.isnan(SoftMinimum(0.1)(goal.distances(torch.full((1, 3, 2, 8, 8), torch.nan))))[0]


def test_pixel_cost_knows_which_candidate_sees_the_goal():
    session = ToySession()
    frames = session.imagine(CANDIDATES).frames()
    goal = GoalImagePixel(frames[1, 5], block=2)
    costs = goal(context(session))
    assert np.argmin(costs) == 1
    assert goal.distances(frames)[1, 5] == 0.0


def test_smoothness_counts_changes_relative_to_the_range():
    low, high = np.float32(SPEC.low), np.float32(SPEC.high)
    jumping = np.stack([low, high] * 4)
    costs = Smoothness()(context(candidates=np.stack([FORWARD, jumping])))
    np.testing.assert_allclose(costs, [0.0, 4.0], rtol=1e-5)
    before = Smoothness()(context(previous_action=np.zeros(3, dtype=np.float32)))
    assert before[0] > 0 == before[2]
    assert Smoothness(effort=1.0)(context())[0] > Smoothness(effort=1.0)(context())[2] == 0


def test_soft_minimum_lies_between_the_minimum_and_the_mean():
    distances = np.array([3.0, 1.0, 2.0])
    assert SoftMinimum(1e-3, final_weight=0)(distances) == pytest.approx(1.0, abs=2e-3)
    assert SoftMinimum(1e4, final_weight=0)(distances) == pytest.approx(2.0, abs=1e-3)
    assert SoftMinimum(1e-3, final_weight=1)(distances) == 2.0
    early, late, passing = [2.0, 0, 0, 0], [2.0, 1, 1, 0], [2.0, 0, 1, 2]
    values = SoftMinimum(0.2)(np.array([early, late, passing]))
    assert values[0] < values[1] < values[2]


def test_what_was_seen_corrects_what_is_imagined_near_it():
    places = VisitedViews(
        np.array([[0.0, 0.0, 0.0], [0.0, 0.0, np.pi - 0.01]]), np.array([2.0, 0.1])
    )
    poses = np.array([[0.0, 0, 0], [0, 0, -np.pi + 0.01], [3.0, 0, 0], [0.3, 0, 0]])
    corrected = places.correct(np.full(4, 1.0), poses)
    np.testing.assert_allclose(corrected[:3], [2.0, 0.1, 1.0], atol=0.02)
    assert 1.0 < corrected[3] < 2.0
    goal = GoalImageLatent(picture(np.array([1.6, 0.0, 0.0])))
    stay = context(ToySession())
    disliked = GoalImageLatent(goal.goal, visited=VisitedViews(np.zeros((1, 3)), np.array([9.0])))
    assert disliked(stay)[2] > 8.0 > goal(stay)[2]


def test_history_poses_end_where_the_robot_is():
    actions = np.array([[1.0, 0.0, np.pi / 2], [1.0, 0.0, 0.0]])
    expected = [[-1.0, 1.0, -np.pi / 2], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(history_poses(actions), expected, atol=1e-12)
    assert history_poses(np.zeros((0, 3))).shape == (1, 3)


def test_nothing_is_imagined_unless_a_term_asks():
    session = ToySession()
    shared = context(session)
    pose_only = WeightedSum({"pose": (1.0, GoalPose((1.0, 0, 0))), "smooth": (0.1, Smoothness())})
    pose_only(shared)
    assert session.calls == []
    assert not shared.was_imagined
    latent = GoalImageLatent(picture(np.array([1.0, 0.0, 0.0])))
    WeightedSum({"off": (0.0, latent)})(shared)
    assert session.calls == []
    both = WeightedSum({"latent": (1.0, latent), "again": (2.0, latent)})
    parts = both.breakdown(shared)
    assert len(session.calls) == 1  # both terms share one imagination
    np.testing.assert_allclose(both(shared), parts["latent"] + parts["again"])
    np.testing.assert_allclose(parts["again"], 2 * parts["latent"])


def test_costs_are_made_of_terms_by_name():
    goal = picture(np.array([1.6, 0.0, 0.0]))
    target = CostTarget(image=GoalImageLatent(goal), pose=(1.6, 0.0, 0.0))
    shared = context(ToySession())
    terms = chosen_costs(["goal_image", "smoothness=0.5"], IMAGE_GOAL_COSTS)
    cost = compose(terms, target)
    assert cost.needs_rollouts
    expected = GoalImageLatent(goal)(shared) + 0.5 * Smoothness()(shared)
    np.testing.assert_allclose(cost(shared), expected)
    pose = compose({"goal_pose": GoalPoseSettings(weight=2.0, yaw_weight_m=0.0)}, target)
    assert not pose.needs_rollouts
    expected = 2.0 * GoalPose((1.6, 0.0, 0.0), yaw_weight_m=0.0)(shared)
    np.testing.assert_allclose(pose(shared), expected)
    assert compose(IMAGE_GOAL_COSTS, target).terms.keys() == {"goal_image", "smoothness"}


def test_every_term_that_can_be_chosen_can_be_made():
    frame = to_frames(picture(np.zeros(3)))
    target = CostTarget(GoalImageLatent(picture(np.zeros(3))), frame, pose=(1.0, 0.0, 0.0))
    for terms in (IMAGE_GOAL_COSTS, POSE_GOAL_COSTS):
        for name in terms:
            cost = compose(chosen_costs([name], terms), target)
            assert np.isfinite(cost(context(ToySession()))).all(), name
    assert {*IMAGE_GOAL_COSTS, *POSE_GOAL_COSTS} == set(BUILDERS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["luck"], "costs: some of goal_pose, smoothness"),
        (["goal_image"], "costs: some of goal_pose, smoothness"),
        (["goal_pose=x"], "NAME=WEIGHT"),
        (["smoothness=nan"], r"smoothness\.weight: within \[0, 1000\]"),
        (["smoothness=1e9"], r"smoothness\.weight"),
        (["smoothness=0"], "at least one term"),
        ([], "at least one term"),
    ],
)
def test_costs_that_cannot_be_chosen_are_refused(words, message):
    with pytest.raises(V2WError, match=message):
        compose(chosen_costs(words, POSE_GOAL_COSTS), CostTarget(pose=(1.0, 0.0, 0.0)))


def test_terms_need_their_kind_of_goal():
    all_terms = {**IMAGE_GOAL_COSTS, **POSE_GOAL_COSTS}
    for name in ("goal_image", "goal_image_latent", "goal_image_pixel", "goal_pose"):
        with pytest.raises(V2WError, match="only with a goal"):
            compose(chosen_costs([name], all_terms), CostTarget())
    with pytest.raises(V2WError, match="some of goal_image"):
        compose({"luck": SmoothnessSettings()}, CostTarget())
    with pytest.raises(V2WError, match=r"goal_pose\.yaw_weight_m.*m/rad"):
        GoalPoseSettings(yaw_weight_m=-1.0)


def test_bad_options_name_the_field():
    with pytest.raises(V2WError, match=r"GoalPose\.goal"):
        GoalPose((1.0, np.nan, 0.0))
    with pytest.raises(V2WError, match="temperature"):
        SoftMinimum(0.0)
    with pytest.raises(V2WError, match=r"GoalImagePixel\.goal"):
        GoalImagePixel(np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(V2WError, match="VisitedViews"):
        VisitedViews(np.zeros((2, 3)), np.zeros(1))
    with pytest.raises(V2WError, match="session"):
        GoalImageLatent(torch.zeros(2, 8, 8))(context())
    arm = ActionSpec(("a", "b"), ("rad", "rad"), (-1, -1), (1, 1), 4)
    with pytest.raises(V2WError, match="dyaw"):
        _ = CostContext(np.zeros((1, 2, 2), dtype=np.float32), arm).poses
