"""Where episodes of bags are written: names, places and disks that do not allow it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bagmaker import BagMaker
from convert_toys import converted, fails

from v2w_core.data.episode import list_episodes


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a\\b", "x" * 300, "a\nb"])
def test_names_that_would_leave_the_folder(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive").drive(1.0).close()
    before = sorted(tmp_path.rglob("*"))
    message = fails(capsys, bag, tmp_path / "out", "--name", name)
    assert "--name" in message and len(message.splitlines()) <= 10
    assert sorted(tmp_path.rglob("*")) == before


def test_places_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = BagMaker(tmp_path / "drive").drive(1.0).close()
    (tmp_path / "file").write_text("notes")
    # Not even the superuser makes a folder in /proc.
    nowhere = [Path("/proc/v2w")] if Path("/proc").is_dir() else []
    for dest in (tmp_path / "file", tmp_path / "file" / "below", *nowhere):
        message = fails_beside(capsys, bag, dest)
        assert "dest" in message or str(dest) in message
    assert (tmp_path / "file").read_text() == "notes"


def test_a_summary_that_cannot_be_written_is_refused_before_anything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive").drive(1.0).close()
    (tmp_path / "file").write_text("notes")
    for summary in (tmp_path / "file" / "s.json", tmp_path):
        assert "--json" in fails(capsys, bag, tmp_path / "out", "--json", summary)


def fails_beside(capsys: pytest.CaptureFixture[str], bag: Path, dest: Path) -> str:
    from v2w_core.cli import main

    capsys.readouterr()
    assert main(["convert", str(bag), str(dest)]) == 2
    return capsys.readouterr().err


def test_a_full_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2w_core.data import episode_writer

    def full(*_: object) -> bytes:
        raise OSError(28, os.strerror(28))

    bag = BagMaker(tmp_path / "drive").drive(1.0).close()
    monkeypatch.setattr(episode_writer, "encode_image", full)
    assert "no space left" in fails(capsys, bag, tmp_path / "out")
    assert list_episodes(tmp_path / "out") == []


def test_a_preview_on_a_place_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from v2w_core.cli import main

    converted(BagMaker(tmp_path / "drive").drive(1.0).close(), tmp_path / "out")
    (tmp_path / "file").write_text("notes")
    capsys.readouterr()
    arguments = ["data", "preview", str(tmp_path / "out"), "--out", str(tmp_path / "file" / "x")]
    assert main(arguments) == 2
    assert "error" in capsys.readouterr().err
