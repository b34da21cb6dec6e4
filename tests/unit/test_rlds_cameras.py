"""RLDS steps whose pictures are not RGB: what they are is named."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_core.data.sources.rlds import open_episodes
from v2w_core.errors import DataError

PICTURES = {
    "grey": (np.zeros((32, 40), np.uint8), r"uint8 \[32, 40\]"),
    "one channel": (np.zeros((32, 40, 1), np.uint8), r"uint8 \[32, 40, 1\]"),
    "alpha": (np.zeros((32, 40, 4), np.uint8), r"uint8 \[32, 40, 4\]"),
    "float": (np.zeros((32, 40, 3), np.float32), r"float32 \[32, 40, 3\]"),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("image_key", [None, "front"])
def test_a_first_picture_that_is_not_rgb_is_named(kind, image_key):
    picture, found = PICTURES[kind]
    step = {"observation": {"front": picture, "state": np.zeros(7)}, "action": np.zeros(7)}
    with pytest.raises(DataError, match=rf"uint8 RGB.*front: {found}"):
        open_episodes([[step]], 1, name="n", split="s", rate_hz=5.0, image_key=image_key)


def test_a_later_one_is_named_with_its_step():
    right, wrong = np.full((32, 40, 3), 9, np.uint8), np.zeros((32, 40, 4), np.uint8)
    steps = [{"observation": {"front": p}, "action": np.zeros(7)} for p in (right, wrong)]
    found = open_episodes([steps], 1, name="n", split="s", rate_hz=5.0)
    with pytest.raises(DataError, match=r"episode 0, step 1: front.*uint8 \[32, 40, 4\]"):
        list(found.recordings)
