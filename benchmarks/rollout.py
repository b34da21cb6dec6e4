"""Imagined frames a second: the reference's algorithm, ours eager, ours on every back end.

    python benchmarks/rollout.py                    all cases, about ten minutes on two cores
    python benchmarks/rollout.py --quick            the small model in short, under a minute
    python benchmarks/rollout.py --only mid:1       one case: the model and the batch size

Every contender has a process of its own and the same weights; they take turns, rollout by rollout,
so that all of them see the same load of the machine. A step is one call of the network. The
fraction of the floor is the time that the counted FLOPs and bytes of each pass take at least, at
the rates of matrix products and copies measured in the same run, over the time it took.
Then: python benchmarks/performance_page.py writes docs/performance.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cases import Case, Setup, load_model
from contenders import REFERENCE, Measured, probed, processes
from floors import Rates, Work, floor_s, measured_rates, total
from v2w_core.backends.engine_cache import device_name
from v2w_core.backends.names import BACKENDS
from v2w_core.errors import V2WError
from v2w_core.files import write_text

EAGER = "eager:fp32"
#: What a precision is multiplied in, and bytes of a number.
DTYPES = {"fp32": (torch.float32, 4), "bf16": (torch.bfloat16, 2), "fp16": (torch.float16, 2)}
CASES = (
    # the default model as a planner uses it
    Case("small", 1, 4, 8, num_steps=1, guidance_scale=1.0, rounds=20, reference_rounds=5),
    Case("small", 8, 4, 8, num_steps=1, guidance_scale=1.0, rounds=12, reference_rounds=3),
    Case("small", 64, 4, 8, num_steps=1, guidance_scale=1.0, rounds=8, reference_rounds=2),
    # the paper's evaluation in short: one frame given, 16 imagined, guidance
    Case("mid", 1, 1, 16, num_steps=4, guidance_scale=2.5, rounds=2),
    # the middle of that window, where a frame costs what it costs on average
    Case("mid", 8, 8, 4, num_steps=1, guidance_scale=2.5, rounds=2),
    Case("mid", 64, 8, 2, num_steps=1, guidance_scale=2.5, rounds=1, reference=False),
)
#: Same shapes as the full run of the small model, fewer rounds.
QUICK = tuple(replace(c, rounds=2, reference_rounds=1) for c in CASES if c.model == "small")


def main() -> int:
    """Measures, prints a table, writes JSON."""
    args = arguments()
    setup = Setup(args.device, args.threads or torch.get_num_threads(), args.checkpoint,
                  args.engines)  # fmt: skip
    torch.set_num_threads(setup.num_threads)
    names = [name if ":" in name else f"{name}:fp32" for name in args.backends]
    cases = [c for c in (QUICK if args.quick else CASES) if chosen(c, args.only)]
    try:
        results = run(cases, names, setup)
    except V2WError as error:
        print(error, file=sys.stderr)
        return 2
    print_table(results)
    if args.json:
        write_text(args.json, json.dumps(results, indent=1) + "\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--backends", nargs="*", metavar="NAME[:PRECISION]",
        default=[name for name in BACKENDS if name != "eager"],
        help="beside reference and eager (default: every one, in fp32)")  # fmt: skip
    add("--quick", action="store_true", help="the small model only, few rounds")
    add("--only", nargs="+", metavar="MODEL[:BATCH]", help="some cases, e.g. small:64 mid")
    add("--checkpoint", type=Path, help="the small model (default: the shipped one)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--threads", type=int, default=0, help="of each contender (default: torch's)")
    add("--engines", type=Path, help="folder of engines (default: the user's cache)")
    add("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def chosen(case: Case, only: list[str] | None) -> bool:
    return only is None or any(o in (case.model, f"{case.model}:{case.batch_size}") for o in only)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(cases: list[Case], names: list[str], setup: Setup) -> dict[str, Any]:
    device = torch.device(setup.device)
    refusals, able = {}, {}
    for which in dict.fromkeys(case.model for case in cases):
        able[which] = []
        case = next(c for c in cases if c.model == which)
        model = load_model(which, setup)
        for name in names:
            refusal = probed(name, model, setup)
            if refusal is None:
                say(f"{which}: building {name} (found again where it was built before)")
                with processes([name], case, setup) as started:
                    refusal = started[name].refusal()
            if refusal is None:
                able[which].append(name)
            else:
                refusals[f"{which}, {name}"] = refusal
                say(f"{which}: {name} passed over: {refusal}")
    dtypes = {DTYPES[p][0] for n in (EAGER, *names) if (p := n.partition(":")[2]) in DTYPES}
    rates = {dtype: measured_rates(device, dtype) for dtype in dtypes}
    measured = []
    for case in cases:
        contenders = [REFERENCE] * case.reference + [EAGER, *able[case.model]]
        measured.append((case, *measure(case, contenders, setup)))
        for dtype, before in rates.items():
            rates[dtype] = before.best(measured_rates(device, dtype))
    found = [summary(*parts, rates) for parts in measured]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{device_name(device)}, {os.cpu_count()} CPU cores, torch {torch.__version__}",
        "num_threads": setup.num_threads,
        "product_gflops": {str(d).split(".")[1]: r.flops_per_s / 1e9 for d, r in rates.items()},
        "copy_gb_per_s": max(r.bytes_per_s for r in rates.values()) / 1e9,
        "passed_over": refusals,
        "cases": found,
        "rows": rows(found),
    }


def measure(
    case: Case, names: list[str], setup: Setup
) -> tuple[dict[str, list[Measured]], dict[str, float], dict[str, list[Work]], int]:
    """Rollouts, peak memory [MiB] and work by contender; the network's number of weights."""
    label = f"{case.model}, batch {case.batch_size}"
    rollouts: dict[str, list[Measured]] = {name: [] for name in names}
    with processes(names, case, setup) as contenders:
        for name, contender in contenders.items():
            refusal = contender.refusal()
            if refusal is not None:
                raise V2WError(name, "ready for steps, as before", refusal)
        for name, contender in contenders.items():
            say(f"{label}: {name} warms up")
            contender.ask("warm_up")
        for number in range(case.rounds):
            say(f"{label}: round {number + 1} of {case.rounds}")
            for name, contender in contenders.items():
                if name != REFERENCE or number < case.reference_rounds:
                    rollouts[name].append(contender.ask("rollout"))
        peaks = {name: contender.ask("peak") for name, contender in contenders.items()}
        work = {n: contenders[n].ask("work") for n in (REFERENCE, EAGER) if n in contenders}
        parameters = contenders[EAGER].ask("parameters")
    return rollouts, peaks, work, parameters


