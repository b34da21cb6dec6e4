"""Frames in and out: colours, sizes, and pictures that are none."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from v2w_core.errors import DataError
from v2w_core.images import decode_image, encode_image, resize_frames
from v2w_core.spec import ObservationSpec

COLOURS = np.zeros((24, 40, 3), dtype=np.uint8)
COLOURS[:, :20] = (220, 30, 10)
COLOURS[:, 20:] = (10, 60, 200)


def test_png_is_exact_and_jpeg_is_close() -> None:
    assert (decode_image(encode_image(COLOURS, "png")) == COLOURS).all()
    jpeg = decode_image(encode_image(COLOURS, "jpeg", 95)).astype(int)
    assert np.abs(jpeg[8, 5] - COLOURS[8, 5]).max() < 6
    assert np.abs(jpeg[8, 35] - COLOURS[8, 35]).max() < 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        pickle.dumps({"a": 1}),
        encode_image(COLOURS, "png")[:40],
        encode_image(COLOURS, "jpeg")[:-30],
    ],
)
def test_what_is_no_picture_is_named(data: bytes) -> None:
    with pytest.raises(DataError, match="goal_image"):
        decode_image(data, field="goal_image")


@pytest.mark.parametrize(
    ("frame", "image_format", "quality"),
    [
        (COLOURS.astype(np.float32), "jpeg", 95),
        (COLOURS[..., 0], "jpeg", 95),
        (COLOURS, "gif", 95),
        (COLOURS, "jpeg", 0),
        (COLOURS, "jpeg", 101),
    ],
)
def test_encode_refuses(frame: np.ndarray, image_format: str, quality: int) -> None:
    with pytest.raises(DataError):
        encode_image(frame, image_format, quality)  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(12, 20), (16, 16), (48, 80), (8, 24), (36, 24)])
def test_size_and_flat_colours(resize: str, size: tuple[int, int]) -> None:
    spec = ObservationSpec(*size, resize)  # type: ignore[arg-type]
    frames = np.stack([COLOURS] * 2)
    resized = resize_frames(frames, spec)
    assert resized.shape == (2, *size, 3)
    middle = resized[0, size[0] // 2]
    assert tuple(middle[size[1] // 4 + 1]) == (220, 30, 10)
    assert tuple(middle[-size[1] // 4 - 1]) == (10, 60, 200)
    bars = (resized[0] == 0).all(axis=-1)
    same_aspect = size[0] * 40 == size[1] * 24
    assert bars.any() == (resize == "pad" and not same_aspect)


def test_same_size_is_untouched_and_shrinking_averages() -> None:
    frames = COLOURS[None]
    assert resize_frames(frames, ObservationSpec(24, 40)) is frames
    stripes = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    stripes[:, :, ::2] = 200
    assert (resize_frames(stripes, ObservationSpec(16, 16)) == 100).all()


def test_wrong_kind_of_frames() -> None:
    with pytest.raises(DataError, match="uint8"):
        resize_frames(np.zeros((1, 8, 8, 3)), ObservationSpec(8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (COLOURS[..., 0], "grey, uint8"),
        (np.dstack([COLOURS, COLOURS[..., :1]]), "4 channels, uint8"),
        (COLOURS.astype(np.uint16) * 257, "3 channels, uint16"),
    ],
    ids=["grey", "alpha", "16 bits"],
)
def test_pictures_that_are_not_rgb_are_refused_where_they_must_be(picture, found):
    data = cv2.imencode(".png", picture)[1].tobytes()
    assert decode_image(data).shape == COLOURS.shape  # a camera or a goal may be so
    with pytest.raises(DataError, match=rf"trajectory/3.jpg: an RGB picture.*{found}"):
        decode_image(data, field="trajectory/3.jpg", rgb_only=True)
    colour = encode_image(COLOURS, "png")
    assert (decode_image(colour, rgb_only=True) == COLOURS).all()
