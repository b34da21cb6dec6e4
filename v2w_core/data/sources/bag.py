"""ROS recordings: rosbag2 (sqlite3, MCAP), ROS 1 .bag files, and Foxglove's channels in MCAP.

They are read in two passes, to save memory. The first reads stamps and motion; from these the
images are chosen, in steps that each have a module in ``v2w_core.data.bags``:

  files -> bag -> topics -> log -> clocks -> motion, poses -> jumps, plausibility -> resample

The second decodes only the chosen images, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.bag import Bag, open_bag
from v2w_core.data.bags.clocks import (
    SECOND,
    choose_stamps,
    compare_clocks,
    time_lines,
)
from v2w_core.data.bags.files import BagFiles, find_bag
from v2w_core.data.bags.jumps import without_jumps
from v2w_core.data.bags.log import CameraLog, read_log
from v2w_core.data.bags.motion import check_density, choose_stream, in_window, make_track
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.pictures import read_pictures
from v2w_core.data.bags.plausibility import check, walk_of
from v2w_core.data.bags.topics import find_camera, find_motion
from v2w_core.data.notices import Notice
from v2w_core.data.sources.bag_checks import (
    bad_images,
    deep_pixels,
    elapsed_s,
    several_sources,
    turns_of_pictures,
    uneven,
)
from v2w_core.data.sources.resample import (
    MAX_ODOMETRY_GAP_S,
    Int64Array,
    Segment,
    action_spec_for,
    plan_segments,
)
from v2w_core.errors import DataError
from v2w_core.geometry import actions_from_poses
from v2w_core.images import ImageArray, resize_frame
from v2w_core.spec import ActionSpec, ObservationSpec

#: Share of bad images above which one of them is no gap: the nearest good image is taken.
MANY_BAD = 0.1
#: Odometry beyond the range of the images that is used for interpolation.
_MARGIN_NS = SECOND


@dataclass(frozen=True)
class BagRecording:
    """An unbroken part of a recording at a steady rate, in memory.

    Attributes:
        frames: RGB uint8 [T, H, W, 3].
        stamps_ns: int64 [T], the images' stamps.
        poses: float64 [T, 4], x y z (m) and yaw (rad) in the odometry's frame.
        rate_hz: images per second.
        segment, num_segments: index of this part, and number of parts.
    """

    path: Path
    frames: ImageArray
    stamps_ns: Int64Array
    poses: NDArray[np.float64]
    image_topic: str
    odom_topic: str
    rate_hz: float
    segment: int = 0
    num_segments: int = 1

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def actions(self) -> NDArray[np.float32]:
        """Body-frame displacements (dx m, dy m, dyaw rad) between the frames, float32 [T-1, 3]."""
        return actions_from_poses(self.poses).astype(np.float32)

    @property
    def action_spec(self) -> ActionSpec:
        """Names and units of the actions, with bounds a little beyond the data."""
        return action_spec_for(self.actions, self.rate_hz)


@dataclass(frozen=True)
class BagScan:
    """Result of the first pass; ``frames`` runs the second.

    Attributes:
        files: the files of the bag.
        camera: the images' stamps, and how they are decoded.
        odom_topic: where the motion was read.
        rate_hz: wanted images per second.
        segments: unbroken parts, in order.
        times_s: float64 [T] for each part, seconds after the first good image.
        notices: everything that the user should know.
    """

    files: BagFiles
    camera: CameraLog
    odom_topic: str
    rate_hz: float
    segments: tuple[Segment, ...]
    times_s: tuple[NDArray[np.float64], ...]
    notices: tuple[Notice, ...]

    @property
    def path(self) -> Path:
        return self.files.path

    @property
    def image_topic(self) -> str:
        return self.camera.topic

    @property
    def num_images(self) -> int:
        """Number of images of the topic; the segments use some of them."""
        return len(self.camera.header_ns)

    @property
    def num_frames(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def frames(
        self, observation: ObservationSpec | None = None, segments: Sequence[int] | None = None
    ) -> Iterator[tuple[int, ImageArray | None]]:
        """Decoded frames (segment number, RGB uint8 [H, W, 3]) in order, one at a time.

        A picture that turns out to be damaged is None.

        Args:
            observation: frame format to resize to; None keeps the recorded size.
            segments: indices of the segments to read; None: all.

        Raises:
            DataError: images of this encoding cannot be decoded, or the bag is damaged.
        """
        wanted = range(len(self.segments)) if segments is None else segments
        order = [(int(i), number) for number in wanted for i in self.segments[number].indices]
        pictures = read_pictures(self.files, self.camera, [index for index, _ in order])
        for (_, number), frame in zip(order, pictures, strict=True):
            if frame is not None and observation is not None:
                frame = resize_frame(frame, observation)
            yield number, frame


def scan_bag(
    source: str | Path | BagFiles, options: BagOptions | None = None, **changes: object
) -> BagScan:
    """The first pass: finds topics, stamps, poses and the unbroken parts of the recording.

    Args:
        source: a bag, see :func:`~v2w_core.data.bags.files.find_bags`.
        options: how it is read.
        changes: single options by name.

    Raises:
        DataError: no bag or a damaged one, no camera or odometry, several of them and none named,
            stamps that were never set, or camera and odometry without common time.
    """
    chosen = replace(options or BagOptions(), **changes)  # type: ignore[arg-type]
    files = source if isinstance(source, BagFiles) else find_bag(Path(source))
    with open_bag(files) as bag:
        return _scan(bag, files, chosen)


def _scan(bag: Bag, files: BagFiles, options: BagOptions) -> BagScan:
    topic = find_camera(bag, options.image_topic)
    motion = find_motion(bag, options.odom_topic, options.motion_from)
    log = read_log(bag, topic, motion)
    stream = choose_stream(log.streams, motion, options.tf_frames)
    camera = log.camera
    images = choose_stamps(
        topic,
        camera.header_ns,
        camera.receive_ns,
        stamps=options.stamps,
        offset_s=options.camera_offset_s,
    )
    rows = choose_stamps(
        stream.name, stream.stream.header_ns, stream.stream.receive_ns, stamps=options.stamps
    )
    clocks = compare_clocks(images, rows)
    notices = [*bag.notices, *images.notices, *rows.notices, *clocks]
    notices += several_sources(camera, stream.name, stream.stream)
    image_line, row_line = time_lines([images, rows])
    elapsed = elapsed_s(image_line, images, camera)
    # Images before the first good one are told as bad, unless the user cuts them off.
    window = (elapsed >= (options.start_s or -np.inf)) & (elapsed < (options.end_s or np.inf))
    if not window.any():
        rule = f"within the {elapsed[-1]:.1f} s of images"
        raise DataError("start_s, end_s", rule, (options.start_s, options.end_s))
    image_line, elapsed = image_line.where(window), elapsed[window]
    low, high = int(image_line.line_ns[0]), int(image_line.line_ns[-1])
    in_range = in_window(row_line, low - _MARGIN_NS, high + _MARGIN_NS)
    track = make_track(stream, in_range if len(in_range) else row_line, motion, options)
    told = list(check_density(track, stream.name, MAX_ODOMETRY_GAP_S, options.rate_hz))
    track = without_jumps(track)
    bad = np.isin(image_line.index, list(camera.problems))
    if bad.all():
        rule = f"pictures that can be decoded; all {len(bad)} are bad: is it the right camera?"
        raise DataError(f"{topic}: images", rule, camera.problems[int(image_line.index[0])])
    told += bad_images(image_line, elapsed, camera)
    if bad.mean() > MANY_BAD:  # their gaps would be everywhere: the nearest good ones are taken
        image_line, elapsed = image_line.where(~bad), elapsed[~bad]
        bad = np.zeros(len(image_line), bool)
    try:
        parts = plan_segments(
            image_line.line_ns,
            track.line_ns,
            track.poses,
            rate_hz=options.rate_hz,
            max_gap_s=options.max_gap_s,
            min_frames=options.min_frames,
            broken=track.broken,
            bad=bad,
        )
    except DataError as error:  # perhaps because the clocks are apart
        rule = "; ".join([error.rule, *map(str, clocks)])
        raise DataError(error.field, rule, error.value) from error
    notices += [*track.notices, *check(walk_of(track, stream.stream.frames))]
    if not any(notice.code in ("mirrored", "ned_frame", "upside_down") for notice in notices):
        notices += turns_of_pictures(camera, image_line, track)
    notices += [*told, *uneven(parts, image_line, options)]
    notices += deep_pixels(camera)
    segments = tuple(
        Segment(image_line.index[p.indices], image_line.stamps_ns[p.indices], p.poses)
        for p in parts
    )
    times = tuple(elapsed[p.indices] for p in parts)
    return BagScan(files, camera, stream.name, options.rate_hz, segments, times, tuple(notices))


def read_bag(
    path: str | Path,
    options: BagOptions | None = None,
    *,
    observation: ObservationSpec | None = None,
    segment: int | None = None,
    **changes: object,
) -> BagRecording:
    """One unbroken part of a recording, in memory.

    Args:
        path, options, changes: see :func:`scan_bag`.
        observation: frame format to resize to; None keeps the recorded size.
        segment: index of the part; None: the longest.

    Raises:
        DataError: as for :func:`scan_bag`, ``segment`` does not exist, or a picture is damaged.
    """
    scan = scan_bag(path, options, **changes)
    lengths = [len(part) for part in scan.segments]
    number = int(np.argmax(lengths)) if segment is None else segment
    if not 0 <= number < len(lengths):
        raise DataError("segment", f"from 0 to {len(lengths) - 1}", segment)
    frames = [frame for _, frame in scan.frames(observation, [number])]
    part = scan.segments[number]
    return BagRecording(
        path=scan.path,
        frames=stack_frames(frames, scan.image_topic),
        stamps_ns=part.stamps_ns,
        poses=part.poses,
        image_topic=scan.image_topic,
        odom_topic=scan.odom_topic,
        rate_hz=scan.rate_hz,
        segment=number,
        num_segments=len(lengths),
    )


def stack_frames(frames: Sequence[ImageArray | None], topic: str) -> ImageArray:
    """Frames of one size [H, W, 3] -> uint8 [T, H, W, 3].

    Raises:
        DataError: the frames have different sizes, or one is damaged.
    """
    good = [frame for frame in frames if frame is not None]
    if len(good) < len(frames):
        rule = "pictures that can be decoded; v2w convert leaves the others out"
        raise DataError(topic, rule, f"{len(frames) - len(good)} damaged ones")
    sizes = sorted({frame.shape for frame in good})
    if len(sizes) != 1:
        raise DataError(topic, "images of one size; give an image size", sizes)
    return np.stack(good)
