"""``v2w convert`` as a test calls it, and the real recordings' folder."""

from __future__ import annotations

import os
import re
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
    """Runs v2w convert, which must exit with 2 and leave nothing; returns the message.

    It names the field, the rule and the value, in at most ten lines.
    """
    capsys.readouterr()
    assert main(["convert", *map(str, arguments)]) == 2
    out = Path(str(arguments[1]))
    assert not out.exists() or not any(out.iterdir())
    message = capsys.readouterr().err
    assert len(message.splitlines()) <= 10
    assert re.search(r"^v2w convert: error: .+: .+ \(got .+\)$", message, re.MULTILINE | re.DOTALL)
    return message
