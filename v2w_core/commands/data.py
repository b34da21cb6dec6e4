"""``v2w data info`` and ``v2w data preview``: a summary and pictures of episodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2w_core.errors import DataError
from v2w_core.progress import progress, write

if TYPE_CHECKING:
    from v2w_core.data.episode import Episode
    from v2w_core.images import ImageArray

HELP = "look into episodes: a table, pictures, a video"
EPILOG = """\
examples:
  v2w data info runs/episodes
  v2w data preview runs/episodes --out runs/preview
"""

#: Maximum number of action ranges in the table; the JSON has all of them.
MAX_RANGES = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="frames, duration, action ranges and source")
    info.add_argument("paths", nargs="+", type=Path, help="episode files or folders of them")
    info.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    preview = actions.add_parser(
        "preview", help="a contact sheet with the path, and a video with the actions"
    )
    preview.add_argument("path", type=Path, help="an episode file or a folder of them")
    preview.add_argument(
        "--out", type=Path, default=Path("runs/preview"), help="folder (default runs/preview)"
    )
    preview.add_argument(
        "--episodes", type=int, default=4, help="at most so many, spread evenly (default 4)"
    )
    preview.add_argument(
        "--frames", type=int, default=12, help="frames on the sheet of an episode (default 12)"
    )


def run(args: argparse.Namespace) -> int:
    return _info(args) if args.action == "info" else _preview(args)


def episode_paths(paths: Sequence[Path]) -> list[Path]:
    """Paths of episodes, with folders replaced by the episodes in them.

    Raises:
        DataError: there is no episode.
    """
    from v2w_core.data.episode import list_episodes

    found: list[Path] = []
    for path in paths:
        found.extend([path] if path.is_file() else list_episodes(path))
    if not found:
        raise DataError("path", "at least one episode (*.h5)", ", ".join(map(str, paths)))
    return found


def describe(episode: Episode) -> dict[str, Any]:
    """A row of ``v2w data info`` as JSON values."""
    from v2w_core.data.notices import notices_from

    return {
        "path": str(episode.path),
        "frames": len(episode),
        "duration_s": round(episode.duration_s, 3),
        "height": episode.image_size[0],
        "width": episode.image_size[1],
        "rate_hz": episode.action_spec.rate_hz,
        "names": list(episode.action_spec.names),
        "units": list(episode.action_spec.units),
        "action_min": [float(item) for item in episode.actions.min(axis=0)],
        "action_max": [float(item) for item in episode.actions.max(axis=0)],
        "actions_are": what_actions_are(episode),
        "contact": None if episode.contact is None else float(episode.contact.mean()),
        "source": episode.source,
        "warnings": [notice.to_dict() for notice in notices_from(episode.attributes)],
    }


def what_actions_are(episode: Episode) -> str:
    """Commands (the motion is apart), displacements that stand for both, or what was recorded."""
    if episode.has_commands:
        return "commands"
    return "as recorded" if episode.motion is None else "displacements"


def _info(args: argparse.Namespace) -> int:
    from v2w_core.data.episode import read_episode
    from v2w_core.files import write_text

    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    for path in episode_paths(args.paths):
        try:
            rows.append(describe(read_episode(path)))
        except DataError as error:
            errors.append(str(error))
    _print_table(rows)
    if args.json:
        total = {"episodes": rows, "frames": sum(row["frames"] for row in rows), "errors": errors}
        write_text(args.json, json.dumps(total, indent=2) + "\n")
    for message in errors:
        print(f"unreadable: {message}", file=sys.stderr)
    return 2 if errors else 0


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    head = ("episode", "frames", "duration", "size", "rate", "actions", "actions are", "source")
    table = [head]
    for row in rows:
        ranges = [
            f"{name} {low:+.2f}..{high:+.2f} {unit}"
            for name, unit, low, high in zip(
                row["names"], row["units"], row["action_min"], row["action_max"], strict=True
            )
        ]
        touched = "" if row["contact"] is None else f", {row['contact']:.0%} with contact"
        table.append(
            (
                Path(row["path"]).name,
                str(row["frames"]),
                f"{row['duration_s']:.1f} s",
                f"{row['height']}x{row['width']}",
                f"{row['rate_hz']:g} Hz",
                ", ".join(ranges[:MAX_RANGES]) + (", ..." if len(ranges) > MAX_RANGES else ""),
                row["actions_are"] + touched,
                row["source"],
            )
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    told: dict[str, list[str]] = {}
    for row in rows:
        for warning in row["warnings"]:
            text = f"{warning['text']}: {warning['remedy']}".removesuffix(": ")
            told.setdefault(text, []).append(Path(row["path"]).name)
    for text, names in told.items():
        print(f"warning ({names[0] if len(names) == 1 else f'{len(names)} episodes'}): {text}")
    frames = sum(row["frames"] for row in rows)
    seconds = sum(row["duration_s"] for row in rows)
    print(f"{len(rows)} episodes, {frames} frames, {seconds:.1f} s")


def _preview(args: argparse.Namespace) -> int:
    import numpy as np

    from v2w_core.data.episode import read_episode
    from v2w_core.media.pictures import write_png
    from v2w_core.media.video import write_video

    if args.episodes < 1 or args.frames < 1:
        raise DataError("episodes, frames", "at least 1", (args.episodes, args.frames))
    paths = episode_paths([args.path])
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(args.episodes, len(paths))).astype(int))
    for number in progress(chosen, desc="preview", unit="episode"):
        episode = read_episode(paths[int(number)])
        stem = episode.path.stem
        picked = np.unique(np.linspace(0, len(episode) - 1, args.frames).astype(int))
        indices = [int(item) for item in picked]
        pictures = np.concatenate([episode.frames(item, item + 1) for item in indices])
        sheet = write_png(args.out / f"{stem}.png", _sheet(episode, pictures, indices))
        video = write_video(
            args.out / f"{stem}.mp4", annotated_frames(episode), episode.action_spec.rate_hz
        )
        write(f"{sheet}\n{video}")
    return 0


def annotated_frames(episode: Episode, *, chunk: int = 32) -> Iterator[ImageArray]:
    """Yields every frame with its index, and below it bars of the action that starts there."""
    import numpy as np

    from v2w_core.media.pictures import action_bars, draw_text

    spec = episode.action_spec
    for start in range(0, len(episode), chunk):
        for offset, frame in enumerate(_shown(episode.frames(start, start + chunk))):
            index = start + offset
            if index < len(episode.actions):
                action = episode.actions[index]
                bars = action_bars(frame.shape[1], action, spec.names, spec.low, spec.high)
            else:
                bars = np.full_like(bars, 255)  # the last frame has no action
            seconds = (episode.stamps_ns[index] - episode.stamps_ns[0]) * 1e-9
            yield np.concatenate([draw_text(frame, f"{index}  {seconds:.2f} s"), bars])


def _sheet(episode: Episode, pictures: ImageArray, indices: Sequence[int]) -> ImageArray:
    """Rows of frames of at most 1400 pixels, labelled with their indices; the path below them."""
    import numpy as np

    from v2w_core.media.pictures import contact_sheet
    from v2w_core.media.way import draw_way

    shown = _shown(pictures, largest=448)
    columns = max(1, 1400 // shown.shape[2])
    rows, labels = [], []
    for start in range(0, len(shown), columns):
        rows.append(shown[start : start + columns])
        numbers = ", ".join(str(item) for item in indices[start : start + columns])
        labels.append(f"frames {numbers}")
    labels[0] = (
        f"{episode.path.name}, {len(episode)} frames, {episode.duration_s:.1f} s: {labels[0]}"
    )
    sheet = contact_sheet(rows, labels, min_height=1)
    if not np.ptp(episode.poses[:, [0, 1, 3]], axis=0).any():
        return sheet  # unknown poses, or a robot that stands still: there is no way to draw
    way = draw_way(episode.poses)
    width = max(sheet.shape[1], way.shape[1])
    padded = [
        np.pad(item, ((0, 0), (0, width - item.shape[1]), (0, 0)), constant_values=255)
        for item in (sheet, way)
    ]
    return np.concatenate(padded)


def _shown(frames: ImageArray, largest: int = 640) -> ImageArray:
    """Frames scaled to a width of 160 to ``largest`` pixels, with the same aspect."""
    from v2w_core.images import resize_frames
    from v2w_core.spec import ObservationSpec

    height, width = frames.shape[1:3]
    if width < 160:
        factor = -(-160 // width)
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    if width > largest:
        size = ObservationSpec(max(8, round(height * largest / width)), largest)
        return resize_frames(frames, size)
    return frames
