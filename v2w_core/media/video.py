"""Writing of video files. PyAV is imported when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from v2w_core.errors import DataError
from v2w_core.files import replaced
from v2w_core.images import ImageArray, check_frames


def write_video(
    path: str | os.PathLike[str], frames: Iterable[ImageArray] | ImageArray, fps: float
) -> Path:
    """Writes an H.264 mp4 in yuv420p, which every browser plays.

    Args:
        path: the target file, usually *.mp4.
        frames: RGB uint8, [T, H, W, 3] or an iterable of [H, W, 3] of one size; odd sizes are
            padded by one row or column.
        fps: frames per second, positive.

    Raises:
        DataError: there are no frames, they are not RGB uint8 of one size, or ``fps`` is invalid.
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
