"""ROS recordings: rosbag2 (sqlite3, MCAP), ROS 1 .bag files, and Foxglove's channels in MCAP.

They are read in two passes, to save memory. The first reads stamps and motion, from which the
images are chosen (``bag_plan``). Its steps each have a module in ``v2w_core.data.bags``:

  files -> bag -> topics -> log -> clocks -> motion, poses -> jumps, plausibility -> resample

The second decodes only the chosen images, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_core.data.bags.bag import open_bag
from v2w_core.data.bags.files import BagFiles, find_bag
from v2w_core.data.bags.log import CameraLog
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.bags.pictures import read_pictures
from v2w_core.data.bags.topics import likely_commands
from v2w_core.data.notices import Notice
from v2w_core.data.sources.bag_plan import plan
from v2w_core.data.sources.resample import Int64Array, Segment, action_spec_for
from v2w_core.errors import DataError
from v2w_core.geometry import actions_from_poses
from v2w_core.images import ImageArray, resize_frame
from v2w_core.spec import ActionSpec, ObservationSpec


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
        commands: the topic of the commands; empty: the displacement stands for them.
        could_be_commands: a topic that looks like commands and was not asked for; empty: none.
    """

    files: BagFiles
    camera: CameraLog
    odom_topic: str
    rate_hz: float
    segments: tuple[Segment, ...]
    times_s: tuple[NDArray[np.float64], ...]
    notices: tuple[Notice, ...]
    commands: str = ""
    could_be_commands: str = ""

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
        found = plan(bag, chosen)
        return BagScan(
            files,
            found.camera,
            found.odom_topic,
            chosen.rate_hz,
            found.segments,
            found.times_s,
            found.notices,
            commands=found.commands,
            could_be_commands="" if found.commands else likely_commands(bag) or "",
        )


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
