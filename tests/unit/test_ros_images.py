"""Images of bags and nodes: one decoder, and cv_bridge where there is one, give the same pixels."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from v2w.messages.images import byte_array, rgb_from_compressed, rgb_from_image
from v2w_core.data.ros_images import ENCODINGS, frame_from_message
from v2w_core.errors import DataError
from v2w_core.images import encode_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
ALPHA = np.full((6, 8, 1), 9, np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8, 4)).astype(np.uint16)
#: What the 16 bits of DEEP are in eight.
SHALLOW = np.round(DEEP / 257.0).astype(np.uint8)
BGR = np.ascontiguousarray(RGB[..., ::-1])
GREY = RGB[..., :1].copy()
#: For every encoding but those that depend on neighbours: its pixels, and what they are in RGB.
EXACT: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "rgb8": (RGB, RGB),
    "bgr8": (BGR, RGB),
    "8UC3": (BGR, RGB),
    "rgba8": (np.concatenate([RGB, ALPHA], -1), RGB),
    "bgra8": (np.concatenate([BGR, ALPHA], -1), RGB),
    "8UC4": (np.concatenate([BGR, ALPHA], -1), RGB),
    "mono8": (GREY, GREY.repeat(3, -1)),
    "8UC1": (GREY, GREY.repeat(3, -1)),
    "rgb16": (DEEP[..., :3], SHALLOW[..., :3]),
    "bgr16": (DEEP[..., :3], SHALLOW[..., 2::-1]),
    "rgba16": (DEEP, SHALLOW[..., :3]),
    "bgra16": (DEEP, SHALLOW[..., 2::-1]),
    "mono16": (DEEP[..., :1], SHALLOW[..., :1].repeat(3, -1)),
}


def image(pixels: np.ndarray, encoding: str, padding: int = 0, **changes: object) -> Any:
    """An image as rclpy gives it: data is an array.array."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    fields = {
        "height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1],
        "encoding": encoding, "is_bigendian": 0, "data": byte_array(rows.tobytes()),
    } | changes  # fmt: skip
    return SimpleNamespace(**fields)


def test_a_node_reads_colours_in_planes_as_a_bag_does() -> None:
    rows = np.full((6, 4), 128, np.uint8)  # 4x4: brightness, then grey colours
    message = image(rows, "nv12", height=4, width=4)
    frame = rgb_from_image(message)
    assert frame.shape == (4, 4, 3)
    assert (frame == frame_from_message(of_a_bag(message))).all()
    assert np.ptp(frame) == 0


def of_a_bag(message: Any) -> Any:
    """The same as rosbags gives it: data is a NumPy array."""
    fields = vars(message) | {"data": np.frombuffer(message.data, np.uint8)}
    return SimpleNamespace(**fields, __msgtype__="sensor_msgs/msg/Image")


def pixels_of(encoding: str) -> np.ndarray:
    """Some pixels of any encoding, as [H, W, channels]."""
    if encoding in EXACT:
        return EXACT[encoding][0]
    channels, depth, _ = ENCODINGS[encoding]
    return DEEP[..., :channels] if depth == 2 else (DEEP[..., :channels] >> 8).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", EXACT)
def test_encodings_and_row_padding(encoding: str, padding: int) -> None:
    pixels, expected = EXACT[encoding]
    np.testing.assert_array_equal(rgb_from_image(image(pixels, encoding, padding)), expected)


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nodes_and_bags_see_the_same(encoding: str, padding: int, big: int) -> None:
    pixels = pixels_of(encoding)
    if pixels.dtype == np.uint16 and big:
        pixels = pixels.byteswap()
    message = image(pixels, encoding, padding, is_bigendian=big)
    live, recorded = rgb_from_image(message), frame_from_message(of_a_bag(message))
    assert (live.dtype, live.shape) == (np.uint8, (6, 8, 3))
    assert live.flags.c_contiguous and live.flags.writeable
    np.testing.assert_array_equal(live, recorded)
    np.testing.assert_array_equal(live, rgb_from_image(image(pixels_of(encoding), encoding)))


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if not e.startswith("8UC")])
def test_cv_bridge_sees_the_same(encoding: str) -> None:
    """It reads no 8UC3 as colours, and wants a step."""
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge comes with a ROS distribution only")
    messages = pytest.importorskip("sensor_msgs.msg")
    fields = vars(image(pixels_of(encoding), encoding))
    message = messages.Image(**fields)
    if encoding in ("uyvy", "yuyv"):  # names that older distributions do not know
        message.encoding = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}[encoding]
    expected = bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    np.testing.assert_array_equal(rgb_from_image(message), expected)


