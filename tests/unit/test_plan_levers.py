"""What a cheaper plan is counted as."""

from __future__ import annotations

from plan_levers import HORIZON, LEVERS, Lever


def test_passes_are_those_of_the_rollouts():
    assert LEVERS["all"].passes() == 3 * 64 * (2 * HORIZON - 1)
    assert LEVERS["reuse"].passes() == 3 * 64 * HORIZON
    assert Lever((10,), ("reencode",), prefix=4, share=0.5).passes() == 10 * 7 + 5 * 8
    assert Lever((10,), ("reencode",), prefix=HORIZON, share=0.5).passes() == 10 * 15
