"""Videos, sheets and reports: what is written can be read back, and nothing is half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from v2w_core.errors import DataError
from v2w_core.files import shown_path, write_text
from v2w_core.images import decode_image
from v2w_core.media.pictures import action_bars, contact_sheet, draw_text, write_png
from v2w_core.media.plots import line_plot
from v2w_core.media.report import Section, write_report
from v2w_core.media.video import write_video

av = pytest.importorskip("av")

FRAMES = np.zeros((6, 33, 49, 3), dtype=np.uint8)
for _index in range(6):
    FRAMES[_index] = (30 + 30 * _index, 128, 60)


def test_video_can_be_read_back(tmp_path: Path) -> None:
    path = write_video(tmp_path / "sub" / "a.mp4", FRAMES, fps=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 4.0
    assert len(decoded) == 6
    assert decoded[0].shape == (34, 50, 3)
    for frame, expected in zip(decoded, FRAMES, strict=True):
        assert np.abs(frame[10, 10].astype(int) - expected[10, 10]).max() < 12
    assert [item.name for item in path.parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        ([], 4),
        (FRAMES, 0),
        (FRAMES, float("nan")),
        (FRAMES.astype(float), 4),
        ([FRAMES[0], FRAMES[0, 2:]], 4),
    ],
)
def test_bad_video_leaves_nothing(tmp_path: Path, frames: np.ndarray, fps: float) -> None:
    with pytest.raises(DataError):
        write_video(tmp_path / "a.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_shows_every_frame(tmp_path: Path) -> None:
    short = FRAMES[:2, :16, :16]
    sheet = contact_sheet([FRAMES, short], ["six frames", "two"], min_height=48)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 6 * (2 * 49 + 3)
    for frame in (*FRAMES, *short):
        assert (sheet == frame[0, 0]).all(axis=-1).any()
    path = write_png(tmp_path / "s.png", sheet)
    assert (decode_image(path.read_bytes()) == sheet).all()
    with pytest.raises(DataError):
        contact_sheet([])
    with pytest.raises(DataError):
        contact_sheet([FRAMES], ["one", "too many"])


def test_text_and_bars() -> None:
    marked = draw_text(FRAMES[0], "7")
    assert marked.shape == FRAMES[0].shape
    assert (marked != FRAMES[0]).any()
    assert (FRAMES[0] == (30, 128, 60)).all()

    def ink(value: float, side: slice) -> int:
        bars = action_bars(160, [value], ["dx"], [-1.0], [1.0])
        assert bars.shape == (16, 160, 3)
        return int((np.ptp(bars[:, side].astype(int), axis=-1) > 60).sum())

    middle = (80 + 160) // 2
    right, left = slice(middle + 2, 160), slice(80, middle - 2)
    assert ink(0.9, right) > ink(0.3, right) > ink(0.0, right) == 0
    assert ink(-0.5, left) > 0 == ink(0.5, left)
    assert ink(50.0, right) >= ink(0.9, right)


def test_plot_and_report_hold_everything(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = line_plot(
        {"model": [25.0, 24.0], "copy": ([1, 2], [22.0, 20.0])},
        title="PSNR",
        x_label="steps ahead",
        y_label="dB",
    )
    assert decode_image(plot).std() > 5
    video = write_video(tmp_path / "v.mp4", FRAMES, fps=4)
    section = Section(
        "Heading <script>",
        "One & two.\n\nThree.",
        [["step", "dB"], [1, 23.45678]],
        [("plot", plot), ("frame", FRAMES[0])],
        [("video", video)],
    )
    path = write_report(tmp_path / "report.html", "Title", [section])
    text = path.read_text()
    assert "<script>" not in text
    assert "One &amp; two." in text
    assert "23.46" in text
    assert text.count("data:image/png;base64,") == 2
    assert text.count("data:video/mp4;base64,") == 1
    assert 'src="http' not in text
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report.html", "v.mp4"]


def test_text_is_replaced_in_one_piece(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.json", "{}")
    write_text(path, '{"a": 1}')
    assert path.read_text() == '{"a": 1}'
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_paths_are_shown_relative_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "runs" / "a") == str(Path("runs", "a"))
    assert shown_path("/elsewhere/b") == "/elsewhere/b"
