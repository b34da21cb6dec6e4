"""Decoding of video that arrives a packet a message: H.264, H.265, AV1, VP9, through PyAV."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from v2w_core.errors import DataError
from v2w_core.images import ImageArray

#: Names in messages -> names of FFmpeg's decoders.
CODECS = {
    "h264": "h264", "avc": "h264", "avc1": "h264", "h.264": "h264", "libx264": "h264",
    "h264_nvenc": "h264", "h265": "hevc", "hevc": "hevc", "h.265": "hevc", "libx265": "hevc",
    "hevc_nvenc": "hevc", "av1": "av1", "libsvtav1": "av1", "libaom-av1": "av1", "vp9": "vp9",
    "vp8": "vp8", "mpeg4": "mpeg4",
}  # fmt: skip


def codec_of(form: str) -> str:
    """FFmpeg's name of the codec in a format text ("h264", "hevc; yuv420p"); empty: no video."""
    words = form.lower().replace(";", " ").replace("/", " ").replace(",", " ").split()
    return next((CODECS[word] for word in words if word in CODECS), "")


class VideoDecoder:
    """A decoder that gives every frame the number of its packet.

    Raises:
        DataError: the codec is not known, or PyAV is not installed.
    """

    def __init__(self, form: str, topic: str) -> None:
        name = codec_of(form)
        if not name:
            rule = f"a video of {', '.join(sorted(set(CODECS.values())))}"
            raise DataError(f"{topic}: format", rule, form or "an empty format")
        try:
            import av
        except ImportError as error:
            rule = f"video ({name}) needs PyAV: pip install 'v2w[viz]'"
            raise DataError(f"{topic}: format", rule, str(error)) from error
        self._av = av
        self._context: Any = av.CodecContext.create(name, "r")
        self._context.thread_type = "SLICE"  # frames come out as soon as their packet is in

    def feed(
        self, number: int, data: bytes, wanted: Collection[int]
    ) -> Iterator[tuple[int, ImageArray]]:
        """Yields (number, RGB uint8 [H, W, 3]) of the wanted frames that a packet completes."""
        packet = self._av.Packet(data)
        packet.pts = packet.dts = number
        yield from self._decode(packet, wanted)

    def flush(self, wanted: Collection[int]) -> Iterator[tuple[int, ImageArray]]:
        """Yields the frames that are left in the decoder."""
        yield from self._decode(None, wanted)

    def _decode(self, packet: Any, wanted: Collection[int]) -> Iterator[tuple[int, ImageArray]]:
        try:
            frames = self._context.decode(packet)
        except self._av.error.FFmpegError:  # before the first key frame, or damaged
            return
        for frame in frames:
            if frame.pts in wanted and not getattr(frame, "is_corrupt", False):
                yield int(frame.pts), np.asarray(frame.to_ndarray(format="rgb24"))
