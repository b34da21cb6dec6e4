"""Conversion of ROS image messages to RGB frames, for bags and nodes; does not need ROS.

It accepts any object with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage, from
rosbags or rclpy, and honours ``step``, ``encoding`` and ``is_bigendian``. Pixels equal those of
cv_bridge. 8UC3 and 8UC4 do not specify colours and are read as BGR and BGRA, OpenCV's order.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from v2w_core.errors import DataError
from v2w_core.image_header import check_size, checked_picture
from v2w_core.images import ImageArray, decode_image

#: encoding -> (channels, bytes per channel, OpenCV conversion to RGB or None if it is RGB)
ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 1, None),
    "bgr8": (3, 1, cv2.COLOR_BGR2RGB),
    "8UC3": (3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 1, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, 2, None),
    "bgr16": (3, 2, cv2.COLOR_BGR2RGB),
    "rgba16": (4, 2, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, 2, cv2.COLOR_BGRA2RGB),
    "mono16": (1, 2, cv2.COLOR_GRAY2RGB),
    # OpenCV names a pattern by its second row, ROS by its first: hence the opposite names.
    "bayer_rggb8": (1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (1, 2, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (1, 2, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, 2, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (1, 2, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
}
#: Encodings whose colours lie in a plane of their own below the brightness: 1.5 bytes a pixel.
PLANAR: dict[str, int] = {
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "nv21": cv2.COLOR_YUV2RGB_NV21,
    "i420": cv2.COLOR_YUV2RGB_I420,
    "yuv420": cv2.COLOR_YUV2RGB_I420,
    "yuv420p": cv2.COLOR_YUV2RGB_I420,
    "yv12": cv2.COLOR_YUV2RGB_YV12,
}
#: Parts of the topics of infrared cameras, whose 16UC1 is brightness and not distance.
_INFRARED = ("infra", "thermal", "lwir", "/ir/", "/ir_")
#: Encodings of depth images, which hold distances instead of colours.
DEPTH = ("16UC1", "32FC1")
#: Encodings of 16 bits, of which a camera may fill fewer.
DEEP = ("16UC1", *(name for name, (_, depth, _) in ENCODINGS.items() if depth == 2))


def frame_from_message(
    message: Any, *, field: str = "image", white: int | None = None
) -> ImageArray:
    """sensor_msgs/Image or CompressedImage -> RGB uint8 [H, W, 3], a copy that may be changed.

    Args:
        message: any object with the message's fields.
        field: name of the image in error messages, e.g. the topic.
        white: value of white in 16-bit pictures, where the camera fills fewer bits; None: 65535.

    Raises:
        DataError: an unknown encoding, a depth image, sizes that do not match the data, or an
            image that cannot be decoded.
    """
    if hasattr(message, "encoding"):
        return _from_raw(message, field, white)
    return picture_from(bytes(message.data), str(message.format), field=field, white=white)


def picture_from(
    data: bytes, form: str, *, field: str = "image", white: int | None = None
) -> ImageArray:
    """The data of a CompressedImage of that format -> RGB uint8 [H, W, 3]; see above.

    Raises:
        DataError: a depth image, or one that cannot be decoded.
    """
    kind = form.lower()
    pattern = kind.split(";")[0].strip()
    depth = "compresseddepth" in kind.replace("_", "").replace(" ", "")
    if depth or (pattern.upper() in DEPTH and not _is_infrared(field)):
        raise DataError(f"{field}: format", "a colour or grey camera, not a depth image", form)
    if is_deep_png(data):
        image = _eight_bits(deep_picture(data, field=field), white)
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
    else:
        image = decode_image(data, field=field)
    conversion = ENCODINGS.get(f"{pattern[:10]}8", (0, 0, None))[2]
    if pattern.startswith("bayer_") and conversion is not None:
        grey = image[..., :1]
        if (image == grey).all():  # the mosaic itself was compressed, not the picture made of it
            return np.asarray(cv2.cvtColor(np.ascontiguousarray(grey), conversion), dtype=np.uint8)
    return image


def is_deep_png(data: bytes | memoryview) -> bool:
    """Whether encoded bytes are a PNG of 16 bits, the only deep format of compressed images."""
    return bytes(data[:4]) == b"\x89PNG" and len(data) > 24 and data[24] == 16


def deep_picture(data: bytes, *, field: str = "image") -> Any:
    """The pixels of a PNG of 16 bits: grey uint16 [H, W] or RGB uint16 [H, W, 3].

    Raises:
        DataError: it cannot be decoded.
    """
    checked = np.frombuffer(checked_picture(data, field=field), np.uint8)
    image = cv2.imdecode(checked, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        raise DataError(field, "a PNG of 16 bits that can be decoded", f"{len(data)} bytes")
    if image.ndim == 3:
        order = {2: [0, 0, 0], 3: [2, 1, 0], 4: [2, 1, 0]}[image.shape[2]]
        image = image[..., order]
    return image


def _eight_bits(pixels: Any, white: int | None) -> ImageArray:
    """Pixels of 16 bits scaled so that white becomes 255, rounded."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / (white or 65535)), dtype=np.uint8)


