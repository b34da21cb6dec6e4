"""Episodes of a conversion that was interrupted, for the next one that asks for the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2w_core.data.episode_writer import SUFFIX


@dataclass(frozen=True)
class Written:
    """An episode in a temporary place.

    Attributes:
        path: its file.
        start, length: which of the recording's frames it holds.
    """

    path: Path
    start: int
    length: int


@dataclass(frozen=True)
class Finished:
    """Episodes of finished recordings, in a folder that outlives an interruption.

    Attributes:
        folder: beside the episodes, hidden; made with the first recording that is kept.
        settings: everything but the recording that an episode depends on.
    """

    folder: Path
    settings: str

    def find(self, key: str) -> list[Written] | None:
        """The episodes of the recording with this key; None: it was not finished."""
        stem = self._stem(key)
        try:
            runs = json.loads((self.folder / f"{stem}.json").read_text())
        except (OSError, ValueError):
            return None
        found = [
            Written(self.folder / f"{stem}_{number}{SUFFIX}", int(start), int(length))
            for number, (start, length) in enumerate(runs)
        ]
        return found if all(item.path.is_file() for item in found) else None

    def keep(self, key: str, episodes: Sequence[Written]) -> list[Written]:
        """Moves the episodes of a recording here; those without a key stay where they are."""
        if not key:
            return list(episodes)
        self.folder.mkdir(exist_ok=True)
        stem, kept = self._stem(key), []
        for number, item in enumerate(episodes):
            target = self.folder / f"{stem}_{number}{SUFFIX}"
            os.replace(item.path, target)
            kept.append(Written(target, item.start, item.length))
        runs = [(item.start, item.length) for item in kept]
        (self.folder / f"{stem}.json").write_text(json.dumps(runs))
        return kept

    def _stem(self, key: str) -> str:
        return hashlib.sha256(f"{key}\n{self.settings}".encode()).hexdigest()[:32]
