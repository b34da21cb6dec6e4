"""The size of an encoded picture, read from its header before anything is decoded.

A few hundred bytes can claim a thousand million pixels, which cost a decoder seconds and gigabytes.
Only formats whose size is read here are decoded at all: JPEG, PNG, WebP and BMP.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from v2w_core.errors import DataError

#: Largest picture [pixels]: a frame of 8K video fits (7680 x 4320), and decodes in about a second.
MAX_PIXELS = 1 << 25
#: Largest height or width [pixels], OpenCV's limit when it resizes.
MAX_SIDE = 32_767
#: Largest encoded picture [bytes].
MAX_BYTES = 256 << 20
#: Largest number of passes over the pixels that a progressive JPEG may take; ten are usual.
MAX_SCANS = 64
FORMATS = "JPEG, PNG, WebP or BMP"

_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG without pixels that a decoder may unpack, and those of further, animated frames.
_PNG_UNUSED = {b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
#: The next marker of a JPEG. In compressed data, 0 after 255 is a number and D0 to D7 go on.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_END_OF_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def checked_picture(data: bytes, *, field: str) -> bytes:
    """The encoded picture without what needs no decoding, once its size is known to be sensible.

    Raises:
        DataError: none of the formats, a header that is cut off, an animation, or more than
            :data:`MAX_BYTES`, :data:`MAX_PIXELS`, :data:`MAX_SIDE` or :data:`MAX_SCANS`.
    """
    if len(data) > MAX_BYTES:
        raise DataError(field, f"at most {MAX_BYTES} bytes", "more")
    height, width = picture_size(data, field=field)
    check_size(height, width, field=field)
    return _plain_png(data) if data.startswith(_PNG) else data


def check_size(height: int, width: int, *, field: str) -> None:
    """Raises DataError unless the size is one that is decoded."""
    sides = 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE
    if not sides or height * width > MAX_PIXELS:
        rule = f"at least 1x1 pixels, at most {MAX_PIXELS} in all and {MAX_SIDE} along a side"
        raise DataError(f"{field}: size", rule, f"{width}x{height}")


def picture_size(data: bytes, *, field: str = "image") -> tuple[int, int]:
    """(height, width) of an encoded picture as its header has it.

    Raises:
        DataError: none of the formats, a header that is cut off, or an animation.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_size(data, field)
        if data.startswith(_PNG) and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_size(data, field)
        if data.startswith(b"BM"):
            return _bmp_size(data)
    except (struct.error, IndexError) as error:
        raise DataError(field, "a complete picture; this one is cut off", str(error)) from error
    found = f"{len(data)} bytes: {data[:16]!r}"
    raise DataError(field, f"an encoded image ({FORMATS})", found)


def _jpeg_size(data: bytes, field: str) -> tuple[int, int]:
    """The frame header's size; the scans of a JPEG that is not baseline are counted to its end.

    A baseline scan has a bit or more for each block of pixels, and takes as long as it is large. A
    progressive one of a few bytes goes over the whole picture.
    """
    size, scans, at = None, 0, 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == 0xD9:  # the end
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and size is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = height, width
            if marker in (0xC0, 0xC1):
                return size
        at += max(2, struct.unpack_from(">H", data, at)[0])
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise DataError(field, f"a JPEG of at most {MAX_SCANS} scans", "more")
            end = _END_OF_SCAN.search(data, at)
            at = end.start() if end else len(data)
    if size is None:
        raise DataError(field, "a complete JPEG with its size", f"{len(data)} bytes")
    return size


def _webp_size(data: bytes, field: str) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        if data[20] & 2:
            raise DataError(field, "a still picture", "an animated WebP")
        sides = [int.from_bytes(data[at : at + 3], "little") + 1 for at in (27, 24)]
        if len(data) < 30:
            raise IndexError("its header ends after byte 30")
        return sides[0], sides[1]
    raise DataError(field, f"an encoded image ({FORMATS})", f"a WebP that begins with {kind!r}")


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), width


def _plain_png(data: bytes) -> bytes:
    """The PNG without its texts, profiles and further frames, which decoders unpack in vain."""
    kept, dropped = [_PNG], False
    for kind, chunk in _png_chunks(data):
        if kind in _PNG_UNUSED:
            dropped = True
        else:
            kept.append(chunk)
    return b"".join(kept) if dropped else data


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, whole chunk) of each chunk; the last may be cut off."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + 12 + length]
        at += 12 + length
