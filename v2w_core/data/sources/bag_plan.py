"""The first pass over a bag: which of its images are used, and how the robot moved between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.bag import Bag
from v2w_core.data.bags.clocks import (
    SECOND,
    TimeLine,
    Times,
    choose_stamps,
    compare_clocks,
    time_lines,
)
from v2w_core.data.bags.commands import commands_of
from v2w_core.data.bags.jumps import without_jumps
from v2w_core.data.bags.log import BagLog, CameraLog, read_log
from v2w_core.data.bags.motion import Chosen, check_density, choose_stream, in_window, make_track
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.plausibility import check, walk_of
from v2w_core.data.bags.poses import Track
from v2w_core.data.bags.topics import Motion, find_camera, find_commands, find_motion
from v2w_core.data.notices import Notice
from v2w_core.data.sources.bag_checks import (
    bad_images,
    deep_pixels,
    elapsed_s,
    several_sources,
    turns_of_pictures,
    uneven,
)
from v2w_core.data.sources.resample import MAX_ODOMETRY_GAP_S, Segment, plan_segments
from v2w_core.errors import DataError

#: Share of bad images above which one of them is no gap: the nearest good image is taken.
MANY_BAD = 0.1
#: Odometry beyond the range of the images that is used for interpolation.
_MARGIN_NS = SECOND


@dataclass(frozen=True)
class BagPlan:
    """What of a bag is used.

    Attributes:
        camera: the images' stamps, and how they are decoded.
        odom_topic: where the motion was read.
        segments: unbroken parts, in order.
        times_s: float64 [T] for each part, seconds after the first good image.
        notices: everything that the user should know.
        commands: where the commands were read; empty: nowhere.
    """

    camera: CameraLog
    odom_topic: str
    segments: tuple[Segment, ...]
    times_s: tuple[NDArray[np.float64], ...]
    notices: tuple[Notice, ...]
    commands: str = ""


@dataclass(frozen=True)
class _Images:
    """Images that may be used: their order in time, seconds, and which have no picture."""

    line: TimeLine
    elapsed: NDArray[np.float64]
    bad: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> _Images:
        return _Images(self.line.where(mask), self.elapsed[mask], self.bad[mask])


def plan(bag: Bag, options: BagOptions) -> BagPlan:
    """Finds topics, stamps, poses and the unbroken parts of a recording.

    Raises:
        DataError: no camera or odometry, several of them and none named, stamps that were never
            set, nothing that can be decoded, or camera and odometry without common time.
    """
    topic = find_camera(bag, options.image_topic)
    motion = find_motion(bag, options.odom_topic, options.motion_from)
    orders = find_commands(bag, options.commands) if options.commands else None
    log = read_log(bag, topic, motion, orders)
    stream = choose_stream(log.streams, motion, options.tf_frames)
    times = list(_times(log, stream, orders, options))
    clocks = compare_clocks(times[0], times[1])
    notices = [*bag.notices, *(notice for item in times for notice in item.notices), *clocks]
    notices += several_sources(log.camera, stream.name, stream.stream)
    image_line, row_line, *command_line = time_lines(times)
    images = _in_range(image_line, times[0], log.camera, options)
    track, slow = _track(stream, row_line, images.line, motion, options)
    damaged = list(bad_images(images.line, images.elapsed, log.camera))
    if images.bad.mean() > MANY_BAD:  # their gaps would be everywhere
        images = images.where(~images.bad)
    parts = _parts(images, track, options, clocks)
    notices += [*track.notices, *check(walk_of(track, stream.stream.frames))]
    if not any(notice.code in ("mirrored", "ned_frame", "upside_down") for notice in notices):
        notices += turns_of_pictures(log.camera, images.line, track)
    notices += [*slow, *damaged, *uneven(parts, images.line, options), *deep_pixels(log.camera)]
    segments = [
        Segment(images.line.index[p.indices], images.line.stamps_ns[p.indices], p.poses)
        for p in parts
    ]
    if orders and log.commands:
        lines = [images.line.line_ns[p.indices] for p in parts]
        commands = commands_of(log.commands, command_line[0], orders.topic, np.concatenate(lines))
        notices += commands.silence(lines)
        segments = [
            replace(segment, commands=commands.over(line))
            for segment, line in zip(segments, lines, strict=True)
        ]
    return BagPlan(
        log.camera,
        stream.name,
        tuple(segments),
        tuple(images.elapsed[p.indices] for p in parts),
        tuple(notices),
        orders.topic if orders else "",
    )


def _times(
    log: BagLog, stream: Chosen, orders: Motion | None, options: BagOptions
) -> Iterator[Times]:
    """The stamps that count: of the images, of the motion, and of commands if there are any."""
    camera, rows = log.camera, stream.stream
    yield choose_stamps(
        camera.topic,
        camera.header_ns,
        camera.receive_ns,
        stamps=options.stamps,
        offset_s=options.camera_offset_s,
    )
    yield choose_stamps(stream.name, rows.header_ns, rows.receive_ns, stamps=options.stamps)
    if orders and log.commands:
        stamps = log.commands.header_ns, log.commands.receive_ns
        yield choose_stamps(orders.topic, *stamps, stamps=options.stamps)


def _in_range(line: TimeLine, times: Times, camera: CameraLog, options: BagOptions) -> _Images:
    """The images from --start-s to --end-s.

    Raises:
        DataError: there are none, or not one has a picture.
    """
    elapsed = elapsed_s(line, times, camera)
    # Images before the first good one are told as bad, unless the user cuts them off.
    window = (elapsed >= (options.start_s or -np.inf)) & (elapsed < (options.end_s or np.inf))
    if not window.any():
        rule = f"within the {elapsed[-1]:.1f} s of images"
        raise DataError("start_s, end_s", rule, (options.start_s, options.end_s))
    bad = np.isin(line.index, list(camera.problems))
    images = _Images(line, elapsed, bad).where(window)
    if images.bad.all():
        rule = f"pictures that can be decoded; all {len(images.bad)} are bad: is it the right "
        rule += "camera?"
        first = camera.problems[int(images.line.index[0])]
        raise DataError(f"{camera.topic}: images", rule, first)
    return images


def _track(
    stream: Chosen, rows: TimeLine, images: TimeLine, motion: Motion, options: BagOptions
) -> tuple[Track, list[Notice]]:
    """How the robot moved while images were taken, broken at jumps; and where it is not known."""
    low, high = int(images.line_ns[0]), int(images.line_ns[-1])
    inside = in_window(rows, low - _MARGIN_NS, high + _MARGIN_NS)
    track = make_track(stream, inside if len(inside) else rows, motion, options)
    slow = list(check_density(track, stream.name, MAX_ODOMETRY_GAP_S, options.rate_hz))
    return without_jumps(track), slow


def _parts(
    images: _Images, track: Track, options: BagOptions, clocks: Sequence[Notice]
) -> list[Segment]:
    try:
        return plan_segments(
            images.line.line_ns,
            track.line_ns,
            track.poses,
            rate_hz=options.rate_hz,
            max_gap_s=options.max_gap_s,
            min_frames=options.min_frames,
            broken=track.broken,
            bad=images.bad,
        )
    except DataError as error:  # perhaps because the clocks are apart
        rule = "; ".join([error.rule, *map(str, clocks)])
        raise DataError(error.field, rule, error.value) from error
