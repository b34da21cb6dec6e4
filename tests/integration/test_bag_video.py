"""Video in bags: a packet a message, whatever the codec is called; lost packets smear nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from bagmaker import START_NS, BagMaker, picture
from convert_toys import converted, fails
from test_bag_motion import right

from v2w_core.data.ros_video import codec_in, codec_of

STEP_NS = 50_000_000
FORMS = [("libx264", "h264"), ("libx265", "hevc"), ("libsvtav1", "av1"), ("libvpx-vp9", "vp9")]
OPTIONS = {
    "libx264": {"tune": "zerolatency", "crf": "10"},
    "libx265": {"tune": "zerolatency", "crf": "10"},
    "libsvtav1": {"preset": "8", "crf": "1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0"},
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")


def packets(codec: str, count: int, every: int = 20) -> list[bytes]:
    """A video of numbered pictures, a packet each, a key frame now and then."""
    av = pytest.importorskip("av")
    try:
        encoder = av.CodecContext.create(codec, "w")
    except Exception:
        pytest.skip(f"this PyAV has no {codec}")
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(20), Fraction(1, 20)
    encoder.options = {**OPTIONS[codec], "g": str(every), "lag-in-frames": "0"}
    if codec == "libx265":
        encoder.options["x265-params"] = f"log-level=none:keyint={every}:bframes=0"
    if codec == "libsvtav1":
        encoder.options["svtav1-params"] = f"pred-struct=1:keyint={every}:lookahead=0"
    found = []
    for number in range(count):
        large = np.repeat(np.repeat(picture(number), 2, 0), 2, 1)
        frame = av.VideoFrame.from_ndarray(large, "rgb24")
        frame.pts = number
        found += [bytes(packet) for packet in encoder.encode(frame)]
    found += [bytes(packet) for packet in encoder.encode(None)]
    assert len(found) == count
    return found


def number_of(frame: np.ndarray) -> int:
    return round((float(frame[16:-16, -24:-8, 1].mean()) - 10) / 4)


@pytest.mark.parametrize("way", ["compressed", "ffmpeg", "foxglove"])
@pytest.mark.parametrize(("codec", "form"), FORMS)
def test_video(tmp_path: Path, codec: str, form: str, way: str) -> None:
    from rosbags.typesys import get_types_from_msg

    from v2w_core.data.bags.decode import _KNOWN

    maker = BagMaker(tmp_path / "drive", "sqlite3").drive(3.0, camera=None)
    for kind, text in _KNOWN.items():
        maker.store.register(get_types_from_msg(text, kind))
    for number, data in enumerate(packets(codec, 60)):
        stamp, array = START_NS + number * STEP_NS, np.frombuffer(data, np.uint8)
        if way == "compressed":
            maker.compressed(stamp, data, form)
        elif way == "ffmpeg":
            maker.message(
                "/camera/ffmpeg", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", stamp,
                width=96, height=64, encoding=form, pts=number, flags=0, is_bigendian=False,
                data=array,
            )  # fmt: skip
        else:
            time = maker.store.types["builtin_interfaces/msg/Time"](
                sec=stamp // 10**9, nanosec=stamp % 10**9
            )
            kind = "foxglove_msgs/msg/CompressedVideo"
            fields = {"timestamp": time, "frame_id": "camera", "data": array, "format": form}
            maker.bare("/camera/video", kind, stamp, **fields)
    (episode,) = converted(maker.close(), tmp_path / "out")
    numbers = np.array([number_of(frame) for frame in episode.frames()])
    assert np.abs(numbers - np.arange(0, 60, 5)).max() <= 1  # colours of a video are a little off
    assert right(episode)


def test_a_video_that_begins_between_two_key_frames(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number, data in enumerate(packets("libx264", 60)):
        if number >= 8:
            maker.compressed(START_NS + number * STEP_NS, data, "h264")
    episodes = converted(maker.close(), tmp_path / "out")
    numbers = [number_of(frame) for episode in episodes for frame in episode.frames()]
    assert numbers[0] >= 20 and numbers[-1] >= 50


@pytest.mark.parametrize(("codec", "form"), FORMS)
def test_after_a_lost_packet_nothing_is_taken_before_the_next_key_frame(
    tmp_path: Path, codec: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number, data in enumerate(packets(codec, 60)):
        if number not in (12, 13):
            maker.compressed(START_NS + number * STEP_NS, data, form)
    episodes = converted(maker.close(), tmp_path / "out", "--rate-hz", "20")
    numbers = [number_of(frame) for episode in episodes for frame in episode.frames()]
    wanted = [*range(12), *range(20, 60)]
    assert len(numbers) == len(wanted)
    assert np.abs(np.array(numbers) - wanted).max() <= 1
    assert [len(episode) for episode in episodes] == [12, 40]
    assert "6 pictures cannot be decoded" in (message := capsys.readouterr().err)
    assert "at 0.70 s, 0.75 s, 0.80 s, 0.85 s, 0.90 s, and 1 more" in message


def test_a_video_under_the_name_of_a_picture(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    for number, data in enumerate(packets("libx264", 60)):
        maker.compressed(START_NS + number * STEP_NS, data, "jpeg")
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert [round(number_of(frame) / 5) for frame in episode.frames()] == list(range(12))


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("h264", "h264"), ("H.264", "h264"), ("libx264", "h264"), ("h264_vaapi", "h264"),
        ("h264;yuv420p;bgr8;bgr8", "h264"), ("hevc_nvmpi", "hevc"), ("h265", "hevc"),
        ("av1_nvenc", "av1"), ("librav1e", "av1"), ("libaom-av1", "av1"), ("libvpx-vp9", "vp9"),
        ("libvpx", "vp8"), ("rgb8; jpeg compressed bgr8", ""), ("16UC1; compressedDepth png", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_names_of_codecs(form: str, codec: str) -> None:
    assert codec_of(form) == codec


def test_the_codec_in_a_stream() -> None:
    assert codec_in(packets("libx264", 1)[0]) == "h264"
    assert codec_in(packets("libx265", 1)[0]) == "hevc"
    assert codec_in(cv2.imencode(".jpg", picture(1))[1].tobytes()) == codec_in(b"") == ""


def test_a_video_of_an_unknown_codec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rosbags.typesys import get_types_from_msg

    from v2w_core.data.bags.decode import _KNOWN

    maker = BagMaker(tmp_path / "drive").drive(3.0, camera=None)
    kind = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
    maker.store.register(get_types_from_msg(_KNOWN[kind], kind))
    for number in range(60):
        maker.message(
            "/camera/ffmpeg", kind, START_NS + number * STEP_NS, width=96, height=64,
            encoding="theora", pts=number, flags=0, is_bigendian=False, data=np.ones(9, np.uint8),
        )  # fmt: skip
    message = fails(capsys, maker.close(), tmp_path / "out")
    assert "a video of av1, h264, hevc" in message and "(got theora)" in message
