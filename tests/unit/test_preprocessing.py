"""How a picture becomes what a released model saw: sizes, bars, and configurations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from v2w_core.config import WorldModelConfig
from v2w_core.data.domains import (
    CSGO_ACTION,
    CSGO_OBSERVATION,
    RECON_ACTION,
    RECON_OBSERVATION,
    RT1_ACTION,
    RT1_OBSERVATION,
    WAYPOINT_SPACING_M,
)
from v2w_core.errors import V2WError
from v2w_core.images import resize_frame
from v2w_core.spec import ObservationSpec
from v2w_core.transfer.released import released_config
from v2w_core.transfer.released_names import KINDS


def content_box(frame: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what is not black."""
    rows, columns = frame.any(axis=(1, 2)), frame.any(axis=(0, 2))
    return (
        int(rows.argmax()), int(len(rows) - rows[::-1].argmax()),
        int(columns.argmax()), int(len(columns) - columns[::-1].argmax()),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "source", "box"),
    [
        (RT1_OBSERVATION, (256, 320), (0, 320, 56, 456)),
        (CSGO_OBSERVATION, (150, 280), (22, 297, 0, 512)),
        (RECON_OBSERVATION, (480, 640), (0, 320, 96, 416)),
        (RECON_OBSERVATION, (240, 320), (0, 320, 96, 416)),
    ],
)
def test_bars(spec: ObservationSpec, source: tuple[int, int], box: tuple[int, ...]) -> None:
    prepared = resize_frame(np.full((*source, 3), 200, np.uint8), spec)
    assert prepared.shape == (320, 512, 3)
    assert content_box(prepared) == box
    top, bottom, left, right = box
    assert (prepared[top:bottom, left:right] == 200).all()
    assert resize_frame(prepared, spec) is prepared  # prepared frames stay as they are


def test_pixels_lie_where_bilinear_scaling_puts_them() -> None:
    ramp = np.tile(np.linspace(0, 240, 280).round().astype(np.uint8)[None, :, None], (150, 1, 3))
    row = resize_frame(ramp, CSGO_OBSERVATION)[160, :, 0].astype(float)
    centres = (np.arange(512) + 0.5) * 280 / 512 - 0.5
    wanted = np.interp(centres, np.arange(280), ramp[0, :, 0])
    assert np.abs(row - wanted).max() <= 1.0


@pytest.mark.parametrize("source", [(480, 960), (720, 640)])
def test_recon_keeps_the_centre_of_4_to_3(source: tuple[int, int]) -> None:
    height, width = source
    frame = np.zeros((height, width, 3), np.uint8)
    keep_h, keep_w = min(height, width * 3 // 4), min(width, height * 4 // 3)
    top, left = (height - keep_h) // 2, (width - keep_w) // 2
    frame[top : top + keep_h, left : left + keep_w] = 200
    prepared = resize_frame(frame, RECON_OBSERVATION)
    assert content_box(prepared) == (0, 320, 96, 416)
    assert (prepared[:, 96:416] == 200).all()


def test_recon_actions_reach_the_model_as_the_reference_says() -> None:
    rng = np.random.default_rng(0)
    moves = rng.uniform((-0.6, -1.0, -3.0), (1.2, 1.0, 3.0), (40, 3)).astype(np.float32)
    waypoints = moves[:, :2] / WAYPOINT_SPACING_M
    low, high = np.array([-2.5, -4.0]), np.array([5.0, 4.0])
    wanted = np.concatenate([2 * (waypoints - low) / (high - low) - 1, moves[:, 2:]], axis=1)
    np.testing.assert_allclose(RECON_ACTION.normalise(moves), wanted, atol=1e-6)
    standing = RECON_ACTION.normalise(np.zeros(3))
    np.testing.assert_allclose(standing, (-1 / 3, 0, 0), atol=1e-6)
    for spec in (RT1_ACTION, CSGO_ACTION):
        vectors = rng.uniform(spec.low, spec.high, (5, spec.dim)).astype(np.float32)
        np.testing.assert_array_equal(spec.normalise(vectors), vectors)


@pytest.mark.parametrize("kind", KINDS)
def test_configurations_survive_a_file_and_old_ones_load(kind) -> None:
    config = released_config(kind)
    plain = config.to_dict()
    assert WorldModelConfig.from_dict(plain) == config
    for name in ("inner_size", "crop_aspect"):
        del plain["observation"][name]
    old = WorldModelConfig.from_dict(plain).observation
    assert old == ObservationSpec(320, 512, "pad")


def test_observations_survive_a_file() -> None:
    for spec in (RT1_OBSERVATION, CSGO_OBSERVATION, RECON_OBSERVATION):
        assert ObservationSpec.from_dict(spec.to_dict()) == spec
    old = {"height": 64, "width": 64, "resize": "stretch"}
    assert ObservationSpec.from_dict(old) == ObservationSpec(64, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_size": (330, 512)}, "inner_size"),
        ({"inner_size": (320,)}, "inner_size"),
        ({"inner_size": (0, 512)}, "inner_size"),
        ({"inner_size": (100.0, 512)}, "inner_size"),
        ({"inner_size": (100, 100), "resize": "crop"}, 'only with resize "pad"'),
        ({"crop_aspect": 0.0}, "crop_aspect"),
        ({"crop_aspect": float("nan")}, "crop_aspect"),
    ],
)
def test_bad_specs(change: dict, message: str) -> None:
    with pytest.raises(V2WError, match=message):
        dataclasses.replace(ObservationSpec(320, 512, "pad"), **change)
