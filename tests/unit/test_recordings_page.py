"""docs/recordings.md says what to do about every warning, and names every option that mends."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from v2w_core.commands.bag_arguments import add_repairs
from v2w_core.data.bags.compression import PACKERS
from v2w_core.data.ros_video import codec_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recordings.md").read_text()


def test_every_warning_is_in_the_table() -> None:
    sources = [ROOT / "v2w_core" / "data", ROOT / "v2w_core" / "commands"]
    text = "".join(path.read_text() for root in sources for path in root.rglob("*.py"))
    codes = set(re.findall(r"Notice\(\s*\"([a-z_]+)\"", text))
    codes |= {"jump", "damaged_chunks"}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert len(codes) > 35
    assert codes <= told


def test_every_option_that_mends_is_named() -> None:
    parser = argparse.ArgumentParser()
    add_repairs(parser.add_argument)
    options = {option for action in parser._actions for option in action.option_strings}
    assert all(option in PAGE for option in options - {"-h", "--help"})


def test_the_forms_that_it_names_are_read() -> None:
    assert all(f"`{suffix}`" in PAGE for suffix in PACKERS if suffix != ".zstd")
    for name in ("H.264", "H.265", "AV1", "VP9"):
        assert name in PAGE and codec_of(name)


def test_its_pictures_are_there() -> None:
    for name in re.findall(r"\(images/([a-z_]+\.png)\)", PAGE):
        assert (ROOT / "docs" / "images" / name).stat().st_size > 1000
