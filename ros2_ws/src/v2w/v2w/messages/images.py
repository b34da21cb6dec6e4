"""Image messages <-> RGB arrays. Uses message classes only; no rclpy.

Images are decoded by v2w_core.data.ros_images, as those of a bag are, so that a model sees the same
pixels in training and on the robot. Other encodings go through cv_bridge where the ROS distribution
brings one.
"""

from __future__ import annotations

import array
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.ros_images import DEPTH, ENCODINGS, PLANAR, frame_from_message
from v2w_core.errors import DataError
from v2w_core.image_header import check_size
from v2w_core.images import encode_image

UInt8Array = NDArray[np.uint8]


def rgb_from_image(message: Any) -> UInt8Array:
    """sensor_msgs/Image -> RGB uint8 [H, W, 3]; honours step, encoding and is_bigendian.

    Raises:
        DataError: a depth image, an encoding that neither v2w_core nor cv_bridge reads, or sizes
            that do not fit the data.
    """
    encoding = message.encoding
    if encoding in ENCODINGS or encoding in DEPTH or encoding.lower() in PLANAR:
        return frame_from_message(message)
    return _by_cv_bridge(message)


def rgb_from_compressed(message: Any) -> UInt8Array:
    """sensor_msgs/CompressedImage (JPEG, PNG) -> RGB uint8 [H, W, 3].

    Raises:
        DataError: a depth image, no picture, or one that is cut off.
    """
    return frame_from_message(message)


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
    """RGB uint8 [H, W, 3] -> sensor_msgs/CompressedImage; ``quality`` is JPEG's, 1 to 100."""
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage(header=header, format=image_format)
    message.data = byte_array(encode_image(np.ascontiguousarray(frame), image_format, quality))
    return message


def byte_array(data: bytes | UInt8Array) -> array.array[int]:
    """Bytes as an array that a message's data field takes without checking every element.

    That is 1000 times faster.
    """
    result = array.array("B")
    result.frombytes(data if isinstance(data, bytes) else data.tobytes())
    return result


def _by_cv_bridge(message: Any) -> UInt8Array:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return frame_from_message(message)  # which says what it reads
    check_size(int(message.height), int(message.width), field="image")
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), dtype=np.uint8)
    except Exception as error:  # CvBridgeError, cv2.error and TypeError, by version
        rule = f"one of {', '.join(sorted(ENCODINGS))}, or one that cv_bridge reads"
        raise DataError("image: encoding", rule, message.encoding) from error
