"""Fills the tables of docs/reliability.md from what faults.py and soak.py measured.

    python benchmarks/faults.py --json benchmarks/results/faults.json
    python benchmarks/soak.py --json benchmarks/results/soak.json --picture docs/images/soak.png
    python benchmarks/reliability_page.py

Only what lies between ``<!-- NAME -->`` and ``<!-- end NAME -->`` is written anew.
"""

from __future__ import annotations

from typing import Any

from performance_page import RESULTS, ROOT, filled, read
from v2w.parameters import TABLES
from v2w_core.files import write_text

PAGE = ROOT / "docs" / "reliability.md"
Results = dict[str, Any]
CAMERA_BEFORE = "drove on to the end of the plan: 2.1 s, 2.2 to 2.9 m"
CHASED = "chased it at full speed: 2.1 s, up to 4.3 m"
STALLED = "full speed for 2.1 s, 4.3 m"
OLD_PLAN = "the old plan was driven"
#: What the same fault did at first, up to 2.2 m/s; a dash where it was not measured.
BEFORE = {
    **dict.fromkeys(
        ("camera stops", "camera freezes", "camera goes black", "camera changes encoding",
         "camera sends short data"), CAMERA_BEFORE
    ),
    "odometry jumps 5 m": CHASED,
    "odometry jumps half a turn": CHASED,
    "odometry frozen, fresh stamps": STALLED,
    "robot blocked": f"{STALLED} (wheels spinning)",
    "odometry 10 s ahead, then silent": "the watchdog never fired, 2.9 m",
    "odometry ends": "0.5 s",
    "odometry is NaN": "0.08 s",
    "quaternion of 1e200": "ended both nodes",
    "use_sim_time without /clock": "no zero ever, 1 m and more",
    "/clock stops": "no zero ever, 1 m and more",
    "goal cancelled": "refused; drove on for 1.2 s",
    "newer goal while one is driven": "waited for the older, 4 s",
    "newer goal while one is planned": "waited for the older, 4 s",
    "action client killed while planning": "drove 4 s later",
    "service client killed while planning": "drove 4 s later",
    "robot carried 5 m while planning": OLD_PLAN,
    "odometry restarted while planning": OLD_PLAN,
    "camera lost while planning": OLD_PLAN,
    "SIGSTOP while planning": OLD_PLAN,
    "image goal, camera black": "planned and drove",
    "image goal, camera frozen": "planned and drove",
    "budget of 1 ms": "drove what it had",
    "goal at 1e300": "\"inf\" away, driven",
    "plan made while moving": "ended 3.3 m away",
    "second planner of the name": "both drove",
    "SIGTERM": "0.08 s",
    "SIGKILL": "the base keeps the last command",
}  # fmt: skip
#: The parameters of each check, in the order of the checks.
CHECKS = {
    "clock alive": ("clock_timeout", "max_pause"),
    "camera fresh": ("camera_timeout",),
    "camera alive": ("camera_bad_frames", "camera_min_level", "camera_min_contrast"),
    "odometry fresh": ("odometry_timeout",),
    "odometry plausible": ("odometry_jump", "odometry_jump_yaw", "max_stamp_ahead"),
    "moving as commanded": ("stall_time", "max_deviation"),
    "plan valid from here": (
        "start_tolerance", "start_yaw_tolerance", "start_frame_age", "max_plan_age",
        "min_candidates", "require_live_client", "max_goal_distance",
    ),
    "limits": (
        "max_linear_velocity", "max_angular_velocity", "max_linear_acceleration",
        "max_linear_deceleration", "max_angular_acceleration", "max_angular_deceleration",
        "holonomic",
    ),
}  # fmt: skip


