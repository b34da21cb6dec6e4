"""Pictures of somebody else: what a header claims is checked before anything is decoded."""

from __future__ import annotations

import struct
import time
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_core.data.ros_images import ENCODINGS, frame_from_message
from v2w_core.errors import DataError
from v2w_core.image_header import MAX_PIXELS, MAX_SCANS, MAX_SIDE, picture_size
from v2w_core.images import decode_image, read_image

SUFFIXES = [".jpg", ".png", ".webp", ".bmp"]


def encoded(suffix=".png", size=(13, 31), options=()):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(suffix, picture, list(options))[1].tobytes()


def refused(data, match="size"):
    began = time.process_time()
    with pytest.raises(DataError, match=match):
        decode_image(data)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("suffix", [*SUFFIXES, "lossy"])
@pytest.mark.parametrize("size", [(1, 1), (13, 31), (480, 3)])
def test_the_header_has_the_size_that_is_decoded(suffix, size):
    lossy = suffix == "lossy"
    options = [cv2.IMWRITE_WEBP_QUALITY, 80] if lossy else []
    data = encoded(".webp" if lossy else suffix, size, options)
    assert picture_size(data) == size == decode_image(data).shape[:2]


@pytest.mark.parametrize(
    "options", [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
                [cv2.IMWRITE_JPEG_OPTIMIZE, 1]],
)  # fmt: skip
def test_every_kind_of_jpeg_is_read(options):
    assert decode_image(encoded(".jpg", options=options)).shape == (13, 31, 3)


def png(width, height, idat=b"", before=b"", depth=8, colour=2):
    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def jpeg(width, height, progressive=False):
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    data = bytearray(encoded(".jpg", options=options))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width, height, kind="<ii"):
    data = bytearray(encoded(".bmp"))
    data[18 : 18 + struct.calcsize(kind)] = struct.pack(kind, width, height)
    return bytes(data)


def webp(width, height):
    body = struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + body + encoded(".webp")[12:]


def vp8(width, height):
    data = bytearray(encoded(".webp", options=[cv2.IMWRITE_WEBP_QUALITY, 80]))
    assert data[12:16] == b"VP8 "
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def vp8l(width, height):
    data = bytearray(encoded(".webp", options=[cv2.IMWRITE_WEBP_QUALITY, 101]))
    assert data[12:16] == b"VP8L"
    data[21:25] = struct.pack("<I", width - 1 | (height - 1) << 14)
    return bytes(data)