def summary(
    case: Case,
    rollouts: dict[str, list[Measured]],
    peaks: dict[str, float],
    work: dict[str, list[Work]],
    parameters: int,
    rates: dict[torch.dtype, Rates],
) -> dict[str, Any]:
    """A case as plain data."""
    contenders = {}
    eager_s = median_s(rollouts[EAGER])
    for name, taken in rollouts.items():
        seconds = median_s(taken)
        p50, p95 = 1e3 * np.percentile(np.concatenate([m.steps for m in taken]), (50, 95))
        off = np.abs(taken[0].latents - rollouts[EAGER][0].latents).max()
        contenders[name] = {
            "frames_per_s": case.batch_size * case.horizon / seconds,
            "rollout_s": seconds,
            "rollout_s_min": min(m.seconds for m in taken),
            "rounds": len(taken),
            "step_ms_p50": p50,
            "step_ms_p95": p95,
            "peak_mib": peaks[name],
            "ratio_to_eager": eager_s / seconds,
            "largest_difference_from_eager": float(off),
            **floor(name, work.get(name, work[EAGER]), seconds, rates),
        }
    return {
        **dataclasses.asdict(case),
        "parameters_m": parameters / 1e6,
        "contenders": contenders,
    }


def floor(
    name: str, passes: list[Work], seconds: float, rates: dict[torch.dtype, Rates]
) -> dict[str, float]:
    """What these passes need; nothing where the machine's rate is not known."""
    precision = name.partition(":")[2] or "fp32"
    if precision not in DTYPES:
        return {}
    dtype, size = DTYPES[precision]
    passes = [replace(work, bytes=work.bytes * size / 4) for work in passes]
    together, least = total(passes), floor_s(passes, rates[dtype])
    return {
        "num_passes": len(passes),
        "gflop": together.flops / 1e9,
        "gbyte": together.bytes / 1e9,
        "floor_s": least,
        "fraction_of_floor": least / seconds,
    }


def median_s(taken: list[Measured]) -> float:
    return float(np.median([m.seconds for m in taken]))


def rows(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked for, where this run measured it."""
    asked = (
        ("16-frame rollout with guidance, mid-size model, ours eager against the reference's "
         "algorithm", "mid", 1, EAGER, REFERENCE, 6.0),
        ("ONNX Runtime against ours eager, small model, batch 64", "small", 64, "onnx:fp32",
         EAGER, 1.3),
        ("CUDA graphs and inductor in bfloat16 against ours eager in float32, small model, batch "
         "64", "small", 64, "torch:bf16", EAGER, 4.0),
    )  # fmt: skip
    found = []
    for what, model, batch_size, name, against, least in asked:
        for case in cases:
            both = case["contenders"]
            same = (case["model"], case["batch_size"]) == (model, batch_size)
            if same and name in both and against in both:
                times = both[against]["rollout_s"] / both[name]["rollout_s"]
                found.append({"what": what, "at_least": least, "times": times,
                              "holds": times >= least})  # fmt: skip
    return found


def print_table(results: dict[str, Any]) -> None:
    rates = ", ".join(f"{r:.0f} GFLOP/s {d}" for d, r in results["product_gflops"].items())
    print(f"{results['machine']}, {results['num_threads']} threads: {rates}, "
          f"copies {results['copy_gb_per_s']:.1f} GB/s")  # fmt: skip
    print(f"{'model':6} {'batch':>5} {'contender':12} {'frames/s':>9} {'to eager':>8} "
          f"{'step ms p50':>11} {'p95':>8} {'peak MiB':>9} {'of floor':>8}")  # fmt: skip
    for case in results["cases"]:
        for name, c in case["contenders"].items():
            fraction = c.get("fraction_of_floor")
            shown = "-" if fraction is None else f"{fraction:.2f}"
            print(f"{case['model']:6} {case['batch_size']:>5} {name:12} {c['frames_per_s']:>9.1f} "
                  f"{c['ratio_to_eager']:>8.2f} {c['step_ms_p50']:>11.1f} {c['step_ms_p95']:>8.1f} "
                  f"{c['peak_mib']:>9.0f} {shown:>8}")  # fmt: skip
    for row in results["rows"]:
        verdict = "holds" if row["holds"] else "does not hold"
        print(f"{row['what']}: {row['times']:.2f} times, at least {row['at_least']:g}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
