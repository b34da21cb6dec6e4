"""Commands that a wall blocked, and plans that keep away from there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planner_toys import SPEC

from planners.costs.base import CostContext
from planners.costs.blocked_motion import WALL, BlockedMotion, BlockedMotionMemory, blocked
from planners.goals import PoseGoal
from planners.mpc import MPC
from planners.observation import Observation
from planners.planner import Planner
from v2w_core.errors import V2WError


def straight(dx, dy=0.0, dyaw=0.0, steps=4):
    return np.tile(np.array([dx, dy, dyaw], np.float32), (steps, 1))


def test_a_command_is_blocked_when_most_of_it_did_not_happen():
    command = straight(0.2, steps=2)
    assert blocked((0, 0, 0), command, (0.35, 0.0, 0.0)) is None
    place = blocked((1.0, 2.0, math.pi / 2), command, (1.0, 2.1, 1.4))
    np.testing.assert_allclose(place, [1.0, 2.1, math.pi / 2], atol=1e-6)
    assert blocked((0, 0, 0), straight(0.0, 0.0, 0.4), (0, 0, 0)) is None  # a turn asks for no way


def test_along_a_wall_the_way_stays_open():
    diagonal = straight(0.2, 0.2, steps=1)  # a wall to the left lets half of it happen
    memory = BlockedMotionMemory()
    memory.sent((0.0, 0.0, 0.0), diagonal)
    memory.executed((0.2, 0.0, 0.0))
    np.testing.assert_allclose(memory.places, [[0.2, 0.0, math.pi / 2]], atol=1e-6)
    cost = memory.added_to(lambda context: np.zeros(context.num_candidates), (0.2, 0.0, 0.0))
    on_and_left = CostContext(np.stack([straight(0.3), straight(0.0, 0.3)]), SPEC)
    np.testing.assert_allclose(cost(on_and_left), [0.0, WALL], atol=1e-4)


def test_only_sequences_that_lead_beyond_the_wall_cost():
    wall_ahead = BlockedMotion(np.array([[0.2, 0.0, 0.0]]))
    candidates = np.stack(
        [
            straight(0.2),
            straight(-0.2),
            straight(0.04),
            straight(0.0, 0.2),
            np.concatenate([straight(0.0, 0.25, steps=2), straight(0.4, steps=2)]),
        ]
    )
    costs = wall_ahead(CostContext(candidates, SPEC))
    assert costs.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert BlockedMotion(np.zeros((0, 3)))(CostContext(candidates, SPEC)).tolist() == [0.0] * 5
    with pytest.raises(V2WError, match="places"):
        BlockedMotion(np.zeros(3))


def test_a_wall_stays_where_it_is_when_the_robot_turns():
    memory = BlockedMotionMemory()
    memory.sent((0.0, 0.0, 0.0), straight(0.3, steps=1))
    memory.executed((0.05, 0.0, 0.0))
    assert len(memory.places) == 1
    cost = memory.added_to(lambda context: np.zeros(context.num_candidates), (0.05, 0.0, math.pi))
    away_and_back = CostContext(np.stack([straight(0.3), straight(-0.3)]), SPEC)
    assert cost(away_and_back).tolist() == [0.0, WALL]


def test_commands_that_were_not_executed_to_their_end_tell_nothing():
    memory = BlockedMotionMemory()
    memory.sent((0.0, 0.0, 0.0), straight(0.3))
    memory.forget_sent()
    memory.executed((0.0, 0.0, 0.0))
    assert not memory.places


@pytest.mark.parametrize("learn_blocked_motion", [False, True])
def test_the_plan_after_a_blocked_motion_keeps_away_from_the_wall(learn_blocked_motion):
    mpc = MPC(
        Planner(SPEC),
        PoseGoal((2.0, 0.0, 0.0)),
        num_iterations=4,
        learn_blocked_motion=learn_blocked_motion,
    )

    def decide(x):
        frames = np.zeros((4, 8, 8, 3), np.uint8)
        return mpc.decide(Observation(frames, np.zeros((3, 3)), (x, 0.0, 0.0)))

    first = decide(0.0)
    assert first.actions[0, 0] > 0.1
    path = decide(0.02).plan.poses  # it hardly moved; in the body frame
    leads_on = (path[:, 0] > 0.1) & (np.abs(path[:, 1]) < 0.3)
    assert leads_on.any() == (not learn_blocked_motion)
