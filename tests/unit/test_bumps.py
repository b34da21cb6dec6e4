"""Commands that a wall blocked, and plans that keep away from there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planner_toys import SPEC

from planners.costs.base import CostContext
from planners.costs.bumps import Bumps, blocked, in_body_frame
from v2w_core.errors import V2WError


def straight(dx, dy=0.0, dyaw=0.0, steps=4):
    return np.tile(np.array([dx, dy, dyaw], np.float32), (steps, 1))


def test_a_command_is_blocked_when_most_of_it_did_not_happen():
    command = straight(0.2, steps=2)
    assert blocked((0, 0, 0), command, (0.35, 0.0, 0.0)) is None
    bump = blocked((1.0, 2.0, math.pi / 2), command, (1.0, 2.1, 1.4))
    np.testing.assert_allclose(bump, [1.0, 2.1, math.pi / 2], atol=1e-6)
    assert blocked((0, 0, 0), straight(0.0, 0.0, 0.4), (0, 0, 0)) is None  # a turn asks for no way


def test_only_sequences_that_lead_beyond_the_wall_cost():
    wall_ahead = Bumps(np.array([[0.2, 0.0, 0.0]]))
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
    assert Bumps(np.zeros((0, 3)))(CostContext(candidates, SPEC)).tolist() == [0.0] * 5
    with pytest.raises(V2WError, match="bumps"):
        Bumps(np.zeros(3))


def test_bumps_stay_where_they_are_when_the_robot_turns():
    bump = np.array([1.0, 0.0, 0.0])
    seen = in_body_frame([bump], (0.5, 0.0, math.pi / 2))
    np.testing.assert_allclose(seen, [[0.0, -0.5, -math.pi / 2]], atol=1e-9)
