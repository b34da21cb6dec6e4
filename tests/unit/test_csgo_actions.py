"""CS:GO's 51 numbers: encode, decode, and vectors that are none."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_core.data.csgo_actions import KEYS, CsgoAction, check_multi_hot, decode, encode
from v2w_core.data.domains import CSGO_ACTION
from v2w_core.errors import DataError


def test_layout_is_keys_then_mouse_x_then_mouse_y() -> None:
    (vector,) = encode([CsgoAction(frozenset({"w", "fire"}))])
    assert vector.shape == (51,)
    on = [CSGO_ACTION.names[i] for i in np.flatnonzero(vector)]
    assert on == ["key_w", "key_fire", "mouse_x_11", "mouse_y_7"]
    assert list(np.flatnonzero(vector)) == [0, 11, 13 + 11, 13 + 23 + 7]
    assert KEYS[:11] == ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r")


def test_decode_inverts_encode() -> None:
    rng = np.random.default_rng(0)
    actions = [
        CsgoAction(
            frozenset(np.array(KEYS)[rng.random(13) < 0.3].tolist()),
            int(rng.integers(23)),
            int(rng.integers(15)),
        )
        for _ in range(50)
    ]
    assert decode(encode(actions)) == actions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(0, 2): 0.5}, r"\[0, 2\].*0 or 1"),
        ({(1, 0): 2.0}, r"\[1, 0\].*0 or 1"),
        ({(1, 3): np.nan}, r"\[1, 3\].*0 or 1"),
        ({(1, 24): 0.0}, r"\[1\].*one of the 23 mouse_x bins.*got 0"),
        ({(0, 50): 1.0}, r"\[0\].*one of the 15 mouse_y bins.*got 2"),
    ],
)
def test_vectors_that_are_none(change: dict[tuple[int, int], float], message: str) -> None:
    vectors = encode([CsgoAction()] * 2)
    for index, value in change.items():
        vectors[index] = value
    with pytest.raises(DataError, match=message):
        decode(vectors)


def test_wrong_width_and_bad_actions() -> None:
    with pytest.raises(DataError, match=r"\[N, 51\].*\[2, 50\]"):
        check_multi_hot(np.zeros((2, 50)))
    with pytest.raises(DataError, match=r"held.*jump"):
        CsgoAction(frozenset({"jump"}))
    with pytest.raises(DataError, match=r"mouse_y.*0 to 14.*15"):
        CsgoAction(mouse_y=15)
