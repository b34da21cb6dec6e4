from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from v2w.messages.images import byte_array, rgb_from_compressed, rgb_from_image
from v2w_core.errors import DataError
from v2w_core.images import encode_image

RGB = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)


def image(
    pixels: np.ndarray, encoding: str, padding: int = 0, **changes: object
) -> SimpleNamespace:
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    fields = {
        "height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1],
        "encoding": encoding, "is_bigendian": 0, "data": byte_array(rows.tobytes()),
    } | changes  # fmt: skip
    return SimpleNamespace(**fields, __msgtype__="sensor_msgs/msg/Image")


ALPHA = np.full((6, 5, 1), 9, np.uint8)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (RGB, "rgb8"),
        (RGB[..., ::-1], "bgr8"),
        (np.concatenate([RGB, ALPHA], -1), "rgba8"),
        (np.concatenate([RGB[..., ::-1], ALPHA], -1), "bgra8"),
    ],
)
def test_colour_encodings_and_row_padding(pixels: np.ndarray, encoding: str, padding: int) -> None:
    assert (rgb_from_image(image(np.ascontiguousarray(pixels), encoding, padding)) == RGB).all()


def test_grey() -> None:
    grey = RGB[..., 0].copy()
    assert (rgb_from_image(image(grey, "mono8")) == grey[..., None]).all()


def test_other_encodings_go_through_a_library() -> None:
    pytest.importorskip("rosbags.image")
    deep = (RGB[..., :1].astype(np.uint16) * 257)[..., 0]
    converted = rgb_from_image(image(deep, "mono16"))
    assert converted.shape == RGB.shape
    assert np.abs(converted[..., 0].astype(int) - RGB[..., 0]).max() <= 1


@pytest.mark.parametrize(
    "message",
    [
        image(RGB, "rgb8", data=byte_array(b"12")),
        image(RGB, "rgb8", step=4, data=byte_array(bytes(90))),
        image(RGB, "no_such_encoding"),
        image(RGB, "rgb8", height=0),
    ],
)
def test_images_that_cannot_be_read(message: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="image"):
        rgb_from_image(message)


def test_compressed() -> None:
    message = SimpleNamespace(data=byte_array(encode_image(RGB, "png")))
    assert (rgb_from_compressed(message) == RGB).all()
    with pytest.raises(DataError):
        rgb_from_compressed(SimpleNamespace(data=byte_array(b"nothing")))
