"""CEM, MPPI and CMA-ES on known problems; the state is explicit, the samples keep the limits."""

from __future__ import annotations

import numpy as np
import pytest

from planners.bounds import Bounds
from planners.optimizers.base import Optimizer, shift
from planners.optimizers.cem import CEM
from planners.optimizers.cma_es import CMAES
from planners.optimizers.mppi import MPPI
from planners.optimizers.noise import coloured_noise
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-0.1, -0.1, -0.4), (0.5, 0.1, 0.4), 4)
BOUNDS = Bounds.from_spec(SPEC)
HORIZON = 6
OPTIMIZERS = {"cem": CEM(), "mppi": MPPI(), "cma_es": CMAES()}


def quadratic(candidates):
    """The lowest point, (0.7, 0, 0.2), lies outside the bounds: 0.04 * HORIZON is the least."""
    return np.square(candidates - np.array([0.7, 0.0, 0.2])).sum(axis=(1, 2))


def path_following(candidates):
    """Drive along a circle of radius 2 m, 0.35 m a step."""
    turn = 0.35 / 2.0
    wanted = integrate_actions(np.tile([0.35, 0.0, turn], (HORIZON, 1)))
    return np.linalg.norm((integrate_actions(candidates) - wanted)[..., :2], axis=-1).mean(axis=1)


def multimodal(candidates):
    """Left and right both lead to the goal, but right costs more; ripples on top."""
    side = candidates[..., 2].sum(axis=1)
    left, right = np.abs(side - 1.6), np.abs(side + 1.6) + 0.5
    return np.minimum(left, right) + 0.05 * (1 - np.cos(12 * side))


PROBLEMS = {
    "quadratic": (quadratic, 0.24 + 0.2),
    "path": (path_following, 0.15),
    "multimodal": (multimodal, 0.3),
}


def solve(optimizer: Optimizer, problem, num_iterations=12, num_candidates=48, **start):
    state = optimizer.init(BOUNDS, HORIZON, num_candidates=num_candidates, seed=3, **start)
    for iteration in range(num_iterations):
        candidates = optimizer.ask(state, final=iteration == num_iterations - 1)
        state = optimizer.tell(state, candidates, problem(candidates))
    return state


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_optimizer_on_every_known_problem(name, problem):
    function, good = PROBLEMS[problem]
    state = solve(OPTIMIZERS[name], function)
    assert state.best_cost <= good
    assert state.best_cost == pytest.approx(function(state.best_sequence[None])[0])
    assert BOUNDS.contains(state.best_sequence)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nan_and_infinite_costs_are_the_worst(name):
    def holes(candidates):
        costs = quadratic(candidates)
        costs[::3], costs[1::3] = np.nan, -np.inf
        return costs

    state = solve(OPTIMIZERS[name], holes)
    assert np.isfinite(state.best_cost)
    assert np.isfinite(state.mean).all()
    assert state.best_cost < 1.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_finite_leaves_the_starting_point(name):
    start = np.full((HORIZON, 3), 0.05, dtype=np.float32)
    state = solve(
        OPTIMIZERS[name], lambda c: np.full(len(c), np.nan), num_iterations=2, warm_start=start
    )
    assert state.best_cost == np.inf
    np.testing.assert_array_equal(state.best_sequence, start)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ask_is_a_pure_function_of_the_state(name):
    optimizer = OPTIMIZERS[name]
    state = optimizer.init(BOUNDS, HORIZON, num_candidates=16, seed=5)
    first, again = optimizer.ask(state), optimizer.ask(state)
    np.testing.assert_array_equal(first, again)
    after = optimizer.tell(state, first, quadratic(first))
    np.testing.assert_array_equal(optimizer.ask(state), first)
    assert (after.iteration, state.iteration) == (1, 0)


def test_warm_starts_are_the_first_candidates():
    one = np.full((HORIZON, 3), 0.07, dtype=np.float32)
    state = CEM().init(BOUNDS, HORIZON, num_candidates=16, warm_start=np.stack([one, -one]))
    candidates = CEM().ask(state)
    np.testing.assert_array_equal(candidates[0], one)
    np.testing.assert_array_equal(candidates[1], BOUNDS.apply(-one))
    np.testing.assert_array_equal(candidates[2], 0 * one)  # standing still is always considered
    assert solve(CEM(), quadratic, warm_start=one).best_cost <= quadratic(one[None])[0]


def test_the_mean_is_a_candidate_of_the_last_iteration():
    state = solve(CEM(), quadratic, num_iterations=2)
    np.testing.assert_array_equal(CEM().ask(state, final=True)[0], BOUNDS.apply(state.mean))


def test_elites_are_kept_with_their_costs():
    state = solve(CEM(), quadratic, num_iterations=2)
    worse = CEM().ask(state)
    after = CEM().tell(state, worse, np.full(len(worse), 1e6))
    np.testing.assert_array_equal(after.elites, state.elites)
    np.testing.assert_array_equal(after.elite_costs, state.elite_costs)


