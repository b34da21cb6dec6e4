"""Recordings that remember how far ours was from theirs."""

from __future__ import annotations

import pytest

from recordings import Recordings

#: (what was compared, its largest error, the limit), in the order of the tests.
ERRORS: list[tuple[str, float, float]] = []


class Compared(Recordings):
    """A folder of recordings to be held to; a test that reads a file it lacks is skipped."""

    def json(self, name):
        return super().json(self.present(f"{name}.json"))

    def tensors(self, name):
        return super().tensors(self.present(f"{name}.safetensors"))

    def arrays(self, name):
        return super().arrays(self.present(f"{name}.npz"))

    def causal_names(self):
        names = super().causal_names()
        return names or [self.present("unet_small_causal_*.json")]

    def present(self, file):
        """The file's name without its suffix."""
        path = self.folder / file
        if not path.is_file():
            pytest.skip(f"no {file} among the recordings in {self.folder}")
        return path.stem

    def check(self, what, ours, theirs, limit):
        assert ours.shape == theirs.shape, what
        error = float((ours - theirs).abs().max())
        ERRORS.append((what, error, limit))
        assert error <= limit, f"{what}: {error}"