def test_a_bayer_pattern_and_yuv_have_their_colours() -> None:
    red, green, blue = 200, 120, 40
    pattern = np.full((6, 8), green, np.uint8)
    pattern[0::2, 0::2], pattern[1::2, 1::2] = red, blue
    assert tuple(rgb_from_image(image(pattern, "bayer_rggb8"))[3, 4]) == (red, green, blue)
    deep = pattern.astype(np.uint16) * 257
    assert tuple(rgb_from_image(image(deep, "bayer_rggb16"))[3, 4]) == (red, green, blue)
    luma = np.full((6, 8), 130, np.uint8)
    chroma = np.tile(np.uint8([100, 160]), (6, 4))
    for encoding, parts in (("uyvy", (chroma, luma)), ("yuyv", (luma, chroma))):
        pixel = rgb_from_image(image(np.stack(parts, -1), encoding))[3, 4]
        assert pixel[0] > pixel[1] > pixel[2]


def test_sixteen_bits_are_scaled_as_cv_bridge_does() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (every.astype(np.uint32) + 128) // 257  # round(v * 255 / 65535)
    np.testing.assert_array_equal(rgb_from_image(image(every, "mono16"))[..., 0], expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_step_of_0_means_rows_without_padding(encoding: str) -> None:
    message = image(pixels_of(encoding), encoding)
    expected = rgb_from_image(message)
    message.step = 0
    np.testing.assert_array_equal(rgb_from_image(message), expected)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_the_usual_encodings_are_copied_once(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = image(EXACT[encoding][0], encoding, padding=4)
    sources: list[Any] = []
    convert = cv2.cvtColor
    monkeypatch.setattr(
        cv2, "cvtColor", lambda src, code: sources.append(src) or convert(src, code)
    )
    frame = rgb_from_image(message)
    data = np.frombuffer(message.data, np.uint8)
    assert all(np.shares_memory(source, data) for source in sources)
    assert not np.shares_memory(frame, data)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (image(RGB, "rgb8", data=byte_array(b"12")), r"image: data: at least 144 bytes.*2 bytes"),
        (image(RGB, "rgb8", step=4), r"image: step: at least 24 bytes.*or 0 \(got 4\)"),
        (image(DEEP, "rgba16", step=63), "image: step: at least 64 bytes"),
        (image(RGB, "no_such_encoding"), "image: encoding: one of 8UC1.*no_such_encoding"),
        (image(RGB, ""), "image: encoding: .*an empty encoding"),
        (image(DEEP[..., :1], "16UC1"), "image: encoding: .*depth image.*16UC1"),
        (image(RGB, "rgb8", height=0), "image: size: at least 1x1 pixels.*8x0"),
        (image(RGB, "rgb8", width=0), "image: size"),
        (image(RGB[:, :7, :2], "uyvy"), "image: size: .*7x6 uyvy"),
    ],
)
def test_images_that_cannot_be_read(message: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        rgb_from_image(message)


def test_other_encodings_go_through_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    def imgmsg_to_cv2(self: Any, message: Any, encoding: str) -> np.ndarray:
        if message.encoding != "nv24":
            raise TypeError("Unrecognized image encoding")
        assert encoding == "rgb8"
        return RGB

    module = ModuleType("cv_bridge")
    module.CvBridge = type("CvBridge", (), {"imgmsg_to_cv2": imgmsg_to_cv2})
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    np.testing.assert_array_equal(rgb_from_image(image(RGB, "nv24")), RGB)
    np.testing.assert_array_equal(rgb_from_image(image(BGR, "bgr8")), RGB)  # not this one
    with pytest.raises(DataError, match=r"image: encoding: .*cv_bridge reads.*octopus"):
        rgb_from_image(image(RGB, "octopus"))


def test_compressed() -> None:
    message = SimpleNamespace(format="png", data=byte_array(encode_image(RGB, "png")))
    assert (rgb_from_compressed(message) == RGB).all()
    with pytest.raises(DataError):
        rgb_from_compressed(SimpleNamespace(format="jpeg", data=byte_array(b"nothing")))
    message.format = "16UC1; compressedDepth png"
    with pytest.raises(DataError, match="depth"):
        rgb_from_compressed(message)
