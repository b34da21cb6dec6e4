"""Pictures of bags: video, planes of colour, mosaics, deep grey, and pictures that are none."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from bagmaker import HEIGHT, START_NS, WIDTH, BagMaker, picture
from convert_toys import converted, fails
from test_bag_motion import codes, right
from test_convert import shown

from v2w_core.data.notices import notices_from
from v2w_core.data.sources.bag import scan_bag
from v2w_core.images import jpeg_is_whole

STEP_NS = 50_000_000


def jpeg(number: int) -> bytes:
    done, data = cv2.imencode(".jpg", picture(number)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    assert done
    return data.tobytes()


def planes(frame: np.ndarray, encoding: str) -> np.ndarray:
    """The picture as YUV of 12 bits a pixel, [H * 3 / 2, W]."""
    i420 = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
    if encoding == "i420":
        return i420
    u, v = i420[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    first, second = (u, v) if encoding == "nv12" else (v, u)
    colours = np.stack([first, second], -1).reshape(HEIGHT // 2, WIDTH)
    return np.concatenate([i420[:HEIGHT], colours])


@pytest.mark.parametrize("rows", ["brightness", "all"])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "i420"])
def test_colours_in_planes(tmp_path: Path, encoding: str, rows: str) -> None:
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    for number in range(40):
        data = planes(picture(number), encoding)
        padded = np.pad(data, ((0, 0), (0, 16))) if rows == "brightness" else data
        zero = maker._header(START_NS + number * STEP_NS, "camera")
        kind = "sensor_msgs/msg/Image"
        message = maker.store.types[kind](
            header=zero, height=HEIGHT if rows == "brightness" else HEIGHT * 3 // 2, width=WIDTH,
            encoding=encoding, is_bigendian=0, step=padded.shape[1], data=padded.reshape(-1),
        )  # fmt: skip
        maker._add("/camera", kind, message, START_NS + number * STEP_NS)
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    frame = episode.frames()[1]
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frame[8:-8, 6].astype(int) - (200, 0, 0)).max() < 12
    assert shown(frame) == 5


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_deep_grey_is_scaled_by_its_true_range(tmp_path: Path, bits: int, white: int) -> None:
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    ramp = np.linspace(0, 0.9 * white, WIDTH).astype("<u2")[None].repeat(HEIGHT, 0)
    for number in range(40):
        maker.image(START_NS + number * STEP_NS, encoding="mono16", data=ramp)
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    assert episode.frames()[0].max() == pytest.approx(0.9 * 255, abs=2)
    assert codes(episode) == (set() if bits == 16 else {"deep_pixels"})


def test_an_infrared_camera_in_16_bits_is_no_depth_camera(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    grey = np.full((HEIGHT, WIDTH), 3000, "<u2")
    for number in range(40):
        topic = "/camera/infra1/image_rect_raw"
        maker.image(START_NS + number * STEP_NS, encoding="16UC1", data=grey, topic=topic)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert episode.frames()[0].mean() == pytest.approx(3000 / 4095 * 255, abs=3)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_inside_a_compressed_picture(tmp_path: Path, pattern: str) -> None:
    colour = {"r": 200, "g": 120, "b": 40}
    cell = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    data = cv2.imencode(".png", np.tile(cell, (HEIGHT // 2, WIDTH // 2)))[1].tobytes()
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    for number in range(40):
        maker.compressed(START_NS + number * STEP_NS, data, f"bayer_{pattern}8; png compressed ")
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    assert tuple(episode.frames()[0][HEIGHT // 2, WIDTH // 2]) == (200, 120, 40)


def test_colour_of_16_bits_in_a_compressed_picture(tmp_path: Path) -> None:
    deep = np.full((HEIGHT, WIDTH, 3), (200 * 257, 120 * 257, 40 * 257), np.uint16)
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    for number in range(40):
        maker.compressed(START_NS + number * STEP_NS, data, "rgb16; png compressed bgr16")
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    assert tuple(episode.frames()[0][0, 0]) == (200, 120, 40)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda _: b"", "empty"),
        (lambda _: b"\x89PNG\r\n\x1a\nrest", "cut off"),
        (lambda _: b"neither picture nor anything", ""),
    ],
)
def test_one_bad_picture_is_a_gap(
    tmp_path: Path, damage: object, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        data = damage(jpeg(number)) if number == 35 else jpeg(number)  # type: ignore[operator]
        maker.compressed(START_NS + number * STEP_NS, data, "jpeg")
    episodes = converted(maker.close(), tmp_path / "out")
    numbers = [shown(frame) for episode in episodes for frame in episode.frames()]
    assert numbers == [0, 5, 10, 15, 20, 25, 30, 40, 45, 50, 55]
    assert all(right(episode) for episode in episodes)
    message = capsys.readouterr().err
    assert "left out" in message
    if what:
        assert f"{what} at 1.75 s" in message
        assert "bad_images" in codes(episodes[0])


def test_a_picture_without_pixels_is_a_gap(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        data = np.zeros((1, 0, 3), np.uint8) if number == 0 else None
        maker.image(START_NS + number * STEP_NS, number, data=data)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert right(episode) and codes(episode) == {"bad_images"}


def test_pictures_that_are_all_bad_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        maker.compressed(START_NS + number * STEP_NS, b"no picture at all", "jpeg")
    assert "an encoded image" in fails(capsys, maker.close(), tmp_path / "out")
    maker = BagMaker(tmp_path / "cut").drive(3.0, camera=None)
    for number in range(60):
        maker.compressed(START_NS + number * STEP_NS, jpeg(number)[:100], "jpeg")
    message = fails(capsys, maker.close(), tmp_path / "out")
    assert "cut off" in message and "larger gap" not in message


def test_padding_behind_a_jpeg(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        data = jpeg(number)
        maker.compressed(START_NS + number * STEP_NS, data + bytes(3 * len(data)), "jpeg")
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert len(episode) == 12 and codes(episode) == set()


def test_a_thumbnail_does_not_make_a_cut_jpeg_whole() -> None:
    data = jpeg(3)
    thumb = jpeg(1)
    segment = b"\xff\xe1" + (len(thumb) + 2).to_bytes(2, "big") + thumb
    with_thumb = data[:2] + segment + data[2:]
    assert jpeg_is_whole(with_thumb) and jpeg_is_whole(with_thumb + bytes(5000))
    assert not jpeg_is_whole(with_thumb[: len(segment) + len(data) // 2])


def test_a_change_of_size_begins_a_new_episode(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        frame = picture(number)
        data = frame if number < 30 else np.repeat(np.repeat(frame, 2, 0), 2, 1)
        maker.image(START_NS + number * STEP_NS, data=data)
    bag = maker.close()
    first, second = converted(bag, tmp_path / "out")
    assert first.image_size == (HEIGHT, WIDTH) and second.image_size == (2 * HEIGHT, 2 * WIDTH)
    assert (len(first), len(second)) == (6, 6)
    (whole,) = converted(bag, tmp_path / "one", "--image-size", f"{HEIGHT}x{WIDTH}")
    assert len(whole) == 12


def test_the_colour_camera_is_found_beside_its_depth(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(1.0)
    maker.drive(1.0, camera="/camera/depth/image_rect_raw", odom=None, encoding="16UC1")
    scan = scan_bag(maker.close())
    assert scan.image_topic == "/camera/image_raw"
    assert list(notices_from({"warnings": "nonsense"})) == []


def test_where_many_pictures_are_bad_the_nearest_good_ones_are_taken(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        data = jpeg(number) if number % 2 else jpeg(number)[:100]
        maker.compressed(START_NS + number * STEP_NS, data, "jpeg")
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert all(shown(frame) % 2 == 1 for frame in episode.frames())
    assert codes(episode) == {"bad_images", "uneven_steps"}


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "bayer_rggb16"])
def test_deep_colour_is_scaled_by_its_true_range(tmp_path: Path, encoding: str) -> None:
    """A camera of 12 bits; otherwise its pictures were nearly black."""
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    colour = np.full((HEIGHT, WIDTH, 3), (4000, 2400, 800), "<u2")
    mosaic = colour[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 4000, 800
    data = {"rgb16": colour, "bgr16": colour[..., ::-1], "bayer_rggb16": mosaic}[encoding]
    for number in range(40):
        maker.image(START_NS + number * STEP_NS, encoding=encoding, data=data)
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    found = episode.frames()[0][HEIGHT // 2, WIDTH // 2].astype(int)
    assert np.abs(found - np.array([4000, 2400, 800]) * 255 / 4095).max() < 2
    assert codes(episode) == {"deep_pixels"}


@pytest.mark.parametrize("form", ["mono16; png compressed ", "bayer_rggb16; png compressed "])
def test_deep_pictures_that_are_compressed(tmp_path: Path, form: str) -> None:
    data = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 3000, np.uint16))[1].tobytes()
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    for number in range(40):
        maker.compressed(START_NS + number * STEP_NS, data, form)
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    assert np.abs(episode.frames()[0].astype(int) - 3000 * 255 / 4095).max() < 1
    assert codes(episode) == {"deep_pixels"}


def test_pixels_of_16_bits_in_the_other_order(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    ramp = np.linspace(0, 1000, WIDTH).astype(">u2")[None].repeat(HEIGHT, 0)
    for number in range(40):
        maker.image(START_NS + number * STEP_NS, encoding="mono16", data=ramp, big_endian=True)
    (episode,) = converted(maker.close(), tmp_path / "out", "--image-format", "png")
    brightness = episode.frames()[0][4, :, 0].astype(int)
    assert (np.diff(brightness) >= 0).all() and brightness[-1] == pytest.approx(249, abs=1)


@pytest.mark.parametrize("form", ["16UC1; png compressed ", "32FC1; compressedDepth png"])
def test_distances_in_a_compressed_picture_are_refused(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 900, np.uint16))[1].tobytes()
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    for number in range(40):
        maker.compressed(START_NS + number * STEP_NS, data, form)
    assert "not a depth image" in fails(capsys, maker.close(), tmp_path / "out")


@pytest.mark.parametrize("padded", [True, False])
def test_rows_that_are_longer_than_their_pixels(tmp_path: Path, padded: bool) -> None:
    """Some drivers leave the padding of the last row out."""
    maker = BagMaker(tmp_path / "drive").drive(2.0, camera=None)
    kind = "sensor_msgs/msg/Image"
    for number in range(40):
        stamp = START_NS + number * STEP_NS
        data = np.pad(picture(number), ((0, 0), (0, 5), (0, 0))).reshape(-1)
        message = maker.store.types[kind](
            header=maker._header(stamp, "camera"), height=HEIGHT, width=WIDTH, encoding="rgb8",
            is_bigendian=0, step=3 * (WIDTH + 5), data=data if padded else data[:-15],
        )  # fmt: skip
        maker._add("/camera", kind, message, stamp)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert [shown(frame) for frame in episode.frames()] == list(range(0, 40, 5))


def test_pictures_of_other_programs(tmp_path: Path) -> None:
    """CMYK, a palette, an alpha channel, a rotation in EXIF, no format at all."""
    image = pytest.importorskip("PIL.Image")
    rotated = image.Exif()
    rotated[274] = 6
    ways: list[tuple[str, str, dict[str, object]]] = [
        ("CMYK", "JPEG", {"quality": 98}),
        ("RGB", "JPEG", {"quality": 98, "progressive": True}),
        ("RGB", "JPEG", {"quality": 98, "exif": rotated}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("RGB", "WEBP", {"lossless": True}),
    ]
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number in range(60):
        mode, form, options = ways[number // 5 % len(ways)]
        out = io.BytesIO()
        shot = image.fromarray(picture(number))
        shot = shot.quantize(16) if mode == "P" else shot.convert(mode)
        shot.save(out, form, **options)
        maker.compressed(START_NS + number * STEP_NS, out.getvalue(), "")
    (episode,) = converted(maker.close(), tmp_path / "out")
    numbers = np.array([shown(frame) for frame in episode.frames()])
    assert np.abs(numbers - np.arange(0, 60, 5)).max() <= 1
    assert episode.image_size == (HEIGHT, WIDTH)
