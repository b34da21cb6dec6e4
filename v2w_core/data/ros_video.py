"""Decoding of video that arrives a packet a message: H.264, H.265, AV1, VP9, through PyAV."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from v2w_core.errors import DataError
from v2w_core.images import ImageArray

#: How messages write a codec, with an encoder's name around it or not ("libx264", "hevc_vaapi").
_WRITTEN = {
    "h264": r"[hx]\.?264|avc",
    "hevc": r"[hx]\.?265|hevc",
    "av1": r"av1|rav1e",
    "vp9": r"vp9",
    "vp8": r"vp8|libvpx",
    "mpeg4": r"mpeg-?4",
}
#: Decoders, best first: FFmpeg's own of AV1 needs a graphics card.
_DECODERS = {"av1": ("libdav1d", "libaom-av1", "av1")}
#: What the decoder of H.264 says where a packet is missing before this one.
_GAP = "frame num gap"
#: First bytes of the units that begin a stream: parameters, a key frame, a delimiter, additions.
_FIRST = {
    "h264": (0x67, 0x47, 0x27, 0x65, 0x45, 0x25, 0x09, 0x06),
    "hevc": (0x40, 0x42, 0x46, 0x26, 0x28, 0x2A, 0x4E),
}


def codec_of(form: str) -> str:
    """FFmpeg's name of the codec in a format text ("h264", "hevc; yuv420p"); empty: no video."""
    text = form.lower()
    return next((name for name, mark in _WRITTEN.items() if re.search(mark, text)), "")


def codec_in(data: bytes | memoryview) -> str:
    """The codec of a stream that begins with these bytes: H.264 or H.265 units; empty: neither."""
    start = bytes(data[:5])
    at = 4 if start.startswith(b"\0\0\0\1") else 3 if start.startswith(b"\0\0\1") else 0
    unit = start[at : at + 1]
    return next((name for name, first in _FIRST.items() if at and unit and unit[0] in first), "")


class VideoDecoder:
    """A decoder that gives every frame the number of its packet.

    After a lost packet frames are smeared until the next key frame: they are not given out. The
    decoder finds losses itself in H.264 and H.265; of other codecs the caller tells them.

    Raises:
        DataError: the codec is not known, or PyAV is not installed.
    """

    def __init__(self, form: str, topic: str) -> None:
        name = codec_of(form)
        if not name:
            rule = f"a video of {', '.join(sorted(_WRITTEN))}"
            raise DataError(f"{topic}: format", rule, form or "an empty format")
        try:
            import av
        except ImportError as error:
            rule = f"video ({name}) needs PyAV: pip install 'v2w[viz]'"
            raise DataError(f"{topic}: format", rule, str(error)) from error
        self._av = av
        self.finds_losses = name in ("h264", "hevc")
        self._name = name
        self._losses: list[int] = []  # numbers of packets before which others are missing
        known = [item for item in _DECODERS.get(name, (name,)) if item in av.codecs_available]
        if not known:
            rule = "a video that this PyAV decodes: pip install --upgrade av"
            raise DataError(f"{topic}: format", rule, form)
        self._context: Any = av.CodecContext.create(known[0], "r")
        self._context.thread_type = "SLICE"  # frames come out as soon as their packet is in

    def feed(
        self, number: int, data: bytes, wanted: Collection[int], *, lost: bool = False
    ) -> Iterator[tuple[int, ImageArray]]:
        """Yields (number, RGB uint8 [H, W, 3]) of the wanted frames that a packet completes.

        Args:
            number: the packet's number.
            data: its bytes.
            wanted: numbers of the frames to yield.
            lost: whether packets are missing before this one.
        """
        packet = self._av.Packet(data)
        packet.pts = packet.dts = number
        yield from self._decode(packet, wanted, lost)

    def flush(self, wanted: Collection[int]) -> Iterator[tuple[int, ImageArray]]:
        """Yields the frames that are left in the decoder."""
        yield from self._decode(None, wanted, False)

    def _decode(
        self, packet: Any, wanted: Collection[int], lost: bool
    ) -> Iterator[tuple[int, ImageArray]]:
        try:
            with self._watched() as said:
                frames = self._context.decode(packet)
        except self._av.error.FFmpegError:  # before the first key frame, or damaged
            return
        if packet is not None and (lost or any(_GAP in line[2].lower() for line in said)):
            self._losses.append(packet.pts)
        for frame in frames:
            if frame.key_frame:
                self._losses = [number for number in self._losses if number > frame.pts]
            smeared = frame.is_corrupt or any(number <= frame.pts for number in self._losses)
            if frame.pts in wanted and not smeared:
                yield int(frame.pts), np.asarray(frame.to_ndarray(format="rgb24"))

    @contextmanager
    def _watched(self) -> Iterator[list[Any]]:
        """What FFmpeg says meanwhile; a gap in H.264 it tells nowhere else."""
        if self._name != "h264":
            yield []
            return
        log = self._av.logging
        level = log.get_level()
        log.set_level(log.DEBUG)
        try:
            with log.Capture() as lines:
                yield lines
        finally:
            log.set_level(level)
