"""Conversion of ROS image messages to RGB frames; needs neither rosbags nor rclpy.

It works on any object with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage, and
honours ``step``, ``encoding`` and ``is_bigendian``.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from v2w_core.errors import DataError
from v2w_core.images import ImageArray, decode_image

#: encoding -> (bytes per pixel, OpenCV conversion to RGB or None if it is RGB)
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "mono16": (2, cv2.COLOR_GRAY2RGB),
    # OpenCV names a pattern by its second row, ROS by its first: hence the opposite names.
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
_DEPTH = ("16UC1", "32FC1")


def frame_from_message(message: Any, *, field: str = "image") -> ImageArray:
    """sensor_msgs/Image or CompressedImage -> RGB uint8 [H, W, 3], a copy that may be changed.

    Args:
        message: any object with the message's fields.
        field: name of the image in error messages, e.g. the topic.

    Raises:
        DataError: an unknown encoding, a depth image, sizes that do not match the data, or an
            image that cannot be decoded.
    """
    if hasattr(message, "encoding"):
        return _from_raw(message, field)
    return _from_compressed(message, field)


def _from_compressed(message: Any, field: str) -> ImageArray:
    kind = str(message.format).lower()
    if "compresseddepth" in kind.replace("_", "").replace(" ", ""):
        raise DataError(f"{field}: format", "a colour or grey camera, not a depth image", kind)
    return decode_image(bytes(message.data), field=field)


def _from_raw(message: Any, field: str) -> ImageArray:
    encoding = str(message.encoding)
    if encoding in _DEPTH:
        rule = "a colour or grey camera; this is a depth image: name another image topic"
        raise DataError(f"{field}: encoding", rule, encoding)
    if encoding not in _ENCODINGS:
        rule = f"one of {', '.join(sorted(_ENCODINGS))}"
        raise DataError(f"{field}: encoding", rule, encoding or "an empty encoding")
    pixel_bytes, conversion = _ENCODINGS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    step = step or width * pixel_bytes
    data = np.frombuffer(message.data, dtype=np.uint8)
    if height < 1 or width < 1 or step < width * pixel_bytes or data.size < step * height:
        rule = "data of at least height x step bytes, step of at least a row of pixels"
        found = f"{width}x{height} {encoding}, step {step}, {data.size} bytes"
        raise DataError(f"{field}: size", rule, found)
    rows = data[: step * height].reshape(height, step)[:, : width * pixel_bytes]
    if encoding == "mono16":
        # Keep the high byte.
        rows = rows[:, 0::2] if message.is_bigendian else rows[:, 1::2]
        pixel_bytes = 1
    pixels = np.ascontiguousarray(rows).reshape(height, width, pixel_bytes)
    if conversion is None:
        return pixels.copy()
    try:
        return np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)
    except cv2.error as error:
        found = f"{width}x{height} {encoding}"
        raise DataError(f"{field}: encoding", "an image of its encoding", found) from error
