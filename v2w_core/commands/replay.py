"""``v2w replay``: rollouts compared with a real recording."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from v2w_core.commands.arguments import add_sampling_arguments, check_sampling_arguments
from v2w_core.commands.bag_arguments import add_repairs, print_notices, repairs_of
from v2w_core.errors import V2WError
from v2w_core.progress import progress

HELP = "imagination beside a real recording (a ROS bag or an episode)"
DESCRIPTION = """\
At moments of a recording the model is given the frames so far and the actions that the odometry
recorded next; the frames that it imagines are put beside those the camera took. Nothing is driven.
Writes replay.mp4, report.html (one file with pictures and curves) and metrics.json.
"""
EPILOG = """\
examples:
  v2w replay drive_bag                              every second of a rosbag2 folder
  v2w replay drive.mcap --image-topic /front/image_raw --times 12.5,40
  v2w replay drive.bag --checkpoint runs/train/my_robot --start-s 30 --every 0.5
  v2w replay runs/episodes/val/EPISODE.h5           an episode file
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of ``v2w replay``."""
    add = parser.add_argument
    add("source", type=Path, metavar="BAG",
        help="rosbag2 folder, .mcap, .db3, ROS 1 .bag, or an episode .h5")  # fmt: skip
    add("--checkpoint", type=Path, metavar="DIR", help="world model (default: the shipped one)")
    add("--image-topic", help="camera topic; found by type when there is one")
    add("--odom-topic", help="odometry topic; found by type when there is one")
    add("--rate-hz", type=float, help="images a second (only the checkpoint's is possible)")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--times", metavar="S,S,..",
                      help="imagine from these seconds after the first image")  # fmt: skip
    when.add_argument("--every", type=float, default=1.0, metavar="S",
                      help="imagine every S seconds (default: %(default)s)")  # fmt: skip
    add("--start-s", type=float, default=0.0, help="leave out what comes before")
    add("--end-s", type=float, help="leave out what comes from here on")
    add_repairs(add)
    add("--horizon", type=int, metavar="N",
        help="steps ahead (default: 8, or as many as the model can)")  # fmt: skip
    add("--max-rollouts", type=int, default=32,
        help="more moments are thinned evenly (default: %(default)s)")  # fmt: skip
    add_sampling_arguments(parser)
    add("--out", type=Path, default=Path("runs/replay"), help="folder (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="also write metrics.json there")


def run(args: argparse.Namespace) -> int:
    """Runs the rollouts, writes the files and prints a table. Raises V2WError for invalid input."""
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.files import shown_path, write_text
    from v2w_core.media.video import write_video
    from v2w_core.replay.recording import read_recording
    from v2w_core.replay.replay import choose_moments, replay
    from v2w_core.replay.report import (
        format_table,
        motion_line,
        summarise,
        table,
        video_frames,
        write_replay_report,
    )
    from v2w_core.world_model import WorldModel

    check_sampling_arguments(args)
    times = parse_times(args.times)
    checkpoint = args.checkpoint or default_checkpoint()
    model = WorldModel.from_pretrained(checkpoint, args.device, args.backend, args.precision)
    config = model.config
    longest = config.num_frames - config.num_history
    horizon = min(8, longest) if args.horizon is None else args.horizon
    if not 1 <= horizon <= longest:
        raise V2WError("--horizon", f"from 1 to {longest}, the model's trained window", horizon)
    recording = read_recording(
        args.source, config.action, config.observation,
        image_topic=args.image_topic, odom_topic=args.odom_topic, rate_hz=args.rate_hz,
        start_s=args.start_s, end_s=args.end_s, repairs=repairs_of(args),
    )  # fmt: skip
    moments = choose_moments(
        recording, config.num_history, horizon,
        times_s=times, every_s=args.every, max_rollouts=args.max_rollouts,
    )  # fmt: skip
    notes = [str(notice) for notice in recording.notices]
    print_notices(recording.notices)
    if recording.share_outside:
        notes.append(
            f"{recording.share_outside:.0%} of the recorded actions are far outside the bounds "
            "that this checkpoint was trained in: expect little of it here; fine-tune it on such "
            "recordings (v2w train --help)."
        )
        print(f"warning: {notes[-1]}", file=sys.stderr)
    rollouts = replay(
        model, recording, moments, horizon,
        num_sampling_steps=args.num_sampling_steps, guidance_scale=args.guidance_scale,
        seed=args.seed,
    )  # fmt: skip
    replays = list(progress(rollouts, total=len(moments), desc="replay", unit="rollout"))
    result = {"checkpoint": shown_path(checkpoint), "horizon": horizon} | summarise(
        recording, replays
    )
    print(f"{recording.source.name}: {len(replays)} rollouts, {horizon} steps ahead")
    print(format_table(table(result)))
    if line := motion_line(result):
        print(line)
    fps = config.action.rate_hz
    video = write_video(args.out / "replay.mp4", video_frames(replays), fps)
    report = write_replay_report(args.out / "report.html", result, recording, replays, video, notes)
    text = json.dumps(result, indent=2) + "\n"
    for path in (video, report, write_text(args.out / "metrics.json", text)):
        print(f"wrote {path}", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, text)
    return 0


def parse_times(text: str | None) -> list[float] | None:
    """Seconds from a text with commas. Raises V2WError for anything else."""
    if text is None:
        return None
    try:
        times = [float(item) for item in text.split(",")]
    except ValueError as error:
        raise V2WError("--times", "seconds separated by commas, such as 2,3.5", text) from error
    return times
