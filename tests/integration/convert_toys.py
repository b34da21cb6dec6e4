"""``v2w convert`` as a test calls it, and the real recordings' folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from v2w_core.cli import main
from v2w_core.data.episode import Episode, list_episodes, read_episode

SHARED = Path(os.environ.get("V2W_SHARED_DIR", Path(__file__).parents[2].parent / "shared"))


def converted(source: Path, out: Path, *options: str) -> list[Episode]:
    assert main(["convert", str(source), str(out), *options]) == 0
    assert not [item for item in out.iterdir() if item.name.startswith(".")]
    return [read_episode(path) for path in list_episodes(out)]


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs v2w convert, which must exit with 2 and leave nothing; returns the message."""
    capsys.readouterr()
    assert main(["convert", *map(str, arguments)]) == 2
    out = Path(str(arguments[1]))
    assert not out.exists() or not any(out.iterdir())
    return capsys.readouterr().err
