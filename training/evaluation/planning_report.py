"""What the records of closed-loop drives say: shares with intervals, a table, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.goals import REACHED_M
from v2w_core.metrics.intervals import bootstrap_mean, bootstrap_ratio, wilson

if TYPE_CHECKING:
    from training.envs.doom import DoomMazeEnv

Record = dict[str, Any]
COLOURS = {
    "cem": (220, 30, 30), "random": (120, 120, 120), "straight": (30, 90, 220),
    "bc": (190, 60, 200), "oracle": (20, 150, 60),
}  # fmt: skip
NAMES = {
    "cem": "red", "random": "grey", "straight": "blue", "bc": "purple", "oracle": "green",
}  # fmt: skip


def planner_summary(records: Sequence[Record]) -> dict[str, Any]:
    """The figures of one planner over its goals.

    Shares have a Wilson 95 % interval, the others a bootstrap 95 % interval over goals, under the
    same name and ``_ci``; None where there is nothing to count.

        stopped             ended the drive by itself, at the goal
        reached             was at the goal after some step
        stopped_elsewhere   ended the drive by itself, not at the goal
        spl                 success (stopped) weighted by path length
        collisions_per_m    steps in which a wall or an object changed the motion, per metre driven
        plan_s_p50, _p95    time of a plan [s]
        frames_per_plan     mean number of frames imagined for a plan
    """
    total = len(records)
    result: dict[str, Any] = {"num_goals": total}
    shares = {
        "stopped": [r["stopped_at_goal"] for r in records],
        "reached": [r["reached"] for r in records],
        "stopped_elsewhere": [r["stopped"] and not r["stopped_at_goal"] for r in records],
    }
    for name, values in shares.items():
        count = sum(values)
        result |= {name: count / total, f"{name}_ci": list(wilson(count, total))}
    weighted = [spl(record) for record in records]
    result |= {"spl": float(np.mean(weighted)), "spl_ci": _pair(*bootstrap_mean(weighted))}
    collisions = [r["collisions"] for r in records]
    driven = [r["driven_m"] for r in records]
    rate = sum(collisions) / sum(driven) if sum(driven) else None
    result["collisions_per_m"] = rate
    result["collisions_per_m_ci"] = _pair(*bootstrap_ratio(collisions, driven))
    result["num_collisions"], result["driven_m"] = sum(collisions), float(sum(driven))
    times = [s for record in records for s in record["plan_s"]]
    for percent in (50, 95):
        result[f"plan_s_p{percent}"] = float(np.percentile(times, percent)) if times else None
    frames = [f for record in records for f in record["frames"]]
    result["num_plans"] = len(times)
    result["frames_per_plan"] = float(np.mean(frames)) if frames else None
    return result


def spl(record: Record) -> float:
    """Success weighted by path length (Anderson et al., arXiv:1807.06757, equation 1).

    The robot stopped at the goal (0 or 1), times the shortest way over the way that was driven or
    the shortest one, whichever is longer. Ways count at least 0.4 m, the tolerance of a goal, as
    some goals are turns on the spot.
    """
    shortest = max(record["way_m"], REACHED_M)
    return float(record["stopped_at_goal"]) * shortest / max(record["driven_m"], shortest)


def _pair(low: Any, high: Any) -> list[float | None]:
    """An interval as JSON values."""
    return [float(end) if np.isfinite(end) else None for end in (low, high)]


def print_table(result: dict[str, Any], text: str) -> None:
    """Prints the figures of all planners."""
    print(f"{result['num_goals']} goals ({result['suite']}): {text}; {result['world']}, "
          f"{result['worlds']} worlds; 95 % intervals in brackets")  # fmt: skip
    heads = ("stops there", "reached", "stops elsewhere", "SPL", "collisions/m", "plan p50",
             "frames/plan")  # fmt: skip
    rows = [[name, *_cells(found)] for name, found in result["planners"].items()]
    table = [["planner", *heads], *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _cells(found: dict[str, Any]) -> list[str]:
    cells = []
    for name in ("stopped", "reached", "stopped_elsewhere"):
        low, high = found[f"{name}_ci"]
        cells.append(f"{found[name]:.0%} [{low:.0%}, {high:.0%}]")
    for name in ("spl", "collisions_per_m"):
        low, high = found[f"{name}_ci"]
        known = None not in (found[name], low, high)
        cells.append(f"{found[name]:.2f} [{low:.2f}, {high:.2f}]" if known else "-")
    seconds, frames = found["plan_s_p50"], found["frames_per_plan"]
    cells.append("-" if seconds is None else f"{seconds:.2f} s")
    cells.append("-" if not frames else f"{frames:.0f}")
    return cells


def draw_drives(
    env: DoomMazeEnv, drives: dict[str, list[Record]], num_shown: int = 6
) -> NDArray[np.uint8]:
    """Maps with the ways to the first goals: white dot = start, yellow arrow = goal."""
    from v2w_core.media.pictures import contact_sheet

    tiles = []
    first = next(iter(drives.values()))
    for number, record in enumerate(first[:num_shown]):
        if env.world.seed != record["world_seed"]:
            env.enter(record["world_seed"])
        tiles.append(_tile(env, {name: records[number] for name, records in drives.items()}))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    padded = [np.pad(t, ((0, height - t.shape[0]), (0, width - t.shape[1]), (0, 0))) for t in tiles]
    rows = [np.stack(padded[i : i + 3]) for i in range(0, len(padded), 3)]
    colours = ", ".join(f"{NAMES[name]} {name}" for name in drives)
    label = f"{colours}; white dot start, yellow goal"
    return contact_sheet(rows, [label] + [""] * (len(rows) - 1))


def _tile(env: DoomMazeEnv, records: dict[str, Record]) -> NDArray[np.uint8]:
    import cv2

    largest = max(env.world.size_m)
    top = env.top_down_map(36.0 if largest <= 10.0 else 24.0)
    image = np.ascontiguousarray(top.image)
    x, y, yaw = next(iter(records.values()))["goal"]
    tip = (x + 0.6 * np.cos(yaw), y + 0.6 * np.sin(yaw))
    place, end = (tuple(map(int, p)) for p in np.round(top.to_pixels(np.array([[x, y], tip]))))
    yellow = (255, 200, 0)
    cv2.circle(image, place, round(REACHED_M * top.pixels_per_m), yellow, 2, cv2.LINE_AA)
    cv2.arrowedLine(image, place, end, yellow, 2, cv2.LINE_AA)
    for name, record in records.items():
        points = np.round(top.to_pixels(np.array(record["poses"]))).astype(np.int32)
        cv2.polylines(image, [points], False, COLOURS[name], 2, cv2.LINE_AA)
        start = tuple(map(int, points[0]))
    cv2.circle(image, start, 5, (255, 255, 255), -1, cv2.LINE_AA)
    return image
