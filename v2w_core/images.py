"""Decoding, encoding and resizing of RGB uint8 frames with OpenCV (BGR stays inside)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import DataError
from v2w_core.image_header import FORMATS, MAX_BYTES, checked_picture, picture_size
from v2w_core.spec import ObservationSpec

ImageArray = NDArray[np.uint8]
ImageFormat = Literal["jpeg", "png"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def check_frames(frames: object, *, field: str = "frames", min_frames: int = 1) -> ImageArray:
    """The frames as an array.

    Raises:
        DataError: not uint8 RGB [T, H, W, 3], or fewer than ``min_frames`` frames.
    """
    array = np.asarray(frames)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise DataError(field, "uint8 RGB [T, H, W, 3]", f"{array.dtype} {list(array.shape)}")
    if len(array) < min_frames:
        raise DataError(field, f"at least {min_frames} frames", len(array))
    return array


def decode_image(
    data: bytes | memoryview | ImageArray, *, field: str = "image", rgb_only: bool = False
) -> ImageArray:
    """Encoded picture (JPEG, PNG, WebP or BMP) -> RGB uint8 [H, W, 3].

    Grey pictures become grey RGB, an alpha channel is dropped, EXIF rotation is ignored.

    Args:
        data: the encoded bytes.
        field: name of the picture in error messages.
        rgb_only: refuse grey pictures, alpha channels and 16-bit pictures, which are mistakes in a
            data set of colour pictures; a camera image or a goal image may be grey.

    Raises:
        DataError: empty or truncated data, not a picture, (with ``rgb_only``) not RGB, or a header
            that claims more than :data:`~v2w_core.image_header.MAX_PIXELS`.
    """
    raw = bytes(data)
    if not raw:
        raise DataError(field, f"an encoded image ({FORMATS})", "0 bytes")
    if not jpeg_is_whole(raw):
        raise DataError(field, "a complete JPEG; this one is cut off", f"{len(raw)} bytes")
    raw = checked_picture(raw, field=field)
    try:
        flags = cv2.IMREAD_UNCHANGED if rgb_only else cv2.IMREAD_COLOR
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(raw, dtype=np.uint8), flags)
    except cv2.error as error:
        raise DataError(field, "an image that can be decoded", str(error)) from error
    if image is None:
        raise DataError(field, "an image that can be decoded", f"{len(raw)} bytes: {raw[:16]!r}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        kind = {2: "grey"}.get(image.ndim, f"{image.shape[-1]} channels")
        raise DataError(field, "an RGB picture of 8 bits", f"{kind}, {image.dtype}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def glance_at(data: bytes, *, field: str = "image") -> ImageArray | None:
    """Encoded picture -> grey uint8 [H, W] of an eighth of its size (JPEG) or more, quickly.

    None is a picture that cannot be decoded.

    Raises:
        DataError: as for :func:`decode_image` where the header tells it.
    """
    height, width = picture_size(data, field=field)
    large = min(height, width) >= 480
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 if large else cv2.IMREAD_GRAYSCALE
    raw = np.frombuffer(checked_picture(data, field=field), np.uint8)
    try:
        image = cv2.imdecode(raw, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


def read_image(
    path: str | os.PathLike[str], *, field: str = "image", rgb_only: bool = False
) -> ImageArray:
    """A picture file as RGB uint8 [H, W, 3]; see :func:`decode_image`.

    Raises:
        DataError: no file that can be read, too large a one, or no picture.
    """
    try:
        if not Path(path).is_file():
            raise DataError(field, f"a picture file ({FORMATS})", f"{path}: no such file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(field, f"a picture file ({FORMATS})", str(error)) from error
    return decode_image(data, field=field, rgb_only=rgb_only)


def jpeg_is_whole(raw: bytes) -> bool:
    """Whether a JPEG has its end; true for any other data. Padding may follow the end.

    Segments before the scan are stepped over: a thumbnail in them has an end of its own.
    """
    if not raw.startswith(_JPEG_START) or raw.endswith(_JPEG_END):
        return True
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF and raw[at + 1] != 0xDA:
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return raw.find(_JPEG_END, at) >= 0


def encode_image(frame: ImageArray, image_format: ImageFormat = "jpeg", quality: int = 95) -> bytes:
    """RGB uint8 [H, W, 3] -> JPEG (quality 1-100) or PNG bytes.

    Raises:
        DataError: not an RGB uint8 image, an unknown format or a quality out of range.
    """
    array = np.asarray(frame)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise DataError("frame", "uint8 RGB [H, W, 3]", f"{array.dtype} {list(array.shape)}")
    if image_format == "jpeg":
        if not 1 <= quality <= 100:
            raise DataError("quality", "from 1 to 100", quality)
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif image_format == "png":
        suffix, options = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]
    else:
        raise DataError("image_format", "jpeg or png", image_format)
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(array, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError("frame", f"an image that can be encoded as {image_format}", array.shape)
    return bytes(encoded.tobytes())


def resize_frame(frame: ImageArray, spec: ObservationSpec) -> ImageArray:
    """One RGB frame uint8 [H, W, 3] -> uint8 [spec.height, spec.width, 3].

    A frame that already has this size is returned unchanged.
    """
    if frame.shape[:2] == (spec.height, spec.width):
        return frame
    if spec.crop_aspect is not None:
        height, width = frame.shape[:2]
        frame = _centre(frame, width / spec.crop_aspect, height * spec.crop_aspect)
    if spec.resize == "stretch":
        return _scale(frame, spec.height, spec.width)
    height, width = frame.shape[:2]
    ratios = spec.height / height, spec.width / width
    if spec.resize == "crop":
        kept = _centre(frame, spec.height / max(ratios), spec.width / max(ratios))
        return _scale(kept, spec.height, spec.width)
    new_h, new_w = spec.inner_size or (
        min(spec.height, max(1, round(height * min(ratios)))),
        min(spec.width, max(1, round(width * min(ratios)))),
    )
    padded = np.zeros((spec.height, spec.width, 3), dtype=np.uint8)
    top, left = (spec.height - new_h) // 2, (spec.width - new_w) // 2
    padded[top : top + new_h, left : left + new_w] = _scale(frame, new_h, new_w)
    return padded


def resize_frames(frames: ImageArray, spec: ObservationSpec) -> ImageArray:
    """RGB frames uint8 [T, H, W, 3] -> uint8 [T, spec.height, spec.width, 3].

    :class:`~v2w_core.spec.ObservationSpec` describes how the aspect changes. Frames that already
    have this size are returned unchanged.

    Raises:
        DataError: not uint8 RGB [T, H, W, 3].
    """
    array = check_frames(frames, min_frames=0)
    if array.shape[1:3] == (spec.height, spec.width):
        return array
    resized = np.empty((len(array), spec.height, spec.width, 3), dtype=np.uint8)
    for index, frame in enumerate(array):
        resized[index] = resize_frame(frame, spec)
    return resized


def _centre(frame: ImageArray, height: float, width: float) -> ImageArray:
    """Centre crop of at most height x width pixels."""
    keep_h = min(frame.shape[0], max(1, round(height)))
    keep_w = min(frame.shape[1], max(1, round(width)))
    top, left = (frame.shape[0] - keep_h) // 2, (frame.shape[1] - keep_w) // 2
    return frame[top : top + keep_h, left : left + keep_w]


def _scale(frame: ImageArray, height: int, width: int) -> ImageArray:
    shrinks = height < frame.shape[0] or width < frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=method)
    return np.asarray(scaled, dtype=np.uint8)
