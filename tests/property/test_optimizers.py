"""Properties of every optimiser: limits always hold, seeds decide, the best never gets worse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planners.bounds import Bounds
from planners.optimizers.base import Optimizer, OptimizerState
from planners.optimizers.cem import CEM
from planners.optimizers.cma_es import CMAES
from planners.optimizers.mppi import MPPI


@dataclass(frozen=True)
class RandomSearch(Optimizer[OptimizerState]):
    """As little as an optimiser has to write: its samples may even leave the bounds."""

    def _sample(self, state, rng, final):
        return state.mean + rng.normal(size=(state.num_candidates, *state.mean.shape))

    def _update(self, state, scored):
        return replace(state, mean=scored.candidates[np.argmin(scored.costs)])


OPTIMIZERS = [
    RandomSearch(),
    CEM(),
    CEM(noise_exponent=0.0, initial_std=5.0, elite_fraction=0.5),
    CEM(population_decay=0.4),
    MPPI(),
    CMAES(),
]
finite = st.floats(-10, 10, width=32)


@st.composite
def limits(draw):
    dim = draw(st.integers(1, 3))
    low = np.array(draw(st.lists(finite, min_size=dim, max_size=dim)))
    width = np.array(draw(st.lists(st.floats(0.01, 10), min_size=dim, max_size=dim)))
    rate = draw(st.none() | st.floats(0.05, 2).map(lambda value: value * width))
    before = None if rate is None else low + draw(st.floats(0, 1)) * width
    return Bounds(low, low + width, rate, before)


def run(optimizer, bounds, horizon, num_candidates, seed, num_iterations, costs_of):
    state = optimizer.init(bounds, horizon, num_candidates=num_candidates, seed=seed)
    asked, best = [], []
    for iteration in range(num_iterations):
        candidates = optimizer.ask(state, final=iteration == num_iterations - 1)
        asked.append(candidates)
        state = optimizer.tell(state, candidates, costs_of(candidates, iteration))
        best.append(state.best_cost)
    return state, asked, best


def ragged(candidates, iteration):
    """A rough landscape with holes, the same for the same candidate."""
    total = candidates.astype(np.float64).sum(axis=(1, 2))
    costs = np.sin(7 * total) + np.abs(total)
    costs[np.mod(np.floor(10 * total), 7) == 0] = np.nan
    return costs


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda item: type(item).__name__)
@settings(max_examples=15, deadline=None)
@given(
    bounds=limits(), horizon=st.integers(1, 6), num_candidates=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_limits_hold_seeds_decide_and_the_best_never_gets_worse(
    optimizer, bounds, horizon, num_candidates, seed
):
    assume(horizon * bounds.dim > 1 or not isinstance(optimizer, CMAES))
    state, asked, best = run(optimizer, bounds, horizon, num_candidates, seed, 3, ragged)
    assert len(asked[0]) == num_candidates
    for candidates in asked:
        assert candidates.shape[1:] == (horizon, bounds.dim)
        assert 1 <= len(candidates) <= num_candidates
        assert candidates.dtype == np.float32
        assert bounds.contains(candidates, slack=1e-4)
    assert bounds.contains(state.best_sequence, slack=1e-4)
    assert best == sorted(best, reverse=True)
    again, asked_again, _ = run(optimizer, bounds, horizon, num_candidates, seed, 3, ragged)
    for first, second in zip(asked, asked_again, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(state.best_sequence, again.best_sequence)
