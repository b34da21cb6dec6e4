"""The lines of Python that the README opens with, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow
@pytest.mark.trained
def test_the_first_example_loads_imagines_and_plans(capsys):
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    lines = [line for line in example[1].splitlines() if line.strip()]
    assert len(lines) == 10
    names: dict[str, object] = {}
    exec(example[1], names)
    assert names["video"].shape == (2, 8, 64, 64, 3)
    assert "[" in capsys.readouterr().out  # the first actions of a plan, or none
