"""Image messages <-> RGB arrays, with one interface whatever the machine has.

The usual 8-bit encodings are read straight from the message's bytes. Everything else goes through
cv_bridge where the ROS distribution brings one, else through rosbags-image. No rclpy in here.
"""

from __future__ import annotations

import array
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import DataError
from v2w_core.images import decode_image, encode_image

UInt8Array = NDArray[np.uint8]

#: encoding -> (channels, how to pick R, G and B from them)
_PLAIN: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),
}


def rgb_from_image(message: Any) -> UInt8Array:
    """sensor_msgs/Image -> RGB uint8 [H, W, 3]. Honours step, encoding and is_bigendian.

    Raises:
        DataError: an encoding nobody here reads, or fewer bytes than height * step.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    if height == 0 or width == 0 or data.size < height * step:
        raise DataError("image", f"{height} rows of {step} bytes", f"{data.size} bytes")
    if message.encoding not in _PLAIN:
        return _by_library(message)
    channels, order = _PLAIN[message.encoding]
    if step < width * channels:
        raise DataError("image.step", f"at least {width * channels} bytes a row", step)
    rows = data[: height * step].reshape(height, step)[:, : width * channels]
    return np.ascontiguousarray(rows.reshape(height, width, channels)[..., list(order)])


def rgb_from_compressed(message: Any) -> UInt8Array:
    """sensor_msgs/CompressedImage (JPEG, PNG) -> RGB uint8 [H, W, 3].

    Raises:
        DataError: no picture, or one that is cut off.
    """
    return decode_image(bytes(message.data), field="image")


def image_message(frame: UInt8Array, header: Any) -> Any:
    """RGB uint8 [H, W, 3] -> sensor_msgs/Image (rgb8)."""
    from sensor_msgs.msg import Image

    pixels = np.ascontiguousarray(frame)
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = byte_array(pixels)
    return message


def compressed_message(
    frame: UInt8Array,
    header: Any,
    image_format: Literal["jpeg", "png"] = "jpeg",
    quality: int = 90,
) -> Any:
    """RGB uint8 [H, W, 3] -> sensor_msgs/CompressedImage; quality 1-100 is JPEG's."""
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage(header=header, format=image_format)
    message.data = byte_array(encode_image(np.ascontiguousarray(frame), image_format, quality))
    return message


def byte_array(data: bytes | UInt8Array) -> array.array[int]:
    """What a message's data field takes without a check of every element (1000 times faster)."""
    result = array.array("B")
    result.frombytes(data if isinstance(data, bytes) else data.tobytes())
    return result


def _by_library(message: Any) -> UInt8Array:
    try:
        from cv_bridge import CvBridge

        converted = CvBridge().imgmsg_to_cv2(message, "rgb8")
    except ImportError:
        converted = _by_rosbags(message)
    except Exception as error:  # CvBridgeError, cv2.error and TypeError, by version
        raise _unreadable(message.encoding) from error
    return np.ascontiguousarray(converted, dtype=np.uint8)


def _by_rosbags(message: Any) -> Any:
    try:
        from rosbags.image import message_to_cvimage
    except ImportError as error:
        raise _unreadable(message.encoding) from error
    try:
        return message_to_cvimage(message, "rgb8")
    except Exception as error:  # its own exceptions and cv2.error
        raise _unreadable(message.encoding) from error


def _unreadable(encoding: str) -> DataError:
    known = ", ".join(_PLAIN)
    return DataError("image.encoding", f"one of {known}, or one that cv_bridge reads", encoding)
