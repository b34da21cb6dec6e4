"""ROS recordings: rosbag2 (sqlite3, MCAP; a folder or a bare file) and ROS 1 .bag files.

They are read in two passes, to save memory: the first reads odometry and the images' header stamps,
the second decodes only the chosen images, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.ros_images import frame_from_message
from v2w_core.data.sources.bag_reader import (
    CAMERAS,
    ODOMETRY,
    POSES,
    find_topic,
    header_stamp,
    messages,
    open_bag,
    parse,
    read_odometry,
)
from v2w_core.data.sources.resample import (
    Int64Array,
    Segment,
    action_spec_for,
    check_stamps,
    plan_segments,
)
from v2w_core.errors import DataError
from v2w_core.geometry import actions_from_poses
from v2w_core.images import ImageArray, resize_frame
from v2w_core.spec import ActionSpec, ObservationSpec

SUFFIXES = (".bag", ".mcap", ".db3")


@dataclass(frozen=True)
class BagRecording:
    """An unbroken part of a recording at a steady rate, in memory.

    Attributes:
        frames: RGB uint8 [T, H, W, 3].
        stamps_ns: int64 [T], the images' header stamps.
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
        segments: unbroken parts, in order.
        num_images: number of images of the topic; the segments use some of them.
        first_stamp_ns: header stamp of the topic's first image.
    """

    path: Path
    image_topic: str
    odom_topic: str
    rate_hz: float
    segments: tuple[Segment, ...]
    num_images: int
    first_stamp_ns: int

    @property
    def num_frames(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def frames(
        self, observation: ObservationSpec | None = None, segments: Sequence[int] | None = None
    ) -> Iterator[tuple[int, ImageArray]]:
        """Decoded frames (segment number, RGB uint8 [H, W, 3]) in order, one at a time.

        Args:
            observation: frame format to resize to; None keeps the recorded size.
            segments: indices of the segments to read; None: all.

        Raises:
            DataError: an image cannot be decoded, or the bag is damaged.
        """
        wanted = range(len(self.segments)) if segments is None else segments
        owner = {int(i): number for number in wanted for i in self.segments[number].indices}
        last = max(owner, default=-1)
        with open_bag(self.path) as reader:
            for index, (kind, raw) in enumerate(messages(reader, self.image_topic, self.path)):
                if index in owner:
                    message = parse(reader, raw, kind, self.path)
                    frame = frame_from_message(message, field=f"{self.image_topic}[{index}]")
                    yield owner[index], resize_frame(frame, observation) if observation else frame
                if index >= last:
                    return


def find_bag(path: str | Path) -> Path:
    """The bag at ``path``: a rosbag2 folder, a file, or the only bag in a folder.

    Raises:
        DataError: ``path`` does not exist, or holds no bag or several.
    """
    source = Path(path)
    if not source.exists():
        raise DataError(
            str(source), "an existing bag (folder, .mcap, .db3 or .bag)", "no such file"
        )
    if _is_bag(source):
        return source
    rule = "a rosbag2 folder (with metadata.yaml), an .mcap or .db3 file, or a ROS 1 .bag"
    if source.is_file():
        raise DataError(str(source), rule, f"a file called {source.name}")
    inside = sorted(item for item in source.iterdir() if _is_bag(item))
    if not inside:
        raise DataError(str(source), rule, "a folder without a bag")
    if len(inside) > 1:
        names = ", ".join(item.name for item in inside)
        raise DataError(str(source), f"one bag, choose one of {names}", f"{len(inside)} bags")
    return inside[0]


def _is_bag(path: Path) -> bool:
    if path.is_dir():
        return (path / "metadata.yaml").is_file()
    return path.suffix in SUFFIXES


def scan_bag(
    path: str | Path,
    *,
    image_topic: str | None = None,
    odom_topic: str | None = None,
    rate_hz: float = 4.0,
    max_gap_s: float | None = None,
    min_frames: int = 2,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> BagScan:
    """The first pass: finds topics, stamps, poses and the unbroken parts of the recording.

    Args:
        path: a rosbag2 folder, a bare .mcap or .db3 file, or a ROS 1 .bag file.
        image_topic, odom_topic: names of the topics; None finds the only one of a fitting type.
        rate_hz, max_gap_s, min_frames: see :func:`~v2w_core.data.sources.resample.plan_segments`.
        start_s, end_s: range of images to use, from start_s to before end_s, in seconds after the
            first image.

    Raises:
        DataError: no bag, a damaged bag, no camera or odometry, several of them and none named,
            header stamps that run backwards, or camera and odometry without common time.
    """
    source = find_bag(path)
    with open_bag(source) as reader:
        camera = find_topic(reader, CAMERAS, (), image_topic, "image-topic", "camera")
        odometry = find_topic(reader, ODOMETRY, POSES, odom_topic, "odom-topic", "odometry")
        odom_stamps, odom_poses = read_odometry(reader, odometry, source)
        images = messages(reader, camera, source)
        stamps = np.array([header_stamp(raw, reader.is2, camera) for _, raw in images], np.int64)
    check_stamps(stamps, camera)
    low = stamps[0] + round(start_s * 1e9)
    high = stamps[-1] + 1 if end_s is None else stamps[0] + round(end_s * 1e9)
    window = np.flatnonzero((stamps >= low) & (stamps < high))
    if not window.size:
        length = (stamps[-1] - stamps[0]) * 1e-9
        raise DataError("start_s, end_s", f"within the {length:.1f} s of images", (start_s, end_s))
    segments = plan_segments(
        stamps[window],
        odom_stamps,
        odom_poses,
        rate_hz=rate_hz,
        max_gap_s=max_gap_s,
        min_frames=min_frames,
    )
    shifted = [Segment(part.indices + window[0], part.stamps_ns, part.poses) for part in segments]
    first = int(stamps[0])
    return BagScan(source, camera, odometry, rate_hz, tuple(shifted), len(stamps), first)


def read_bag(
    path: str | Path,
    *,
    image_topic: str | None = None,
    odom_topic: str | None = None,
    rate_hz: float = 4.0,
    observation: ObservationSpec | None = None,
    max_gap_s: float | None = None,
    segment: int | None = None,
) -> BagRecording:
    """One unbroken part of a recording, in memory.

    Args:
        path, image_topic, odom_topic, rate_hz, max_gap_s: see :func:`scan_bag`.
        observation: frame format to resize to; None keeps the recorded size.
        segment: index of the part; None: the longest.

    Raises:
        DataError: as for :func:`scan_bag`, or ``segment`` does not exist.
    """
    scan = scan_bag(
        path, image_topic=image_topic, odom_topic=odom_topic, rate_hz=rate_hz, max_gap_s=max_gap_s
    )
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
        rate_hz=rate_hz,
        segment=number,
        num_segments=len(lengths),
    )


def stack_frames(frames: Sequence[ImageArray], topic: str) -> ImageArray:
    """Frames of one size [H, W, 3] -> uint8 [T, H, W, 3].

    Raises:
        DataError: the frames have different sizes.
    """
    sizes = sorted({frame.shape for frame in frames})
    if len(sizes) != 1:
        raise DataError(topic, "images of one size; give an image size", sizes)
    return np.stack(frames)
