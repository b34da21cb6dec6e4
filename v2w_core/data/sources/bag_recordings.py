"""ROS bags as recordings, one for each unbroken part, from a single pass over the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from v2w_core.data.sources.bag import SUFFIXES, BagScan, scan_bag
from v2w_core.data.sources.recording import Recording, RecordingSet, source_name
from v2w_core.data.sources.resample import action_spec_for


def is_bag(source: Path) -> bool:
    """Whether the source is a bag or a folder with bags."""
    if source.is_file():
        return source.suffix in SUFFIXES
    inside = [item for item in source.glob("*") if item.suffix in SUFFIXES]
    return bool(inside) or any(source.glob("metadata.yaml")) or any(source.glob("*/metadata.yaml"))


def open_bag_recordings(
    source: Path,
    *,
    image_topic: str | None = None,
    odom_topic: str | None = None,
    rate_hz: float = 4.0,
    max_gap_s: float | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    action_low: Sequence[float] | None = None,
    action_high: Sequence[float] | None = None,
) -> RecordingSet:
    """Recordings of the unbroken parts of a bag.

    Args:
        source: the bag, or a folder with one bag.
        image_topic, odom_topic, rate_hz, max_gap_s, start_s, end_s: see
            :func:`~v2w_core.data.sources.bag.scan_bag`.
        action_low, action_high: bounds (dx m, dy m, dyaw rad); None: a little beyond the data.

    Raises:
        DataError: as for ``scan_bag``.
    """
    scan = scan_bag(
        source,
        image_topic=image_topic,
        odom_topic=odom_topic,
        rate_hz=rate_hz,
        max_gap_s=max_gap_s,
        start_s=start_s,
        end_s=end_s,
    )
    actions = np.concatenate([part.actions for part in scan.segments])
    low = None if action_low is None else tuple(action_low)
    high = None if action_high is None else tuple(action_high)
    return RecordingSet(
        title=f"bag {scan.path.name} {scan.image_topic} {scan.odom_topic}",
        name=source_name(source),
        action_spec=action_spec_for(actions, rate_hz, low, high),
        recordings=_recordings(scan),
        num_recordings=len(scan.segments),
        num_frames=scan.num_frames,
        facts={
            "image_topic": scan.image_topic,
            "odom_topic": scan.odom_topic,
            "num_images": scan.num_images,
        },
    )


def _recordings(scan: BagScan) -> Iterator[Recording]:
    for number, group in groupby(scan.frames(), key=lambda item: item[0]):
        part = scan.segments[number]
        yield Recording(
            name="",
            frames=(frame for _, frame in group),
            actions=part.actions,
            poses=part.poses,
            stamps_ns=part.stamps_ns,
            attributes={"segment": number, "num_segments": len(scan.segments)},
        )
