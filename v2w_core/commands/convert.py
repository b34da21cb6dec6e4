"""``v2w convert``: conversion of a recording or a data set to episodes for training."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_core.commands.bag_arguments import add_repairs, print_notices
from v2w_core.errors import DataError

if TYPE_CHECKING:
    from v2w_core.data.convert import Converted
    from v2w_core.data.notices import Notice
    from v2w_core.spec import ObservationSpec

HELP = "turn a ROS bag, or an RLDS, RECON or CS:GO data set, into episodes"
DESCRIPTION = """\
Turns a recording of your robot, or a data set, into episodes. What it is, is found from the files:

  bag    rosbag2 (a folder, or a bare .mcap or .db3 file), a ROS 1 .bag, or a folder of these,
         with a camera (pictures or video) and odometry (or poses, velocities, /tf, GPS). Images
         are paired with poses by header stamp and taken at a steady rate; the actions are the
         body-frame displacements (dx m, dy m, dyaw rad) between successive images. A gap in the
         camera or the odometry starts a new episode. What looks wrong is told as a warning with
         its remedy, and kept with the episodes.
  rlds   a prepared RLDS data set: RT-1 (fractal20220817_data), or one with flat actions
  recon  RECON's HDF5 files, or trajectory folders of pictures with traj_data.pkl
  csgo   DIAMOND's CS:GO HDF5 files

Layouts, units and what each model makes of the pictures: docs/datasets.md; what is read and checked
of a bag: docs/recordings.md.
"""
EPILOG = """\
examples:
  v2w convert drive_bag runs/my_robot --image-size 48x64
  v2w convert drive.mcap runs/my_robot --image-topic /front/image_raw --rate-hz 10
  v2w convert all_my_drives runs/my_robot --odom-topic /tf
  v2w convert fractal20220817_data/0.1.0 runs/rt1 --split "train[:100]"
  v2w convert recon_release runs/recon --max-episodes 50
  v2w data preview runs/my_robot            look at the result
