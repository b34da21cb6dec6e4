"""Work of the full-size model, counted on the meta device: no weights, no memory."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip("transformers")
pytest.importorskip("psutil")

from full_size import count_flops


def test_flops_of_a_window_and_of_a_cached_frame():
    """Within 2 % of the figures known of the released U-Net."""
    found = count_flops(argparse.Namespace())
    assert found["window_of_16_tflop"] == pytest.approx(12.60, rel=0.02)
    assert found["cached_frame_tflop"] == pytest.approx(0.787, rel=0.02)
    assert found["unet_parameters_m"] == pytest.approx(1440.91, abs=0.01)
