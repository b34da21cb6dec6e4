"""Screening: a coarse look at all candidates, a full one at the promising."""

from __future__ import annotations

import numpy as np
import pytest
from planner_toys import SPEC, ToySession, picture

from planners.costs.base import CostContext
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_pose import GoalPose
from planners.planner import Planner
from planners.plots import plan_plot
from planners.settings import ImaginationSettings
from v2w_core.errors import V2WError

COST = GoalImageLatent(picture(np.array([1.6, 0.3, 0.4])))


def in_full(candidates):
    """Costs of all, in a session that is exact."""
    return COST(CostContext(candidates, SPEC, ToySession().imagine))


@pytest.mark.parametrize(("coarse", "steps", "horizon"), [
    ({"screening_steps": 1}, 1, 8), ({"screening_horizon": 4}, 4, 4),
    ({"screening_horizon": 2, "screening_steps": 3}, 3, 2),
])  # fmt: skip
def test_only_the_promising_are_scored_in_full(coarse, steps, horizon):
    settings = ImaginationSettings(num_sampling_steps=4, screening_fraction=0.25, **coarse)
    session = ToySession()
    result = Planner(SPEC, imagination=settings).plan(session, COST, seed=1)
    keys = "num_sampling_steps", "num_candidates", "horizon"
    calls = [tuple(call[key] for key in keys) for call in session.calls]
    assert calls == [(steps, 64, horizon), (4, 16, 8)] * 3
    begun = horizon if steps == 4 else 0  # as fine as the rest: the chosen go on from there
    assert result.frames_imagined == 3 * (64 * horizon + 16 * (8 - begun))
    full, rest = np.split(result.ranking, [16])
    assert sorted(result.ranking) == list(range(64))
    assert (np.diff(result.costs[full]) >= 0).all()
    assert np.isinf(result.costs[rest]).all()
    np.testing.assert_allclose(result.costs[full], in_full(result.candidates[full]))
    early = COST(CostContext(result.candidates[:, :horizon], SPEC, ToySession().imagine))
    assert early[full].max() <= early[rest].min()
    assert (np.diff(early[rest]) >= 0).all()
    np.testing.assert_allclose(result.latents, picture(result.poses[1:]), atol=1e-6)


def test_the_published_mean_is_of_costs_that_candidates_have():
    settings = ImaginationSettings(screening_fraction=0.25, screening_horizon=2)
    reports = []
    result = Planner(SPEC, imagination=settings).plan(
        ToySession(), COST, num_iterations=1, seed=1, on_iteration=reports.append
    )
    full = result.ranking[:16]
    assert reports[0].mean_cost == pytest.approx(in_full(result.candidates[full]).mean())
    assert reports[0].num_scored == 64


def test_a_plan_is_drawn_whether_candidates_have_a_cost_or_not():
    settings = ImaginationSettings(screening_fraction=0.25, screening_horizon=2)
    plan = Planner(SPEC, imagination=settings).plan(ToySession(), COST, num_iterations=1)
    assert plan_plot(plan, SPEC).startswith(b"\x89PNG")


def test_a_plan_is_as_good_when_nobody_but_the_hopeless_is_left_out():
    settings = ImaginationSettings(screening_fraction=0.5, screening_horizon=6)
    screened = Planner(SPEC, imagination=settings).plan(ToySession(), COST, seed=1)
    plain = Planner(SPEC).plan(ToySession(), COST, seed=1)
    np.testing.assert_allclose(screened.action_sequence, plain.action_sequence)


def test_what_cannot_be_made_cheaper_is_left_alone():
    settings = ImaginationSettings(screening_fraction=0.25, screening_horizon=4)
    for horizon, cost in ((8, GoalPose((1.0, 0.0, 0.0))), (4, COST)):
        plain = Planner(SPEC, horizon).plan(ToySession(), cost, seed=1)
        screened = Planner(SPEC, horizon, imagination=settings).plan(ToySession(), cost, seed=1)
        np.testing.assert_array_equal(screened.costs, plain.costs)


def test_under_a_deadline_every_chunk_is_screened_by_itself():
    settings = ImaginationSettings(screening_fraction=0.25, screening_horizon=4)
    planner, session = Planner(SPEC, imagination=settings), ToySession()
    result = planner.plan(session, COST, deadline_s=60.0, num_iterations=1)
    calls = [(call["num_candidates"], call["horizon"]) for call in session.calls]
    assert calls == [(4, 4), (1, 8), (60, 4), (15, 8)]
    assert np.isclose(result.costs, in_full(result.candidates)).sum() == 16


def test_a_deadline_in_the_middle_leaves_a_plan():
    settings = ImaginationSettings(screening_fraction=0.25, screening_horizon=4)
    planner, slow = Planner(SPEC, imagination=settings), ToySession(seconds_per_candidate=0.004)
    result = planner.plan(slow, COST, deadline_s=0.15, num_iterations=1, seed=1)
    assert result.timed_out
    assert 0 < np.isfinite(result.costs).sum() < len(result.ranking) < 64
    assert result.cost == result.costs.min()
    np.testing.assert_allclose(result.cost, in_full(result.action_sequence[None])[0])


def test_screening_that_saves_nothing_is_refused():
    with pytest.raises(V2WError, match="screening_fraction: below 1 only with"):
        ImaginationSettings(screening_fraction=0.5)
    for field in ("screening_horizon", "screening_steps"):
        with pytest.raises(V2WError, match=field):
            ImaginationSettings(screening_fraction=0.5, **{field: 0})