"""

#: Maximum number of printed lines of each list; the summary (--json) is complete.
MAX_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, help="a bag, a data set's file, or a folder")
    add("dest", type=Path, help="folder for the episodes (NAME_000.h5, ...)")
    add("--kind", default="auto", help="bag, rlds, recon or csgo (default auto: from the files)")
    add("--image-size", metavar="HxW", help="pixels, default the recording's own")
    add(
        "--resize",
        choices=("stretch", "crop", "pad"),
        default="crop",
        help="how another aspect is fitted into --image-size (default crop: keeps the centre)",
    )
    add("--min-frames", type=int, default=2, help="leave out shorter recordings (default 2)")
    add("--max-episodes", type=int, metavar="N", help="stop after so many")
    add("--image-format", choices=("jpeg", "png"), default="jpeg")
    add("--quality", type=int, default=95, help="JPEG quality 1-100 (default 95)")
    add("--name", help="start of the episodes' names (default: the source's name)")
    add("--overwrite", action="store_true", help="replace all episodes of that name")
    add("--json", type=Path, metavar="FILE", help="write a summary")
    _add_options_of_kinds(parser)


def _add_options_of_kinds(parser: argparse.ArgumentParser) -> None:
    """Adds the options of single kinds, without defaults, so that misplaced ones are detected."""
    add = parser.add_argument_group("bag, rlds and recon").add_argument
    add(
        "--rate-hz",
        type=float,
        help="bag: images a second to take; recon: the data's own (default 4); "
        "rlds: the data's own, needed for flat actions",
    )
    add = parser.add_argument_group("bag").add_argument
    add("--image-topic", help="camera topic; found by type when there is one")
    add(
        "--odom-topic",
        help="what tells the motion; an Odometry is found when there is one; poses, transforms, "
        "velocities and NavSatFix must be named",
    )
    add("--max-gap-s", type=float, help="longer gaps start a new episode (default 1.5 periods)")
    add("--start-s", type=float, help="leave out what comes before (default 0)")
    add("--end-s", type=float, help="leave out what comes from here on")
    add_repairs(add)
    for name in ("low", "high"):
        add(
            f"--action-{name}",
            type=float,
            nargs=3,
            metavar=("DX", "DY", "DYAW"),
            help=f"{name} bounds in m, m, rad (default: a tenth of the range beyond the data's)",
        )
    add = parser.add_argument_group("rlds").add_argument
    add("--split", help='as tensorflow-datasets writes it, e.g. "train[:100]" (default train)')
    add("--image-key", help="the camera among the observations; found when there is one")


def run(args: argparse.Namespace) -> int:
    from v2w_core.data.convert import convert
    from v2w_core.data.sources.kinds import KINDS, find_kind
    from v2w_core.files import write_text

    observation = observation_from(args.image_size, args.resize)
    if args.kind not in ("auto", *KINDS):
        raise DataError("--kind", f"one of auto, {', '.join(KINDS)}", args.kind)
    kind = find_kind(args.source) if args.kind == "auto" else args.kind
    if args.json:
        _check_place(args.json)
    source = KINDS[kind].open(args.source, **_options(args, kind))
    done = convert(
        source,
        args.dest,
        source.name if args.name is None else args.name,
        observation=observation,
        min_frames=args.min_frames,
        max_episodes=args.max_episodes,
        image_format=args.image_format,
        quality=args.quality,
        overwrite=args.overwrite,
    )
    print_notices((*source.notices, *_undecoded(done)))
    _report(kind, source.facts, done)
    if args.json:
        summary = {
            "kind": kind,
            "episodes": [str(path) for path in done.paths],
            "frames": done.lengths,
            **source.facts,
            "warnings": [notice.to_dict() for notice in source.notices],
            "action_spec": done.action_spec.to_dict(),
        }
        try:
            write_text(args.json, json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            raise DataError("--json", "a file that can be written", str(error)) from error
    return 0


def _check_place(path: Path) -> None:
    """Raises DataError if the summary cannot be written, before anything else is."""
    folder = next(item for item in path.absolute().parents if item.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DataError("--json", "a file in a folder that can be written", str(path))


def _undecoded(done: Converted) -> list[Notice]:
    from v2w_core.data.notices import Notice

    found = [
        Notice("bag_left_out", f"{why} (what follows in this bag is left out)")
        for why in done.failed
    ]
    if len(done.sizes) > 1:
        sizes = ", ".join(f"{height}x{width}" for height, width in sorted(done.sizes))
        text = f"the episodes' pictures have {len(done.sizes)} sizes: {sizes}"
        found.append(Notice("sizes", text, "--image-size HxW makes them one"))
    if not done.undecoded:
        return found
    more = len(done.undecoded) - 5
    shown = ", ".join(done.undecoded[:5]) + (f", and {more} more" if more > 0 else "")
    text = f"{len(done.undecoded)} pictures cannot be decoded and are left out: at {shown}"
    return [*found, Notice("undecoded", text, "what they leave is a gap")]


def _options(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """The given options of ``kind``.

    Raises:
        DataError: an option of another kind was given.
    """
    from v2w_core.data.sources.kinds import KINDS

    given: dict[str, Any] = {}
    for name in {name for item in KINDS.values() for name in item.options}:
        value = getattr(args, name)
        if value is None:
            continue
        if name not in KINDS[kind].options:
            owners = " or ".join(k for k, item in KINDS.items() if name in item.options)
            option = f"--{name.removesuffix('_deg').replace('_', '-')}"
            raise DataError(option, f"only for {owners}; this source is {kind}", value)
        given[name] = value
    return given


def _report(kind: str, facts: dict[str, Any], done: Converted) -> None:
    spec = done.action_spec
    if done.num_outside:
        steps = sum(done.lengths) - len(done.lengths)
        print(f"warning: {done.num_outside} of {steps} actions lie outside the bounds",
              file=sys.stderr)  # fmt: skip
    print(f"{'kind':<12} {kind}")
    for name, value in facts.items():
        if isinstance(value, list):
            for line in value[:MAX_LINES]:
                print(f"{'':<12} {line}")
        else:
            print(f"{name:<12} {value}")
    for column, label in enumerate(spec.names[:MAX_LINES]):
        print(
            f"{label:<12} {done.action_min[column]:+.3f} .. {done.action_max[column]:+.3f} "
            f"{spec.units[column]} a step, bounds {spec.low[column]:g} .. {spec.high[column]:g}"
        )
    if spec.dim > MAX_LINES:
        print(f"... and {spec.dim - MAX_LINES} more action dimensions")
    if done.too_short:
        print(f"left out     {len(done.too_short)} recordings with too few frames")
    for path, length in list(zip(done.paths, done.lengths, strict=True))[:MAX_LINES]:
        print(f"{path}  {length} frames")
    if len(done.paths) > MAX_LINES:
        print(f"... and {len(done.paths) - MAX_LINES} more episodes")


def observation_from(text: str | None, resize: str) -> ObservationSpec | None:
    """ "48x64" -> ObservationSpec of height 48 and width 64; None stays None."""
    from v2w_core.image_header import check_size
    from v2w_core.spec import ObservationSpec

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise DataError("image-size", "HEIGHTxWIDTH in pixels, e.g. 48x64", text)
    if resize not in ("stretch", "crop", "pad"):
        raise DataError("resize", "one of stretch, crop, pad", resize)
    height, width = int(parts[0]), int(parts[1])
    check_size(height, width, field="image-size")
    return ObservationSpec(height, width, resize)  # type: ignore[arg-type]
