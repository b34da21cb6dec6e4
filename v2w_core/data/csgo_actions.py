"""Encoding of CS:GO's keyboard and mouse as the 51 numbers of its recordings.

Thirteen keys and mouse buttons that may be pressed together, then two one-hot groups: the bin of
the mouse's horizontal movement (23, bin 11 is no movement) and of its vertical one (15, bin 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2w_core.errors import DataError

#: Keys in the order of the vector; "fire" and "aim" are the left and the right mouse button.
KEYS = ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r", "fire", "aim")
MOUSE_X_BINS, MOUSE_Y_BINS = 23, 15
MOUSE_X_STILL, MOUSE_Y_STILL = 11, 7
DIM = len(KEYS) + MOUSE_X_BINS + MOUSE_Y_BINS

_GROUPS = {
    "mouse_x": (len(KEYS), MOUSE_X_BINS),
    "mouse_y": (len(KEYS) + MOUSE_X_BINS, MOUSE_Y_BINS),
}


@dataclass(frozen=True)
class CsgoAction:
    """Keys that are held down and the movement of the mouse during one frame (1/16 s).

    Attributes:
        held: names of the keys, from :data:`KEYS`.
        mouse_x, mouse_y: bins 0..22 and 0..14; the middle one is no movement.
    """

    held: frozenset[str] = frozenset()
    mouse_x: int = MOUSE_X_STILL
    mouse_y: int = MOUSE_Y_STILL

    def __post_init__(self) -> None:
        unknown = sorted(set(self.held) - set(KEYS))
        if unknown:
            raise DataError("held", f"names out of {', '.join(KEYS)}", unknown)
        for name, (_, bins) in _GROUPS.items():
            value = getattr(self, name)
            if not 0 <= value < bins:
                raise DataError(name, f"a bin from 0 to {bins - 1}", value)
        object.__setattr__(self, "held", frozenset(self.held))


def encode(actions: Iterable[CsgoAction]) -> NDArray[np.float32]:
    """Actions -> multi-hot float32 [N, 51]."""
    rows = list(actions)
    vectors = np.zeros((len(rows), DIM), dtype=np.float32)
    for vector, action in zip(vectors, rows, strict=True):
        vector[: len(KEYS)] = [key in action.held for key in KEYS]
        for name, (start, _) in _GROUPS.items():
            vector[start + getattr(action, name)] = 1.0
    return vectors


def decode(vectors: ArrayLike, *, field: str = "actions") -> list[CsgoAction]:
    """The inverse of :func:`encode`.

    Raises:
        DataError: see :func:`check_multi_hot`.
    """
    rows = check_multi_hot(vectors, field=field)
    bins = [rows[:, start : start + size].argmax(axis=1) for start, size in _GROUPS.values()]
    held = [
        frozenset(key for key, down in zip(KEYS, row[: len(KEYS)], strict=True) if down)
        for row in rows
    ]
    return [CsgoAction(*row) for row in zip(held, *(b.tolist() for b in bins), strict=True)]


def check_multi_hot(vectors: ArrayLike, *, field: str = "actions") -> NDArray[np.float32]:
    """The vectors as float32 [N, 51].

    Raises:
        DataError: another width, entries other than 0 and 1, or a mouse group without exactly one
            1. The message has the index of the first invalid entry.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != DIM:
        raise DataError(field, f"[N, {DIM}]: 13 keys, 23 and 15 mouse bins", list(rows.shape))
    odd = ~np.isin(rows, (0.0, 1.0))
    if odd.any():
        row, column = (int(i) for i in np.argwhere(odd)[0])
        raise DataError(f"{field}[{row}, {column}]", "0 or 1", float(rows[row, column]))
    for name, (start, size) in _GROUPS.items():
        counts = rows[:, start : start + size].sum(axis=1)
        if (counts != 1).any():
            row = int(np.flatnonzero(counts != 1)[0])
            raise DataError(f"{field}[{row}]", f"exactly one of the {size} {name} bins",
                            int(counts[row]))  # fmt: skip
    return rows
