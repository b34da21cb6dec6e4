"""``v2w convert``: a robot's recording becomes episodes to train on."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from v2w_core.errors import DataError

if TYPE_CHECKING:
    from v2w_core.data.sources.bag import BagScan
    from v2w_core.spec import ActionSpec, ObservationSpec

HELP = "turn a ROS bag (camera + odometry) into episodes"
DESCRIPTION = """\
Turns a recording of your robot into episodes: rosbag2 (a folder, or a bare .mcap or .db3 file)
or a ROS 1 .bag, with a camera (sensor_msgs/Image or CompressedImage) and odometry
(nav_msgs/Odometry). Images are paired with poses by header stamp and taken at a steady rate; the
actions are the body-frame displacements (dx m, dy m, dyaw rad) between successive images.
A gap in the camera or the odometry starts a new episode.
"""
EPILOG = """\
examples:
  v2w convert drive_bag runs/my_robot --image-size 48x64
  v2w convert drive.mcap runs/my_robot --image-topic /front/image_raw --rate-hz 10
  v2w data preview runs/my_robot            look at the result
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="rosbag2 folder, .mcap, .db3 or ROS 1 .bag")
    parser.add_argument("dest", type=Path, help="folder for the episodes (NAME_000.h5, ...)")
    parser.add_argument("--image-topic", help="camera topic; found by type when there is one")
    parser.add_argument(
        "--odom-topic",
        help="odometry topic; found by type when there is one (a PoseStamped must be named)",
    )
    parser.add_argument("--rate-hz", type=float, default=4.0, help="images a second (default 4)")
    parser.add_argument("--image-size", metavar="HxW", help="pixels, default the camera's own")
    parser.add_argument(
        "--resize",
        choices=("stretch", "crop", "pad"),
        default="crop",
        help="how another aspect is fitted into --image-size (default crop: keeps the centre)",
    )
    parser.add_argument(
        "--max-gap-s", type=float, help="longer gaps start a new episode (default 1.5 periods)"
    )
    parser.add_argument("--min-frames", type=int, default=2, help="drop shorter episodes")
    parser.add_argument("--start-s", type=float, default=0.0, help="leave out what comes before")
    parser.add_argument("--end-s", type=float, help="leave out what comes from here on")
    for name in ("low", "high"):
        parser.add_argument(
            f"--action-{name}",
            type=float,
            nargs=3,
            metavar=("DX", "DY", "DYAW"),
            help=f"{name} bounds in m, m, rad (default: a tenth of the range beyond the data's)",
        )
    parser.add_argument("--image-format", choices=("jpeg", "png"), default="jpeg")
    parser.add_argument("--quality", type=int, default=95, help="JPEG quality 1-100 (default 95)")
    parser.add_argument("--name", help="start of the episodes' names (default: the bag's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace episodes of that name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a summary")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from v2w_core.data.sources.bag import scan_bag
    from v2w_core.data.sources.resample import action_spec_for
    from v2w_core.media import write_text

    observation = observation_from(args.image_size, args.resize)
    scan = scan_bag(
        args.source,
        image_topic=args.image_topic,
        odom_topic=args.odom_topic,
        rate_hz=args.rate_hz,
        max_gap_s=args.max_gap_s,
        min_frames=args.min_frames,
        start_s=args.start_s,
        end_s=args.end_s,
    )
    actions = np.concatenate([part.actions for part in scan.segments])
    low = None if args.action_low is None else tuple(args.action_low)
    high = None if args.action_high is None else tuple(args.action_high)
    spec = action_spec_for(actions, args.rate_hz, low, high)
    outside = int(((actions < spec.low) | (actions > spec.high)).any(axis=1).sum())
    if outside:
        print(
            f"warning: {outside} of {len(actions)} actions lie outside the bounds given",
            file=sys.stderr,
        )
    name = args.name or default_name(args.source)
    paths = write_episodes(
        scan,
        args.dest,
        name,
        spec,
        observation,
        image_format=args.image_format,
        quality=args.quality,
        overwrite=args.overwrite,
    )
    print(f"camera    {scan.image_topic}, {scan.num_images} images, {scan.num_frames} used")
    print(f"odometry  {scan.odom_topic}")
    for column, label in enumerate(spec.names):
        print(
            f"{label:<9} {actions[:, column].min():+.3f} .. {actions[:, column].max():+.3f} "
            f"{spec.units[column]} a step, bounds {spec.low[column]:g} .. {spec.high[column]:g}"
        )
    for path, part in zip(paths, scan.segments, strict=True):
        print(f"{path}  {len(part)} frames")
    if args.json:
        summary = {
            "episodes": [str(path) for path in paths],
            "frames": [len(part) for part in scan.segments],
            "num_images": scan.num_images,
            "image_topic": scan.image_topic,
            "odom_topic": scan.odom_topic,
            "action_spec": spec.to_dict(),
        }
        write_text(args.json, json.dumps(summary, indent=2) + "\n")
    return 0


def observation_from(text: str | None, resize: str) -> ObservationSpec | None:
    """ "48x64" -> ObservationSpec of height 48 and width 64; None stays None."""
    from v2w_core.spec import ObservationSpec

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise DataError("image-size", "HEIGHTxWIDTH in pixels, e.g. 48x64", text)
    if resize not in ("stretch", "crop", "pad"):
        raise DataError("resize", "one of stretch, crop, pad", resize)
    return ObservationSpec(int(parts[0]), int(parts[1]), resize)  # type: ignore[arg-type]


def default_name(source: Path) -> str:
    """The bag's own name; a folder that is just called "bag" gets its parent's."""
    path = source.resolve()
    stem = path.stem if path.is_file() else path.name
    return path.parent.name if stem == "bag" and path.parent.name else stem


def write_episodes(
    scan: BagScan,
    dest: Path,
    name: str,
    spec: ActionSpec,
    observation: ObservationSpec | None = None,
    *,
    image_format: str = "jpeg",
    quality: int = 95,
    overwrite: bool = False,
) -> list[Path]:
    """Writes one episode for each segment of the scan; all of them appear at the end, or none.

    Raises:
        DataError: episodes of that name exist, an image cannot be decoded.
    """
    from tqdm import tqdm

    from v2w_core.data.episode import EpisodeWriter

    targets = [dest / f"{name}_{number:03d}.h5" for number in range(len(scan.segments))]
    existing = [path.name for path in targets if path.exists()]
    if existing and not overwrite:
        raise DataError(str(dest), "no episodes of that name yet, or --overwrite", existing[:3])
    working = dest / f".{name}.{os.getpid()}.tmp"
    working.mkdir(parents=True)
    writer: EpisodeWriter | None = None
    finished: list[Path] = []
    try:
        frames = scan.frames(observation)
        for number, frame in tqdm(frames, total=scan.num_frames, unit="frame", desc="convert"):
            part = scan.segments[number]
            if writer is None:
                writer = EpisodeWriter(
                    working / targets[number].name,
                    action_spec=spec,
                    source=f"bag {scan.path.name} {scan.image_topic} {scan.odom_topic}",
                    attributes={"segment": number, "num_segments": len(scan.segments)},
                    image_format="png" if image_format == "png" else "jpeg",
                    quality=quality,
                )
            index = len(writer)
            writer.add(frame, part.poses[index], int(part.stamps_ns[index]))
            if len(writer) == len(part):
                finished.append(writer.close(part.actions))
                writer = None
        _move(finished, targets)
    finally:
        if writer is not None:
            writer.abort()
        shutil.rmtree(working, ignore_errors=True)
    return targets


def _move(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    for source, target in zip(sources, targets, strict=True):
        os.replace(source, target)
