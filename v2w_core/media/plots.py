"""Pictures, videos and reports: what a person looks at. Every file appears complete or not at all.

Frames are RGB uint8 [T, H, W, 3]. matplotlib and PyAV are imported when they are first needed.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from v2w_core.errors import DataError
from v2w_core.images import ImageArray, check_frames, encode_image

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PAPER, _LOW, _HIGH = (30, 30, 30), (255, 255, 255), (214, 96, 60), (50, 120, 200)


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes text (UTF-8) in one piece; for JSON and HTML results."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a result that others read: relative where it lies in the working directory."""
    absolute, here = Path(path).resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def write_png(path: str | os.PathLike[str], image: ImageArray) -> Path:
    """Writes an RGB uint8 [H, W, 3] image as PNG."""
    data = encode_image(image, "png")
    with replaced(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_video(
    path: str | os.PathLike[str], frames: Iterable[ImageArray] | ImageArray, fps: float
) -> Path:
    """Writes an H.264 mp4 (yuv420p: plays in every browser).

    Args:
        path: the target, usually *.mp4.
        frames: RGB uint8, [T, H, W, 3] or any iterable of [H, W, 3] of one size; odd sizes get
            one more row or column.
        fps: frames a second, positive.

    Raises:
        DataError: no frames, frames of another kind or of changing size, a bad rate.
    """
    import av

    if not (np.isfinite(fps) and fps > 0):
        raise DataError("fps", "a positive number of frames a second", fps)
    size: tuple[int, int] | None = None
    with (
        replaced(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        rate = Fraction(fps).limit_denominator(1000)
        stream = out.add_stream("libx264", rate=rate, options={"crf": "20", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for index, frame in enumerate(frames):
            image = check_frames(np.asarray(frame)[None], field=f"frames[{index}]")[0]
            if size is None:
                size = (image.shape[0], image.shape[1])
                stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
            elif image.shape[:2] != size:
                raise DataError(f"frames[{index}]", f"all frames {size}", image.shape)
            even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                out.mux(packet)
        if size is None:
            raise DataError("frames", "at least one frame", 0)
        for packet in stream.encode():
            out.mux(packet)
    return Path(path)


def draw_text(image: ImageArray, text: str, *, scale: float = 0.45) -> ImageArray:
    """A copy with a line of text, white on black, in the upper left corner."""
    marked = np.ascontiguousarray(image).copy()
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    cv2.rectangle(marked, (0, 0), (width + 8, height + baseline + 6), (0, 0, 0), -1)
    cv2.putText(marked, text, (4, height + 4), _FONT, scale, _PAPER, 1, cv2.LINE_AA)
    return marked


def label_strip(width: int, text: str, height: int = 22) -> ImageArray:
    """A white strip uint8 [height, width, 3] with a line of text, shrunk until it fits."""
    strip = np.full((height, width, 3), 255, dtype=np.uint8)
    scale = 0.48
    while scale > 0.25 and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > width - 8:
        scale -= 0.04
    cv2.putText(strip, text, (4, height - 7), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


def action_bars(
    width: int, action: ArrayLike, names: Sequence[str], low: ArrayLike, high: ArrayLike
) -> ImageArray:
    """A strip uint8 [16 A, width, 3]: one bar a dimension, from zero towards its bound, and number.

    Args:
        action: [A] in physical units; names, low, high: [A] each.
    """
    values, bounds = np.asarray(action, dtype=float), np.stack([np.asarray(low), np.asarray(high)])
    strip = np.full((16 * len(values), width, 3), 255, dtype=np.uint8)
    text_width = min(110, width // 2)
    middle, reach = (text_width + width) // 2, max((width - text_width) // 2 - 4, 1)
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        top = 16 * row
        largest = max(float(np.abs(bounds[:, row]).max()), 1e-9)
        end = middle + round(float(np.clip(value / largest, -1, 1)) * reach)
        colour = _HIGH if value >= 0 else _LOW
        left, right = sorted((middle, end))
        cv2.rectangle(strip, (left, top + 4), (right, top + 12), colour, -1)
        cv2.line(strip, (middle, top + 1), (middle, top + 14), _INK, 1)
        cv2.putText(strip, f"{name} {value:+.2f}", (3, top + 12), _FONT, 0.36, _INK, 1, cv2.LINE_AA)
    return strip


def contact_sheet(
    rows: Sequence[ImageArray],
    labels: Sequence[str] = (),
    *,
    min_height: int = 96,
    gap: int = 3,
) -> ImageArray:
    """Rows of frames under one another, each below its label, as one RGB image.

    Args:
        rows: uint8 [T, h, w, 3] each; lengths and sizes may differ.
        labels: one for each row, or none at all.
        min_height: smaller frames are enlarged (whole multiples, pixels stay square).
        gap: white pixels between frames.

    Raises:
        DataError: no rows, or labels that do not fit.
    """
    if not len(rows) or (labels and len(labels) != len(rows)):
        rule = "at least one row, and one label for each or none"
        raise DataError("contact_sheet", rule, f"{len(rows)} rows, {len(labels)} labels")
    strips = []
    for index, row in enumerate(rows):
        frames = check_frames(row, field=f"rows[{index}]")
        factor = max(1, -(-min_height // frames.shape[1]))
        large = np.repeat(np.repeat(frames, factor, axis=1), factor, axis=2)
        spaced = np.pad(large, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
        strip = np.concatenate(list(spaced), axis=1)
        if labels:
            strip = np.concatenate([label_strip(strip.shape[1], labels[index]), strip], axis=0)
        strips.append(strip)
    width = max(strip.shape[1] for strip in strips)
    filled = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
        for strip in strips
    ]
    return np.concatenate(filled, axis=0)


def line_plot(
    series: Mapping[str, ArrayLike | tuple[ArrayLike, ...]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (6.4, 3.6),
) -> bytes:
    """A line chart as PNG bytes.

    Args:
        series: legend text -> y values, (x values, y values), or (x, y, half the width of a band
            around y); without x they count from 1.
        title, x_label, y_label: with units.
        size: inches, 110 pixels each.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, values in series.items():
        if isinstance(values, tuple):
            x, y, *band = (np.asarray(part) for part in values)
        else:
            y, band = np.asarray(values), []
            x = np.arange(1, len(y) + 1)
        marker = "o" if len(y) <= 64 else None
        (line,) = axes.plot(x, y, marker=marker, markersize=3.5, label=name)
        for half in band:
            axes.fill_between(x, y - half, y + half, color=line.get_color(), alpha=0.15, lw=0)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@dataclass(frozen=True)
class Section:
    """A part of a report, shown in this order: heading, text, table, pictures, videos.

    Attributes:
        heading: plain text.
        text: plain text; blank lines separate paragraphs.
        table: rows of cells, the first row is the head; numbers get four significant digits.
        pictures: (caption, RGB uint8 image or PNG/JPEG bytes).
        videos: (caption, path of an mp4 or its bytes).
    """

    heading: str
    text: str = ""
    table: Sequence[Sequence[object]] = ()
    pictures: Sequence[tuple[str, ImageArray | bytes]] = field(default_factory=tuple)
    videos: Sequence[tuple[str, str | os.PathLike[str] | bytes]] = field(default_factory=tuple)


def write_report(path: str | os.PathLike[str], title: str, sections: Sequence[Section]) -> Path:
    """Writes one HTML file that needs no other file and no network."""
    body = "\n".join(_section(item) for item in sections)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )
    return write_text(path, page)


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
img,video{max-width:100%;height:auto;image-rendering:auto}figure{margin:1rem 0}
figcaption{color:#666;font-size:.9rem}table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}
"""


def _section(section: Section) -> str:
    parts = [f"<section><h2>{html.escape(section.heading)}</h2>"]
    paragraphs = filter(None, (part.strip() for part in section.text.split("\n\n")))
    parts.extend(f"<p>{html.escape(item)}</p>" for item in paragraphs)
    if section.table:
        parts.append("<table>")
        for index, row in enumerate(section.table):
            tag = "th" if index == 0 else "td"
            cells = "".join(f"<{tag}>{html.escape(_cell(item))}</{tag}>" for item in row)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    for caption, picture in section.pictures:
        data = picture if isinstance(picture, bytes) else encode_image(picture, "png")
        kind = "image/jpeg" if data.startswith(b"\xff\xd8") else "image/png"
        parts.append(
            f'<figure><img alt="{html.escape(caption)}" src="{_uri(kind, data)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    for caption, video in section.videos:
        data = video if isinstance(video, bytes) else Path(video).read_bytes()
        parts.append(
            f'<figure><video controls muted loop src="{_uri("video/mp4", data)}"></video>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return "\n".join([*parts, "</section>"])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
