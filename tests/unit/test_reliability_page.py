"""docs/reliability.md says what was measured, and has every parameter of the checks."""

from __future__ import annotations

import json
import re

import pytest

import reliability_page as page
from v2w.parameters import SAFETY
from v2w.safety import checks


def block(name: str) -> str:
    found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- end {name} -->", page.PAGE.read_text(), re.S)
    assert found is not None
    return found[1]


def test_every_check_is_named_with_its_parameters() -> None:
    assert block("checks") == page.checks(), "python benchmarks/reliability_page.py"
    named = {name for names in page.CHECKS.values() for name in names}
    assert {parameter.name for parameter in SAFETY} <= named
    assert set(checks.NAMES) == set(page.CHECKS) | {"single publisher"}


@pytest.mark.parametrize("name", ["faults", "soak"])
def test_the_tables_are_those_of_the_results(name: str) -> None:
    results = json.loads((page.RESULTS / f"{name}.json").read_text())
    assert block(name) == getattr(page, name)(results), "python benchmarks/reliability_page.py"


def test_faults_that_were_not_measured_are_not_left_out() -> None:
    found = {
        "must_be": "0.5 s", "trials": 5, "seconds": {"median": 0.1, "worst": 0.4},
        "not_measured": ["AssertionError: not within 60 s"],
    }  # fmt: skip
    results = {
        "trials": 5,
        "machine": {"cores": 2, "load_at_start": [1.0], "load_now": [2.0]},
        "faults": {"camera stops": found},
    }
    assert "0.10 s (0.40), 1 not measured" in page.faults(results)
