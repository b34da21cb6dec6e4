"""Reports: a single HTML file with embedded tables, pictures and videos."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from v2w_core.files import write_text
from v2w_core.images import ImageArray, encode_image


@dataclass(frozen=True)
class Section:
    """A section of a report: heading, text, table, pictures and videos, in this order.

    Attributes:
        heading: plain text.
        text: plain text; blank lines separate paragraphs.
        table: rows of cells, the header first; floats have four significant digits.
        pictures: (caption, RGB uint8 image or PNG/JPEG bytes).
        videos: (caption, path of an mp4 or its bytes).
    """

    heading: str
    text: str = ""
    table: Sequence[Sequence[object]] = ()
    pictures: Sequence[tuple[str, ImageArray | bytes]] = field(default_factory=tuple)
    videos: Sequence[tuple[str, str | os.PathLike[str] | bytes]] = field(default_factory=tuple)


def write_report(path: str | os.PathLike[str], title: str, sections: Sequence[Section]) -> Path:
    """Writes a self-contained HTML file."""
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
