"""Plans with a session that knows how the robot will really move."""

from __future__ import annotations

import numpy as np
import pytest
from core_toys import candidates, history, small_model
from planner_toys import SPEC, ToySession

from planners.costs.base import CostContext, planar_path
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_pose import GoalPose
from planners.planner import Planner
from planners.settings import SCREENED, ImaginationSettings
from v2w_core.geometry import integrate_actions
from v2w_core.testing import PLANAR_4HZ, geometric_config

GOAL = GoalPose((1.6, 0.0, 0.0))
WALL_X = 0.5


@pytest.mark.parametrize("imagination", [SCREENED, ImaginationSettings()])
def test_a_plan_to_a_pose_counts_with_the_wall_that_the_model_knows(imagination):
    planner = Planner(SPEC, imagination=imagination)
    blind = planner.plan(ToySession(), GOAL, seed=1)
    seen = planner.plan(ToySession(wall_x=WALL_X), GOAL, seed=1)
    np.testing.assert_allclose(blind.poses, planar_path(blind.action_sequence, SPEC))
    assert blind.poses[:, 0].max() > 1.4 and blind.frames_imagined <= 8
    assert seen.poses.shape == (9, 3) and np.all(seen.poses[0] == 0)
    assert seen.poses[:, 0].max() == pytest.approx(WALL_X)
    assert seen.cost > blind.cost + 0.5  # it does not believe to get there
    assert seen.frames_imagined > 64 * 3


def test_without_a_goal_that_looks_the_best_is_imagined_for_its_poses():
    plan = Planner(SPEC).plan(ToySession(wall_x=WALL_X), GoalImageLatent(ToySession().latents_after(
        np.zeros((1, 1, 3)))[0, 0]), seed=0, num_iterations=1)  # fmt: skip
    commanded = planar_path(plan.action_sequence, SPEC)
    assert plan.latents is not None
    np.testing.assert_allclose(plan.poses[:, 0], np.minimum(commanded[:, 0], WALL_X), atol=1e-6)


def test_costs_see_the_poses_of_the_models_rollouts():
    model = small_model(geometric_config)
    session = model.start(*history())
    assert session.predicts_motion and not small_model().start(*history()).predicts_motion
    actions = candidates(3, 4)
    context = CostContext(actions, PLANAR_4HZ, session.imagine, predicts_motion=True)
    poses = context.poses
    assert context.was_imagined and poses.shape == (3, 5, 3)
    np.testing.assert_allclose(poses[:, 1:], session.imagine(actions).poses)
    np.testing.assert_array_equal(poses[:, 0], 0)
    assert np.abs(poses - integrate_actions(actions)).max() > 1e-3


def test_a_planner_in_a_model_with_a_motion_head_returns_imagined_poses():
    model = small_model(geometric_config)
    session, planner = model.start(*history()), Planner(model.config.action, 3)
    plan = planner.plan(session, GoalPose((0.5, 0.1, 0.0)), num_candidates=8, num_iterations=2)
    again = session.imagine(plan.action_sequence[None], seed=0)
    np.testing.assert_allclose(plan.poses[1:], again.poses[0], atol=1e-4)
    assert plan.latents is not None