def ranked(name, num_scored):
    """A state after 16 candidates, of which only the cheapest ``num_scored`` have a cost."""
    optimizer = OPTIMIZERS[name]
    state = optimizer.init(BOUNDS, HORIZON, num_candidates=16, seed=5)
    candidates = optimizer.ask(state)
    costs = quadratic(candidates)
    order = np.argsort(costs)
    costs[order[num_scored:]] = np.inf
    return optimizer, state, candidates, costs, order


def test_weights_need_costs():
    optimizer, state, candidates, costs, order = ranked("mppi", 5)
    after = optimizer.tell(state, candidates, costs, order)
    alone = optimizer.tell(state, candidates[order[:5]], costs[order[:5]])
    np.testing.assert_allclose(after.mean, alone.mean, atol=1e-6)


def test_an_order_is_enough_for_those_that_rank():
    optimizer, state, candidates, costs, order = ranked("cma_es", 5)
    after = optimizer.tell(state, candidates, costs, order)
    known = optimizer.tell(state, candidates, quadratic(candidates))
    np.testing.assert_allclose(after.mean, known.mean, atol=1e-6)
    blind = optimizer.tell(state, candidates, costs)
    assert np.abs(blind.mean - known.mean).max() > 1e-3


def test_elites_without_a_cost_count_once_and_behind_all_others():
    optimizer, state, candidates, costs, order = ranked("cem", 2)
    after = optimizer.tell(state, candidates, costs, order)  # three elites
    known = optimizer.tell(state, candidates, quadratic(candidates))
    np.testing.assert_allclose(after.mean, known.mean, atol=1e-6)
    np.testing.assert_array_equal(after.elites, candidates[order[:2]])
    assert np.isfinite(after.elite_costs).all()


@pytest.mark.parametrize("ranking", [[0, 0], [16], [-1], [[0, 1]], [0.5]])
def test_rankings_that_are_none_are_refused(ranking):
    optimizer, state, candidates, costs, _ = ranked("cem", 2)
    with pytest.raises(V2WError, match="ranking"):
        optimizer.tell(state, candidates, costs, ranking)


def test_a_population_shrinks_down_to_the_elites():
    shrinking, whole = CEM(population_decay=0.5), CEM()
    state = shrinking.init(BOUNDS, HORIZON, num_candidates=64, seed=3)
    np.testing.assert_array_equal(shrinking.ask(state), whole.ask(state))
    sizes = []
    for _ in range(5):
        candidates = shrinking.ask(state, final=True)
        sizes.append(len(candidates))
        state = shrinking.tell(state, candidates, quadratic(candidates))
    assert sizes == [64, 32, 16, 13, 13]
    assert len(state.elites) == 13
    np.testing.assert_array_equal(shrinking.ask(state, final=True)[0], BOUNDS.apply(state.mean))
    with pytest.raises(V2WError, match="population_decay"):
        CEM(population_decay=0.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_coloured_noise_has_unit_variance_and_its_colour(exponent):
    noise = coloured_noise(np.random.default_rng(0), 20000, 8, 1, exponent)[..., 0]
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.03)
    neighbours = np.corrcoef(noise[:, 3], noise[:, 4])[0, 1]
    assert {0.0: neighbours < 0.05, 1.0: 0.3 < neighbours < 0.75}.get(exponent, neighbours > 0.7)
    assert np.corrcoef(noise[:, 0], noise[:, 7])[0, 1] < neighbours + 0.05


def test_rate_limits_hold_from_the_action_before():
    bounds = Bounds.from_spec(SPEC, max_change=(0.1, 0.1, 0.1), previous_action=(0.5, 0.0, 0.4))
    state = CEM().init(bounds, HORIZON, num_candidates=32, seed=1)
    candidates = CEM().ask(state)
    assert bounds.contains(candidates)
    assert (candidates[:, 0, 0] >= 0.4 - 1e-6).all()
    assert not bounds.contains(np.zeros((HORIZON, 3)))


def test_shift_drops_what_was_executed():
    plan = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(shift(plan, 1), [[2, 3], [4, 5], [4, 5]])
    np.testing.assert_array_equal(shift(plan, 9, fill=[7, 7]), np.full((3, 2), 7))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"warm_start": np.zeros((HORIZON + 1, 3))}, "warm_start"),
        ({"warm_start": np.full((HORIZON, 3), np.nan)}, "warm_start"),
        ({"num_candidates": 0}, "num_candidates"),
    ],
)
def test_bad_starts_name_the_field(arguments, field):
    with pytest.raises(V2WError, match=field):
        CEM().init(BOUNDS, HORIZON, **{"num_candidates": 8, **arguments})


def test_costs_of_the_wrong_length_are_refused():
    state = CEM().init(BOUNDS, HORIZON, num_candidates=8)
    with pytest.raises(V2WError, match="costs"):
        CEM().tell(state, CEM().ask(state), np.zeros(7))
