"""Recordings that remember how far ours was from theirs."""

from __future__ import annotations

from recordings import Recordings

#: (what was compared, its largest error, the limit), in the order of the tests.
ERRORS: list[tuple[str, float, float]] = []


class Compared(Recordings):
    """A folder of recordings to be held to."""

    def check(self, what, ours, theirs, limit):
        assert ours.shape == theirs.shape, what
        error = float((ours - theirs).abs().max())
        ERRORS.append((what, error, limit))
        assert error <= limit, f"{what}: {error}"