def main() -> None:
    """Write the page anew."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = {
        "faults": faults(read(RESULTS / "faults.json")),
        "checks": checks(),
        "soak": soak(read(RESULTS / "soak.json")),
    }
    for name, text in blocks.items():
        page = filled(page, name, text)
    write_text(PAGE, page)
    print(f"wrote {PAGE.relative_to(ROOT)}")


def faults(results: Results) -> str:
    """The table of faults: before and after."""
    machine = results["machine"]
    rows = [
        f"Each {results['trials']} times on {machine['cores']} cores that others used, too (load "
        f"{machine['load_at_start'][0]:g} to {machine['load_now'][0]:g}); median, and the worst in "
        "brackets.",
        "",
        "| fault | before | must be | now | went |",
        "|---|---|---|---|---|",
    ]
    for name, found in results["faults"].items():
        rows.append(
            f"| {name} | {BEFORE.get(name, '-')} | {found['must_be']} | {_now(found)} | "
            f"{_spread(found, 'metres', 'm')} |"
        )
    return "\n".join(rows)


def _now(found: Results) -> str:
    parts = [_spread(found, "seconds", "s")] if "seconds" in found else []
    if "metres_from_planned_end" in found:
        parts.append(f"{_spread(found, 'metres_from_planned_end', 'm')} from the planned end")
    if "held" in found:
        low, high = found["share_95"]
        held = f"{found['held']} of {found['trials']} as it must be"
        parts.append(f"{held} (95 %: {100 * low:.0f} to {100 * high:.0f} %)")
    missing = len(found.get("not_measured", []))
    if missing:
        parts.append(f"{missing} not measured")
    return ", ".join(parts)


def _spread(found: Results, key: str, unit: str) -> str:
    if key not in found:
        return "-"
    return f"{found[key]['median']:.2f} {unit} ({found[key]['worst']:.2f})"


def checks() -> str:
    """The table of checks with their parameters."""
    table = {parameter.name: parameter for parameter in TABLES["planner_node"]}
    rows = ["| check | parameter | default | range | unit |", "|---|---|---|---|---|"]
    for check, names in CHECKS.items():
        for index, name in enumerate(names):
            one = table[name]
            span = "" if one.low is None else f"{one.low:g} to {one.high:g}"
            default = str(one.default).lower() if isinstance(one.default, bool) else one.default
            first = "" if index else check
            rows.append(f"| {first} | `{name}` | {default} | {span} | {one.unit} |")
    rows.append("| single publisher | none: another active planner of the name | | | |")
    return "\n".join(rows)


def soak(results: Results) -> str:
    """What the soak did, and how the processes grew in each phase."""
    phases = results["phases"]
    state = "complete" if results["complete"] else "**stopped before its end**"
    lines = [f"`{results['command']}`, {state}, {results['minutes']:.0f} minutes:", ""]
    for name, found in phases.items():
        text = f"* {name}: {found['done']:,} of {found['asked_for']:,}"
        text += f" in {found['seconds']:,.0f} s" if "seconds" in found else ""
        answered = [sum(kind.values()) for kind in found.get("outcomes", {}).values()]
        if answered:
            text += f"; {len(found['problems'])} without the answer that was due"
        if "refused" in found:
            text += f"; {found['driven']:,} driven, {sum(found['refused'].values()):,} refused"
        if "camera_ends_s" in found:
            worst = max(found["camera_ends_s"] + found["odometry_ends_s"])
            text += f" stops, the latest after {worst:.2f} s"
        lines.append(text)
    lines += [
        "",
        "| phase | process | memory at first and at last [MiB] | slope per 1,000, 95 % [KiB] | "
        "threads | open files |",
        "|---|---|---|---|---|---|",
    ]
    for phase, nodes in results["growth"].items():
        for name, grew in nodes.items():
            memory = grew["uss_mib"]
            slope, low, high = (1024 * 1000 * memory[key] for key in ("slope", "low", "high"))
            counts = (
                f"{grew[q]['first']:.0f}, {grew[q]['last']:.0f}" for q in ("threads", "files")
            )
            lines.append(
                f"| {phase} | {name} | {memory['first']:.1f}, {memory['last']:.1f} | {slope:+,.0f} "
                f"({low:+,.0f} to {high:+,.0f}) | {' | '.join(counts)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
