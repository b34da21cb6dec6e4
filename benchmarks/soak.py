"""Real nodes under 2,000 wrong requests, 10,000 plans and a million camera stamps: do they grow?

world_model_node and planner_node run with a tiny model beside a simulated base that they drive.
Their memory, threads and open files are looked at once a second. One phase after the other:

warm up    requests as the next ones: every queue comes to hold the largest messages it can
requests   random and malformed requests of every kind (soak_requests.py), four at a time
camera     camera stamps over DDS to both nodes, at a rate at which no more than 2 % are lost
stamps     camera stamps into the callbacks of a third node: DDS does not carry a million in time
plans      short plans, which the base drives, two at a time, some through the action
watchdog   camera and odometry end while the robot drives: it must stop, after all that

What is known is written every ten seconds: a run that is stopped leaves what it had. The exit code
is 1 when a node died, a request was not answered, the robot did not stop in time, or something
grew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Stops after the soak by each of two faults.
STOPS = 5
#: What may grow over a phase without being called growth: the slope's interval must lie above 0
#: as well [MiB, threads, files].
ALLOWED = {"uss_mib": 3.0, "threads": 1.0, "files": 2.0}


def run(args: argparse.Namespace, folder: Path, domain: int) -> dict[str, Any]:
    """All phases that are asked for; the result."""
    import soak_phases
    from soak_nodes import SoakNodes

    began = time.monotonic()
    deadline = began + 60.0 * args.minutes if args.minutes else float("inf")
    soak = SoakNodes(folder, domain, deadline)
    soak.result |= {"command": "python benchmarks/soak.py " + " ".join(sys.argv[1:])}
    ended = threading.Event()
    writer = threading.Thread(target=_write_now_and_then, args=(soak, args.json, ended))
    writer.start()
    try:
        for phase, number, options in (
            ("warm_up", args.warm_up, {}),
            ("requests", args.requests, {"seed": args.seed}),
            ("camera", args.dds_stamps, {}),
            ("stamps", args.stamps, {}),
            ("plans", args.plans, {"seed": args.seed}),
            ("watchdog", STOPS, {}),
        ):
            if not number or not all(soak.alive().values()):
                continue
            start = time.monotonic()
            getattr(soak_phases, phase)(soak, number, **options)
            seconds = round(time.monotonic() - start, 1)
            soak.result["phases"][soak.phase] |= {"done": soak.done, "seconds": seconds}
        soak.result["complete"] = True
    finally:
        soak.result["minutes"] = round((time.monotonic() - began) / 60.0, 1)
        soak.end()
        ended.set()
        writer.join()
        summarise(soak)
        write(args.json, soak.result)
    return soak.result


def summarise(soak: Any) -> None:
    """Put into the result how the processes grew, and what they looked like over time."""
    from soak_watch import growth

    samples = list(soak.watch.samples)
    names = {name for sample in samples for name in sample} - {"seconds", "phase", "done"}
    soak.result["growth"] = {
        phase: {name: grew for name in sorted(names) if (grew := growth(samples, phase, name))}
        for phase in soak.result["phases"]
    }
    soak.result["samples"] = samples[:: max(1, len(samples) // 300)]


def _write_now_and_then(soak: Any, path: Path | None, ended: threading.Event) -> None:
    while not ended.wait(10.0):
        with suppress(RuntimeError):  # a dictionary that has changed meanwhile
            summarise(soak)
            write(path, soak.result)


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Write the result as JSON, whole or not at all; the samples in one line."""
    if path is None:
        return
    samples = json.dumps(result.get("samples", []))
    rest = json.dumps({k: v for k, v in result.items() if k != "samples"}, indent=2)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(f'{rest[:-2]},\n  "samples": {samples}\n}}\n')
    os.replace(file.name, path)


def problems(result: dict[str, Any]) -> list[str]:
    """What is not as it must be; empty when all is well."""
    found = [f"{name} died" for name, alive in result["alive"].items() if not alive]
    found += [f"{name} ended with {c}" for name, c in result["exit_codes"].items() if c]
    found += [
        f"{n} errors in callbacks of {k}" for k, n in result["errors_in_callbacks"].items() if n
    ]
    phases = result["phases"]
    for name in ("warm up", "requests"):
        found += phases.get(name, {}).get("problems", [])
    if not phases.get("watchdog", {}).get("in_time", True):
        found.append("the robot did not stop in time afterwards")
    for phase, nodes in result["growth"].items():
        if phase == "warm up":
            continue
        for name, quantities in nodes.items():
            for quantity, allowed in ALLOWED.items():
                grew = quantities[quantity]
                if grew["low"] > 0.0 and grew["over_phase"] > allowed:
                    found.append(f"{phase}: {quantity} of {name} grew by {grew['over_phase']:g}")
    return found


def show(result: dict[str, Any]) -> None:
    """Print what happened in each phase, and how the processes grew."""
    for phase, found in result["phases"].items():
        print(f"\n{phase}: {found.get('done')} of {found['asked_for']} in {found.get('seconds')} s")
        for name, quantities in result["growth"].get(phase, {}).items():
            print(f"  {name}")
            for quantity, grew in quantities.items():
                slope, low, high = (1000.0 * grew[key] for key in ("slope", "low", "high"))
                print(f"    {quantity:8} {grew['first']:9.2f} -> {grew['last']:9.2f}, "
                      f"{slope:+.4f} [{low:+.4f}, {high:+.4f}] per 1,000")  # fmt: skip
    for kind, outcomes in result["phases"].get("requests", {}).get("outcomes", {}).items():
        print(f"  {kind:26} {outcomes}")


def main() -> None:
    """Run the soak, print it, and say what is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warm-up", type=int, default=2000, help="requests of another seed")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--dds-stamps", type=int, default=100_000, help="phase camera")
    parser.add_argument("--stamps", type=int, default=1_000_000, help="phase stamps")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="end the phases after this (default: never)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="memory over time, as a PNG")
    args = parser.parse_args()
    from v2w.bringup import ros_environment

    ros_environment.reexecute_with_ros()
    domain = ros_environment.pick_domain_id()
    os.environ.update(ros_environment.isolated(dict(os.environ), domain))
    with tempfile.TemporaryDirectory() as folder:
        result = run(args, Path(folder), domain)
    show(result)
    if args.picture:
        from soak_watch import picture

        picture(result["samples"], list(result["alive"])).savefig(args.picture, dpi=110)
    wrong = problems(result)
    print("\n" + ("\n".join(wrong) or "nothing grew, everything was answered, the robot stops"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