def _is_infrared(field: str) -> bool:
    return any(part in field.lower() for part in _INFRARED)


def _from_raw(message: Any, field: str, white: int | None) -> ImageArray:
    encoding = str(message.encoding)
    if encoding.lower() in PLANAR:
        return _from_planar(message, PLANAR[encoding.lower()], field)
    if encoding == "16UC1" and _is_infrared(field):
        encoding = "mono16"
    if encoding in DEPTH:
        rule = "a colour or grey camera; this is a depth image: name another image topic"
        raise DataError(f"{field}: encoding", rule, encoding)
    if encoding not in ENCODINGS:
        encoding = encoding.lower()  # "RGB8", of some drivers
    if encoding not in ENCODINGS:
        rule = f"one of {', '.join(sorted((*ENCODINGS, *PLANAR)))}"
        raise DataError(f"{field}: encoding", rule, message.encoding or "an empty encoding")
    channels, depth, conversion = ENCODINGS[encoding]
    pixels = _pixels(message, channels, depth, field)
    try:
        if conversion is not None:
            pixels = cv2.cvtColor(pixels, conversion)
    except cv2.error as error:  # a Bayer pattern of one row, an odd width of YUV
        found = f"{message.width}x{message.height} {encoding}"
        raise DataError(f"{field}: size", "a size that the encoding allows", found) from error
    if depth == 2:
        return _eight_bits(pixels, white)
    return np.array(pixels, dtype=np.uint8) if conversion is None else np.asarray(pixels)


def _from_planar(message: Any, conversion: int, field: str) -> ImageArray:
    """Brightness in ``height`` rows of ``step`` bytes, then colours in half as many."""
    height, width = int(message.height), int(message.width)
    data = np.frombuffer(message.data, dtype=np.uint8)
    rows = height * 3 // 2
    if data.size >= height * 3 and height % 3 == 0 and data.size < rows * width:
        rows, height = height, height * 2 // 3  # a driver that counts the rows of both planes
    step = int(message.step)
    step = step if width <= step and step * rows <= data.size else width
    if height < 2 or width < 2 or height % 2 or width % 2:
        found = f"{width}x{height} {message.encoding}"
        raise DataError(f"{field}: size", "an even width and height", found)
    if data.size < step * rows:
        rule = f"at least {step * rows} bytes, {rows} rows with a step of {step}"
        raise DataError(f"{field}: data", rule, f"{data.size} bytes")
    planes = np.ascontiguousarray(data[: step * rows].reshape(rows, step)[:, :width])
    return np.asarray(cv2.cvtColor(planes, conversion), dtype=np.uint8)


def _pixels(message: Any, channels: int, depth: int, field: str) -> Any:
    """The pixels of a message as an array [H, W, channels], without row padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    check_size(height, width, field=field)
    row = width * channels * depth
    step = step or row  # 0: rows without padding
    if step < row:
        rule = f"at least {row} bytes, {width} pixels of {message.encoding}, or 0"
        raise DataError(f"{field}: step", rule, step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    least = step * (height - 1) + row  # some drivers do not pad the last row
    if data.size < least:
        rule = f"at least {least} bytes, {height} rows with a step of {step}"
        raise DataError(f"{field}: data", rule, f"{data.size} bytes")
    if data.size < step * height:
        data = np.pad(data, (0, step * height - data.size))
    rows = data[: step * height].reshape(height, step)[:, :row]
    if depth == 1:
        return rows.reshape(height, width, channels)
    words = np.ascontiguousarray(rows).view(">u2" if message.is_bigendian else "<u2")
    return words.astype(np.uint16, copy=False).reshape(height, width, channels)
