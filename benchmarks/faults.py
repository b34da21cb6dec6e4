"""Faults while a robot drives: the time until the zero command, and how far the robot went.

planner_node runs with a tiny model and drives the simulated base of the tests (tests/ros), which
follows its commands at 30 Hz, up to 0.5 m/s. Each fault is tried several times; medians and worst
are printed, and the shares of those that must not happen with their 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np

Z = 1.96


def wilson(held: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    share, z2 = held / trials, Z**2 / trials
    middle = (share + z2 / 2.0) / (1.0 + z2)
    half = Z * math.sqrt(share * (1.0 - share) / trials + z2 / trials / 4.0) / (1.0 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(must: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What the trials of a fault say together."""
    result: dict[str, Any] = {"must_be": must, "trials": len(trials)}
    for key in ("seconds", "metres", "metres_from_planned_end"):
        values = [trial[key] for trial in trials if key in trial]
        if values:
            result[key] = {
                "median": round(float(np.median(values)), 3),
                "worst": round(max(values), 3),
                "all": [round(value, 3) for value in values],
            }
    held = [trial["held"] for trial in trials if "held" in trial]
    if held:
        low, high = wilson(sum(held), len(held))
        result["held"] = sum(held)
        result["share_95"] = [round(low, 3), round(high, 3)]
    whys = sorted({trial["why"] for trial in trials if trial.get("why")}, key=len)
    if whys:
        result["said"] = whys[0]
    errors = [trial["error"] for trial in trials if "error" in trial]
    if errors:
        result["not_measured"] = errors
    return result


def run(args: argparse.Namespace, folder: Path, domain: int) -> dict[str, Any]:
    """All faults, ``args.trials`` times each."""
    from driven_robot import PLANNER, PLANNER_VALUES, BaseRobot, Driver, Nodes, tiny_checkpoint
    from fault_cases import CASES, Scene

    values = PLANNER_VALUES | {"checkpoint": str(tiny_checkpoint(folder / "tiny"))}
    nodes = Nodes(domain, folder)
    nodes.start([PLANNER], {PLANNER: values})
    robot = BaseRobot(domain)
    results: dict[str, Any] = {}
    load = [round(value, 1) for value in os.getloadavg()]
    try:
        scene = Scene(nodes, values, Driver(robot))
        for name, (must, case) in CASES.items():
            if args.only and args.only not in name:
                continue
            trials: list[dict[str, Any]] = []
            for _ in range(args.trials):
                try:
                    scene.tidy()
                    trials.append(case(scene))
                except Exception as error:
                    traceback.print_exc()
                    trials.append({"error": f"{type(error).__name__}: {error}"})
            results[name] = summary(must, trials)
            print(line(name, results[name]), flush=True)
            now = [round(value, 1) for value in os.getloadavg()]
            machine = {"cores": os.cpu_count(), "load_at_start": load, "load_now": now}
            write(args.json, {"trials": args.trials, "machine": machine, "faults": results})
    finally:
        nodes.stop()
        robot.close()
    return results


def line(name: str, found: dict[str, Any]) -> str:
    """One fault as a line of text."""
    text = f"{name:40} {found['must_be']:24}"
    for key, unit in (("seconds", "s"), ("metres", "m"), ("metres_from_planned_end", "m away")):
        if key in found:
            text += f" {found[key]['median']:6.3f} (worst {found[key]['worst']:.3f}) {unit}"
    if "held" in found:
        low, high = found["share_95"]
        text += f" held {found['held']} of {found['trials']} ({low:.2f} to {high:.2f})"
    return text + (f" NOT MEASURED: {found['not_measured']}" if "not_measured" in found else "")


def write(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results as JSON, whole or not at all."""
    if path is None:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(results, file, indent=2)
    os.replace(file.name, path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5, help="of each fault (default 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    from v2w.bringup import ros_environment

    ros_environment.reexecute_with_ros()
    domain = ros_environment.pick_domain_id()
    os.environ.update(ros_environment.isolated(dict(os.environ), domain))
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder), domain)


if __name__ == "__main__":
    main()
