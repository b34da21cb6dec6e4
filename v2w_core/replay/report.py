"""Results of a replay: numbers, a table, a video and an HTML report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.images import ImageArray, encode_image
from v2w_core.media.plots import line_plot
from v2w_core.media.report import Section, write_report
from v2w_core.media.rollout_sheet import best_median_worst
from v2w_core.metrics.steps import PSNR_LIMIT_DB, mean_per_step
from v2w_core.replay.recording import Recording
from v2w_core.replay.replay import Replayed

#: Number of rollouts shown as pictures in a report, spread evenly over the recording.
MAX_PICTURES = 12


def summarise(recording: Recording, replays: Sequence[Replayed]) -> dict[str, Any]:
    """The contents of metrics.json: scores of each rollout, and means over the rollouts."""
    scores = [item.scores for item in replays]
    return _motion(replays) | {
        "source": str(recording.source),
        "num_rollouts": len(replays),
        "num_frames": recording.num_frames,
        "rate_hz": recording.action_spec.rate_hz,
        "share_actions_outside": recording.share_outside,
        "psnr": float(np.mean([s.psnr for s in scores])),
        "psnr_copy": float(np.mean([s.psnr_copy for s in scores])),
        "ssim": float(np.mean([s.ssim for s in scores])),
        "ssim_copy": float(np.mean([s.ssim_copy for s in scores])),
        "psnr_per_step": mean_per_step([s.psnr for s in scores]),
        "psnr_copy_per_step": mean_per_step([s.psnr_copy for s in scores]),
        "ssim_per_step": mean_per_step([s.ssim for s in scores]),
        "ssim_copy_per_step": mean_per_step([s.ssim_copy for s in scores]),
        "rollouts": [
            {
                "time_s": item.moment.time_s,
                "psnr": item.scores.psnr.tolist(),
                "psnr_copy": item.scores.psnr_copy.tolist(),
                "ssim": item.scores.ssim.tolist(),
            }
            for item in replays
        ],
    }


def _motion(replays: Sequence[Replayed]) -> dict[str, Any]:
    """Mean errors of the predicted displacements; nothing of a model that predicts none."""
    errors = [item.motion_error for item in replays if item.motion_error is not None]
    if not errors:
        return {}
    metres = [np.hypot(error[:, 0], error[:, 1]) for error in errors]
    radians = [np.abs(error[:, 2]) for error in errors]
    return {
        "motion_m": float(np.mean(np.concatenate(metres))),
        "motion_rad": float(np.mean(np.concatenate(radians))),
        "motion_m_per_step": mean_per_step(metres),
        "motion_rad_per_step": mean_per_step(radians),
    }


def motion_line(result: dict[str, Any]) -> str:
    """A sentence about the predicted displacements; empty of a model that predicts none."""
    if "motion_m" not in result:
        return ""
    return (
        f"The predicted displacement of a step is off by {100 * result['motion_m']:.1f} cm and "
        f"{np.degrees(result['motion_rad']):.2f} degrees (mean)."
    )


def table(result: dict[str, Any]) -> list[list[object]]:
    """Rows of the table: a header, one row per step ahead, and the means."""
    rows: list[list[object]] = [["step", "s", "PSNR dB", "copy dB", "SSIM", "copy SSIM"]]
    columns = ("psnr", "psnr_copy", "ssim", "ssim_copy")
    for step in range(len(result["psnr_per_step"])):
        ahead = (step + 1) / result["rate_hz"]
        rows.append([step + 1, ahead, *(result[f"{name}_per_step"][step] for name in columns)])
    rows.append(["mean", "", *(result[name] for name in columns)])
    return rows


def format_table(rows: Sequence[Sequence[object]]) -> str:
    """The table as text."""
    formats = ("{:>5}", "{:>6.2f}", "{:>8.2f}", "{:>8.2f}", "{:>7.3f}", "{:>10.3f}")
    widths = (5, 6, 8, 8, 7, 10)
    lines = []
    for row in rows:
        cells = [
            f"{cell:>{width}}" if isinstance(cell, str) else form.format(cell)
            for cell, form, width in zip(row, formats, widths, strict=True)
        ]
        lines.append(" ".join(cells))
    return "\n".join(lines)


def video_frames(replays: Sequence[Replayed]) -> Iterator[ImageArray]:
    """Video frames of all rollouts in sequence, imagined beside recorded."""
    for item in replays:
        yield from item.picture.video_frames()


def write_replay_report(
    path: Path,
    result: dict[str, Any],
    recording: Recording,
    replays: Sequence[Replayed],
    video: Path,
    notes: Sequence[str] = (),
) -> Path:
    """Writes report.html, with the numbers, the curves, the pictures and the video embedded."""
    topics = ""
    if recording.image_topic:
        topics = f" Camera {recording.image_topic}, odometry {recording.odom_topic}."
    text = (
        f"{len(replays)} rollouts of {len(result['psnr_per_step'])} steps at "
        f"{result['rate_hz']:g} Hz, {recording.num_frames} frames.{topics}"
    )
    about = (
        "Both are compared at the model's image size, "
        f"{replays[0].picture.imagined.shape[2]}x{replays[0].picture.imagined.shape[1]} pixels. "
        f"Copy: the last given frame repeated. PSNR is counted up to {PSNR_LIMIT_DB:g} dB."
    )
    sections = [
        Section("Result", "\n\n".join(filter(None, [text, *notes, about, motion_line(result)])),
                table=table(result),
                pictures=_curves(result, replays)),
        Section("Video", "Recorded and imagined, one rollout after another.",
                videos=[(video.name, video)]),
        Section("Rollouts", pictures=_pictures(replays)),
    ]  # fmt: skip
    return write_report(path, f"Replay of {recording.source.name}", sections)


def _curves(result: dict[str, Any], replays: Sequence[Replayed]) -> list[tuple[str, bytes]]:
    psnr = line_plot(
        {"imagined": result["psnr_per_step"], "last frame repeated": result["psnr_copy_per_step"]},
        title="PSNR by step ahead", x_label="step", y_label="PSNR (dB)",
    )  # fmt: skip
    ssim = line_plot(
        {"imagined": result["ssim_per_step"], "last frame repeated": result["ssim_copy_per_step"]},
        title="SSIM by step ahead", x_label="step", y_label="SSIM",
    )  # fmt: skip
    pictures = [("PSNR, mean over the rollouts", psnr), ("SSIM, mean over the rollouts", ssim)]
    if len(replays) > 1:
        times = [item.moment.time_s for item in replays]
        series = {
            "imagined": (times, [item.scores.psnr.mean() for item in replays]),
            "last frame repeated": (times, [item.scores.psnr_copy.mean() for item in replays]),
        }
        plot = line_plot(series, title="PSNR by time", x_label="time (s)", y_label="PSNR (dB)")
        pictures.append(("PSNR, mean over the steps, by the time a rollout starts", plot))
    return pictures


def _pictures(replays: Sequence[Replayed]) -> list[tuple[str, bytes]]:
    count = min(MAX_PICTURES, len(replays))
    shown = {int(i) for i in np.linspace(0, len(replays) - 1, count).round()}
    named = best_median_worst([float(item.scores.psnr.mean()) for item in replays])
    names = {index: f", the {name} of all" for name, index in named.items()}
    pictures = []
    for index in sorted(shown | set(names)):
        item = replays[index]
        caption = (
            f"{item.moment.time_s:.2f} s{names.get(index, '')}: {item.scores.psnr.mean():.2f} dB "
            f"(last frame repeated {item.scores.psnr_copy.mean():.2f} dB)"
        )
        pictures.append((caption, encode_image(item.picture.sheet(), "jpeg", quality=90)))
    return pictures
