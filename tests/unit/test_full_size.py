"""Work of the full-size model, counted on the meta device: no weights, no memory."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip("transformers")
pytest.importorskip("psutil")

from full_size import count_floors, count_flops


@pytest.mark.slow
def test_flops_of_a_window_and_of_a_cached_frame():
    """Within 2 % of the figures known of the released U-Net."""
    found = count_flops(argparse.Namespace())
    assert found["window_of_16_tflop"] == pytest.approx(12.60, rel=0.02)
    assert found["cached_frame_tflop"] == pytest.approx(0.787, rel=0.02)
    assert found["unet_parameters_m"] == pytest.approx(1440.91, abs=0.01)


@pytest.mark.slow
def test_floors_read_what_is_common_once():
    found = count_floors(argparse.Namespace())
    guided, unguided, plan, shared = [work["gbyte"] for work in found.values()][1:]
    assert guided / 50 == pytest.approx(unguided / 4)  # both branches read the same cache
    assert found["+ K/V cache"]["tflop"] / 50 == pytest.approx(2 * 0.787, rel=0.02)
    in_common = 4 * sum(15 - own for own in range(8))  # frames of 63 candidates, in 8 x 4 steps
    assert plan - shared == pytest.approx(63 * in_common * 0.0682, rel=0.01)