CLAIMS = {
    "png": png(1 << 15, 1 << 15, zlib.compress(bytes(10_000))),
    "png, 16 bits": png(32767, 32767, zlib.compress(bytes(10_000)), depth=16, colour=6),
    "png, one row": png(2**31 - 1, 1),
    "png, nothing": png(0, 10),
    "jpeg": jpeg(65535, 65535),
    "jpeg, progressive": jpeg(65535, 65535, progressive=True),
    "jpeg, no height": jpeg(100, 0),
    "bmp": bmp(1 << 15, 1 << 15),
    "bmp, upside down": bmp(30000, -30000),
    "bmp, negative": bmp(-5, 5),
    "bmp, the smallest number": bmp(5, -(2**31)),
    "webp": webp(1 << 14, 1 << 14),
    "webp, lossy": vp8(16383, 16383),
    "webp, lossless": vp8l(16384, 16384),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_of_too_many_pixels_is_refused_before_decoding(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    refused(CLAIMS[name])


def test_the_largest_picture_is_read():
    side = int(MAX_PIXELS**0.5)
    assert decode_image(encoded_zeros(side, side)).shape == (side, side, 3)
    refused(encoded_zeros(side, side + 2))
    refused(encoded_zeros(1, MAX_SIDE + 1))


def encoded_zeros(height, width):
    return cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes()


OTHERS = {
    "GIF": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(100),
    "TIFF": b"II*\x00" + bytes(100),
    "big TIFF": b"MM\x00+" + bytes(100),
    "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(100),
    "a code stream": b"\xff\x4f\xff\x51" + bytes(100),
    "PNM": b"P6 100000 100000 255\n",
    "PAM": b"P7\nWIDTH 100000\nHEIGHT 100000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    "PFM": b"PF\n100000 100000\n-1.0\n",
    "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 100000\n",
    "Sun": b"\x59\xa6\x6a\x95" + struct.pack(">II", 100000, 100000) + bytes(100),
    "AVIF": b"\x00\x00\x00\x20ftypavif" + bytes(100),
    "EXR": b"\x76\x2f\x31\x01" + bytes(100),
    "text": b"hello",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_formats_whose_size_is_not_read_are_not_decoded(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    refused(OTHERS[name], "JPEG, PNG, WebP or BMP")


def test_a_jpeg_of_many_scans_is_refused():
    data = encoded(".jpg", (400, 400), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    assert decode_image(data).shape == (400, 400, 3)
    refused(data[:-2] + scan * (MAX_SCANS + 1) + b"\xff\xd9", "scans")


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_what_a_png_packs_beside_its_pixels_is_not_unpacked(kind):
    whole = png(2, 1, zlib.compress(bytes(7)))
    bomb = zlib.compress(bytes(50_000_000))
    body = {b"iCCP": b"a\0\0", b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind] + bomb
    chunk = struct.pack(">I", len(body)) + kind + body
    chunk += struct.pack(">I", zlib.crc32(kind + body))
    data = png(2, 1, zlib.compress(bytes(7)), before=chunk * 20)
    began = time.process_time()
    np.testing.assert_array_equal(decode_image(data), decode_image(whole))
    assert time.process_time() - began < 0.2


def test_an_animated_png_is_its_first_picture():
    if not hasattr(cv2, "imencodeanimation"):
        pytest.skip("this OpenCV writes no animations")
    animation = cv2.Animation()
    animation.frames = [np.full((4, 5, 3), value, np.uint8) for value in (10, 200)]
    animation.durations = [100, 100]
    data = cv2.imencodeanimation(".png", animation)[1].tobytes()
    assert (decode_image(data) == 10).all()
    moving = cv2.imencodeanimation(".webp", animation)[1].tobytes()
    refused(moving, "still")


@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_damaged_picture_is_decoded_or_refused(suffix, data):
    picture = bytearray(encoded(suffix, (8, 8)))
    for _ in range(data.draw(st.integers(1, 6))):
        picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(picture)))
    for content in (bytes(picture), bytes(picture[:cut])):
        try:
            frame = decode_image(content)
        except DataError:
            continue
        assert frame.size <= 3 * MAX_PIXELS and frame.dtype == np.uint8


def test_a_picture_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    assert read_image(tmp_path / "a.png").shape == (13, 31, 3)
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("none.png", ".", "big"):
        with pytest.raises(DataError, match="goal"):
            read_image(tmp_path / name, field="goal")


def message(**changes):
    fields = {"height": 2, "width": 2, "step": 6, "encoding": "rgb8", "is_bigendian": 0}
    return SimpleNamespace(**{"data": bytes(12), **fields, **changes})


@given(
    height=st.integers(0, 2**32 - 1), width=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1), encoding=st.sampled_from(sorted(ENCODINGS)),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_raw_images_of_any_size_are_refused_or_small(height, width, step, encoding):
    try:
        frame = frame_from_message(
            message(height=height, width=width, step=step, encoding=encoding)
        )
    except DataError:
        return
    assert frame.shape == (height, width, 3)


def test_a_raw_image_of_too_many_pixels_is_refused():
    side = int(MAX_PIXELS**0.5) + 1
    data = np.zeros(side * side, np.uint8)
    with pytest.raises(DataError, match="size"):
        frame_from_message(message(height=side, width=side, step=0, encoding="mono8", data=data))
