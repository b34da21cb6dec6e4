"""From rollouts to the page: fractions, ratios, rows that do not hold, tables in their places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import performance_page
import rollout
from cases import Case
from contenders import REFERENCE, Measured
from floors import Rates, Work
from v2w_core.errors import DataError

RATES = {torch.float32: Rates(flops_per_s=10e9, bytes_per_s=1e9)}
CASE = Case("mid", 1, 1, 16, num_steps=4, guidance_scale=2.5, rounds=2)


def measured(seconds, passes):
    return Measured(seconds, [seconds / passes] * passes, np.full((1, 16, 1, 2, 2), seconds))


def results(reference_s=35.0, eager_s=7.0):
    rollouts = {
        REFERENCE: [measured(reference_s, 128)],
        rollout.EAGER: [measured(eager_s, 64), measured(eager_s, 64)],
        "onnx:int8": [measured(3.5, 64)],
    }
    work = {REFERENCE: [Work(1e9, 1e6)] * 128, rollout.EAGER: [Work(0.5e9, 1e6)] * 64}
    case = rollout.summary(CASE, rollouts, dict.fromkeys(rollouts, 10.0), work, 50_000_000, RATES)
    return {
        "command": "python rollout.py", "date": "2026-01-01", "machine": "a machine",
        "num_threads": 2, "product_gflops": {"float32": 10.0}, "copy_gb_per_s": 1.0,
        "passed_over": {"mid, torch": "needs a GPU"}, "cases": [case],
        "rows": rollout.rows([case]),
    }  # fmt: skip


def test_a_contender_is_held_to_its_own_floor():
    contenders = results()["cases"][0]["contenders"]
    assert contenders[REFERENCE]["floor_s"] == pytest.approx(12.8)
    assert contenders[REFERENCE]["fraction_of_floor"] == pytest.approx(12.8 / 35)
    assert contenders[rollout.EAGER]["fraction_of_floor"] == pytest.approx(3.2 / 7)
    assert "fraction_of_floor" not in contenders["onnx:int8"]  # no rate of 8-bit products
    assert contenders["onnx:int8"]["ratio_to_eager"] == pytest.approx(2.0)
    assert contenders["onnx:int8"]["largest_difference_from_eager"] == pytest.approx(3.5)


@pytest.mark.parametrize(("reference_s", "holds"), [(42.1, True), (35.0, False)])
def test_rows_say_whether_they_hold(reference_s, holds):
    (row,) = results(reference_s)["rows"]
    assert row["times"] == pytest.approx(reference_s / 7.0)
    assert row["holds"] is holds
    assert ("**does not hold**" in performance_page.asked_for(results(reference_s))) is not holds


def test_tables_take_the_place_of_earlier_ones():
    page = "before\n<!-- frames -->\nold\n<!-- end frames -->\nafter\n"
    table = performance_page.frames(results())
    assert len(table.splitlines()) == 2 + 3
    once = performance_page.filled(page, "frames", table)
    assert "old" not in once
    assert once.startswith("before\n") and once.endswith("\nafter\n")
    assert performance_page.filled(once, "frames", table) == once
    with pytest.raises(DataError, match="machine"):
        performance_page.filled(page, "machine", "text")


def test_the_page_has_every_block():
    page = performance_page.PAGE.read_text(encoding="utf-8")
    for name in ("machine", "rows", "frames", "full size", "plan quality"):
        performance_page.filled(page, name, "text")


@pytest.mark.slow
def test_pictures_are_drawn():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for draw in (performance_page.draw_frames, performance_page.draw_roofline):
        assert performance_page.picture(draw, results()).startswith(b"\x89PNG")
