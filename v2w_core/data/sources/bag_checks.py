"""What is told about a bag's images: when they were taken, which are bad, how even steps are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.clocks import SECOND, TimeLine, Times
from v2w_core.data.bags.glances import mirrored_pictures
from v2w_core.data.bags.log import CameraLog
from v2w_core.data.bags.motion_rows import Stream
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.pictures import white_of
from v2w_core.data.bags.poses import Track
from v2w_core.data.notices import Notice
from v2w_core.data.sources.resample import Segment, rates_of

#: Steps whose length differs by more are told.
UNEVEN = 0.25
#: Share of messages in another frame from which on they are told.
MIXED = 0.05


def elapsed_s(line: TimeLine, times: Times, camera: CameraLog) -> NDArray[np.float64]:
    """Seconds [K] from the first good image to each; through a clock that was set back."""
    good = [position for position, i in enumerate(line.index) if int(i) not in camera.problems]
    first = good[0] if good else 0
    receive = dict(zip(times.index.tolist(), times.receive_ns.tolist(), strict=True))
    start = receive[int(line.index[first])]
    elapsed = np.empty(len(line), np.float64)
    for epoch in np.unique(line.epoch):
        inside = np.flatnonzero(line.epoch == epoch)
        since = line.stamps_ns[inside] - line.stamps_ns[inside[0]]
        if epoch == line.epoch[first]:
            begin = int(line.stamps_ns[inside[0]] - line.stamps_ns[first])
        else:
            begin = receive[int(line.index[inside[0]])] - start
        elapsed[inside] = (since + begin) / SECOND
    return elapsed


def bad_images(line: TimeLine, elapsed: NDArray[np.float64], camera: CameraLog) -> Iterator[Notice]:
    """What images are without a picture, with their times."""
    when = {int(i): float(t) for i, t in zip(line.index, elapsed, strict=True)}
    found = [(when[i], what) for i, what in camera.problems.items() if i in when]
    if found:
        shown = ", ".join(f"{what} at {at:.2f} s" for at, what in found[:5])
        more = f", and {len(found) - 5} more" if len(found) > 5 else ""
        text = f"{camera.topic}: {len(found)} of {len(line)} images are left out: {shown}{more}"
        numbers = {"images": len(found), "times_s": [round(at, 3) for at, _ in found[:100]]}
        yield Notice("bad_images", text, "what they leave is a gap", numbers)


def uneven(parts: Sequence[Segment], line: TimeLine, options: BagOptions) -> Iterator[Notice]:
    """Steps of different length, with the rates that the camera's divides into."""
    steps = np.concatenate([np.diff(part.stamps_ns) for part in parts]) * 1e-9
    limit = UNEVEN * float(np.median(steps))
    worst = max(float(np.ptp(np.diff(part.stamps_ns))) * 1e-9 for part in parts)
    if worst <= limit or options.max_gap_s is not None:
        return
    camera_hz = 1e9 / float(np.median(np.diff(np.unique(line.line_ns))))
    rates = rates_of(camera_hz, options.rate_hz)
    text = f"steps are between {steps.min():.3f} and {steps.max():.3f} s long: the camera has "
    text += f"{camera_hz:.2f} images a second"
    divides = any(abs(rate - options.rate_hz) < 0.05 * rate for rate in rates)
    remedy = f"rates that it divides into: --rate-hz {', '.join(f'{rate:g}' for rate in rates)}"
    if divides:
        remedy = "some are lost; the steps are in the episodes' stamps"
    numbers = {
        "shortest_s": round(float(steps.min()), 4),
        "longest_s": round(float(steps.max()), 4),
    }
    yield Notice("uneven_steps", text, remedy, {**numbers, "camera_hz": round(camera_hz, 3)})


def deep_pixels(camera: CameraLog) -> Iterator[Notice]:
    """Images of 16 bits that are scaled by the range that the camera fills."""
    white = white_of(camera)
    if white is not None:
        bits = white.bit_length()
        text = f"{camera.topic}: {camera.form} fills {bits} of 16 bits (brightest pixel "
        text += f"{camera.white}): white is {white}"
        remedy = "darker recordings of this camera may get another white; record its 8-bit topic"
        yield Notice("deep_pixels", text, remedy, {"bits": bits, "brightest": camera.white})


def turns_of_pictures(camera: CameraLog, line: TimeLine, track: Track) -> Iterator[Notice]:
    """Whether the pictures turn against the heading."""
    seen = sorted({number for glance in camera.glances for number in (glance.first, glance.second)})
    where = dict(zip(line.index.tolist(), line.line_ns.tolist(), strict=True))
    at = [number for number in seen if number in where]
    if len(at) < 2:
        return
    times = np.array([where[number] for number in at], np.int64)
    inside = (times >= track.line_ns[0]) & (times <= track.line_ns[-1])
    yaw = np.interp(times, track.line_ns, np.unwrap(track.poses[:, 3]))
    known = {number: float(y) for number, y, good in zip(at, yaw, inside, strict=True) if good}
    notice = mirrored_pictures(list(camera.glances), known.get)
    if notice is not None:
        yield notice


def several_sources(camera: CameraLog, motion: str, stream: Stream) -> Iterator[Notice]:
    """Whether two cameras, or two that know the motion, publish on one topic."""
    others = sum(camera.frames.values()) - max(camera.frames.values(), default=0)
    found = [(camera.topic, others, len(camera.header_ns)), (motion, stream.mixed, len(stream))]
    for name, mixed, total in found:
        if mixed > MIXED * total:
            text = f"{name}: {mixed} of {total} messages are in another frame than the others"
            remedy = "do two publish on this topic? Record each on a topic of its own"
            yield Notice("two_sources", text, remedy, {"messages": mixed})
