"""ROS bags as recordings, one for each unbroken part, from a single pass over the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.data.bags.files import BagFiles, find_bags, holds_bags
from v2w_core.data.bags.options import BagOptions
from v2w_core.data.notices import Notice, as_attributes
from v2w_core.data.sources.bag import BagScan, scan_bag
from v2w_core.data.sources.recording import Recording, RecordingSet, source_name
from v2w_core.data.sources.resample import action_spec_for
from v2w_core.errors import DataError, V2WError


def is_bag(source: Path) -> bool:
    """Whether the source is a bag or a folder with bags."""
    return holds_bags(source)


@dataclass
class _Scans:
    """The first pass over every bag of a source: what can be read, and what cannot."""

    scans: list[BagScan] = field(default_factory=list)
    failed: list[tuple[BagFiles, V2WError]] = field(default_factory=list)


def open_bag_recordings(
    source: Path,
    *,
    action_low: Sequence[float] | None = None,
    action_high: Sequence[float] | None = None,
    tf_frames: Sequence[str] | None = None,
    **options: Any,
) -> RecordingSet:
    """Recordings of the unbroken parts of a bag, or of all bags in a folder.

    Of several bags, those that cannot be used are left out with a notice.

    Args:
        source: the bag, or a folder of bags.
        action_low, action_high: bounds (dx m, dy m, dyaw rad); None: a little beyond the data.
        tf_frames: names of the fixed frame and the body's.
        options: see :class:`~v2w_core.data.bags.options.BagOptions`.

    Raises:
        DataError: as for ``scan_bag``, where no bag can be used.
    """
    frames = None if tf_frames is None else (tf_frames[0], tf_frames[1])
    settings = BagOptions(tf_frames=frames, **options)
    found = _scan_all(find_bags(source), settings)
    scans = found.scans
    actions = np.concatenate([part.actions for scan in scans for part in scan.segments])
    low = None if action_low is None else tuple(action_low)
    high = None if action_high is None else tuple(action_high)
    cameras = sorted({scan.image_topic for scan in scans})
    motions = sorted({scan.odom_topic for scan in scans})
    many = len(scans) + len(found.failed) > 1
    title = f"bag {scans[0].files.name if not many else source.name}"
    facts: dict[str, Any] = {
        "image_topic": ", ".join(cameras),
        "odom_topic": ", ".join(motions),
        "num_images": sum(scan.num_images for scan in scans),
        "actions": _what_actions_are(scans),
    }
    if many:
        facts["num_bags"] = len(scans)
        facts["bags"] = [
            f"{scan.files.name}: {len(scan.segments)} parts, {scan.num_frames} frames"
            for scan in scans
        ]
    return RecordingSet(
        title=f"{title} {facts['image_topic']} {facts['odom_topic']}",
        name=source_name(source),
        action_spec=action_spec_for(actions, settings.rate_hz, low, high),
        recordings=_recordings(scans, many, repr(settings)),
        num_recordings=sum(len(scan.segments) for scan in scans),
        num_frames=sum(scan.num_frames for scan in scans),
        sizes_may_change=True,
        facts=facts,
        notices=_all_notices(found, many),
    )


def _what_actions_are(scans: Sequence[BagScan]) -> str:
    """Commands, or displacements that stand for them; the option that a bag has a topic for."""
    if scans[0].commands:
        return f"commands of {scans[0].commands}, motion apart"
    likely = sorted({scan.could_be_commands for scan in scans} - {""})
    more = f"; commands apart: --commands {likely[0]}" if likely else ""
    return f"displacements, which stand for commands too{more}"


def _scan_all(bags: Sequence[BagFiles], options: BagOptions) -> _Scans:
    found = _Scans()
    for files in bags:
        try:
            found.scans.append(scan_bag(files, options))
        except V2WError as error:
            if len(bags) == 1:
                raise
            found.failed.append((files, error))
    if not found.scans:
        first, why = found.failed[0]
        rule = f"one bag of {len(bags)} that can be used; {first.name}: {why}"
        raise DataError("bags", rule, f"{len(found.failed)} that cannot") from why
    return found


def _all_notices(found: _Scans, many: bool) -> tuple[Notice, ...]:
    """The notices of all bags, those of several with the bag's name."""
    result = [
        Notice("bag_left_out", f"{files.name} is left out: {error}")
        for files, error in found.failed
    ]
    for scan in found.scans:
        name = f"{scan.files.name}: " if many else ""
        result += [Notice(n.code, name + n.text, n.remedy, n.numbers) for n in scan.notices]
    return tuple(result)


def _recordings(scans: Sequence[BagScan], many: bool, settings: str) -> Iterator[Recording]:
    for scan in scans:
        for number, group in groupby(scan.frames(), key=lambda item: item[0]):
            part = scan.segments[number]
            shortest, longest = part.step_range_s
            yield Recording(
                name=scan.files.name if many else "",
                frames=(frame for _, frame in group),
                actions=part.actions,
                poses=part.poses,
                stamps_ns=part.stamps_ns,
                attributes={
                    "segment": number,
                    "num_segments": len(scan.segments),
                    "step_s": [round(shortest, 4), round(longest, 4)],
                    **as_attributes(scan.notices),
                },
                times_s=scan.times_s[number],
                motion=None if part.commands is None else part.motion,
                key=f"{_identity(scan.files)} {settings} {number}" if many else "",
            )


def _identity(files: BagFiles) -> str:
    """The files of a bag with their sizes and times of change."""
    found = [(path, path.stat()) for path in files.files]
    return " ".join(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found)
