"""Fills the tables of docs/performance.md and draws its pictures.

    python benchmarks/rollout.py --json benchmarks/results/rollout.json
    python benchmarks/full_size.py floors
    python benchmarks/plan_levers.py quality
    python benchmarks/performance_page.py

Only what lies between ``<!-- NAME -->`` and ``<!-- end NAME -->`` is written anew.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.errors import DataError
from v2w_core.files import replaced, write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLAN_LEVERS = RESULTS / "plan_levers.json"
PAGE = ROOT / "docs" / "performance.md"
FRAMES, ROOFLINE = "performance_frames.png", "performance_roofline.png"
#: Colours of contenders, told apart also by those who see few colours.
COLOURS = ("#7f7f7f", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

Results = dict[str, Any]


def main() -> int:
    rollout, full_size = (read(RESULTS / f"{name}.json") for name in ("rollout", "full_size"))
    blocks = {
        "machine": machine(rollout),
        "rows": asked_for(rollout),
        "frames": frames(rollout),
        "full size": floors(full_size["floors"]),
    }
    if PLAN_LEVERS.is_file():  # half an hour of planning; not part of make bench
        levers = read(PLAN_LEVERS)
        blocks |= {"plan quality": plans(levers["quality"])} if "quality" in levers else {}
    page = PAGE.read_text(encoding="utf-8")
    for name, text in blocks.items():
        page = filled(page, name, text)
    write_text(PAGE, page)
    for name, draw in ((FRAMES, draw_frames), (ROOFLINE, draw_roofline)):
        with replaced(PAGE.parent / "images" / name) as temporary:
            temporary.write_bytes(picture(draw, rollout))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def read(path: Path) -> Results:
    if not path.is_file():
        raise SystemExit(f"{path.relative_to(ROOT)} is missing; the commands: --help of this one")
    results: Results = json.loads(path.read_text())
    return results


def filled(page: str, name: str, text: str) -> str:
    """The page with another text in a block. Raises DataError when it has no such block."""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not block.search(page):
        raise DataError(str(PAGE), f"a block <!-- {name} --> ... <!-- end {name} -->", "none")
    return block.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


def machine(results: Results) -> str:
    rates = ", ".join(f"{v:.0f} GFLOP/s in {k}" for k, v in results["product_gflops"].items())
    lines = [
        f"{results['date']}, `{results['command']}`, {results['num_threads']} threads of "
        f"{results['machine']}. Measured in the same run: matrix products {rates}; copies "
        f"{results['copy_gb_per_s']:.1f} GB/s, read and written."
    ]
    passed = results["passed_over"]
    if passed:
        lines += ["", "Passed over:", "", *(f"* {name}: {why}" for name, why in passed.items())]
    return "\n".join(lines)


def asked_for(results: Results) -> str:
    rows = ["| what | measured | at least |", "|---|---|---|"]
    for row in results["rows"]:
        verdict = "holds" if row["holds"] else "**does not hold**"
        rows.append(
            f"| {row['what']} | {row['times']:.1f} times | {row['at_least']:g}: {verdict} |"
        )
    return "\n".join(rows)


def frames(results: Results) -> str:
    columns = ("model", "candidates", "rollout", "", "frames a second", "to eager",
               "step p50 [ms]", "p95 [ms]", "peak memory [MiB]", "of its floor",
               "off eager by")  # fmt: skip
    rows = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for case, name, found in contenders(results):
        guided = ", guidance" if case["guidance_scale"] != 1 else ""
        steps = f"{case['num_steps']} step" + "s" * (case["num_steps"] > 1)
        fraction = found.get("fraction_of_floor")
        cells = (
            f"{case['model']}, {case['parameters_m']:.0f} M",
            case["batch_size"],
            f"{case['num_history']} + {case['horizon']} frames, {steps}{guided}",
            name,
            f"{found['frames_per_s']:.3g}",
            f"{found['ratio_to_eager']:.2f}",
            f"{found['step_ms_p50']:.1f}",
            f"{found['step_ms_p95']:.1f}",
            f"{found['peak_mib']:.0f}",
            "-" if fraction is None else f"{100 * fraction:.0f} %",
            f"{found['largest_difference_from_eager']:.1g}",
        )
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def contenders(results: Results) -> Iterator[tuple[Results, str, Results]]:
    """Every case, contender, and what it reached."""
    for case in results["cases"]:
        for name, found in case["contenders"].items():
            yield case, name, found


def floors(modes: Results) -> str:
    devices = list(next(iter(modes.values()))["floor_s"])
    rows = ["| | TFLOP | GB | " + " | ".join(devices) + " |", "|---" * (3 + len(devices)) + "|"]
    for mode, found in modes.items():
        cells = [f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in (found["tflop"], found["gbyte"])]
        for device in devices:
            memory = " (memory)" if found["bound_by"][device] == "memory" else ""
            cells.append(f"{seconds(found['floor_s'][device])}{memory}")
        rows.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def plans(found: Results) -> str:
    rows = ["| | passes | cost | pose error [m] | more than with all |", "|---|---|---|---|---|"]
    for name, plan in found["levers"].items():
        more = f"{plan['pose_error_more_m']:+.2f} +- {plan['standard_error_m']:.2f}"
        rows.append(f"| {name} | {plan['passes']} | {plan['cost']:.2f} | "
                    f"{plan['pose_error_m']:.2f} | {more} |")  # fmt: skip
    return "\n".join([f"{found['num_moments']} moments.", "", *rows])


def seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value < 0.1 else f"{value:.3g} s"


def picture(draw: Callable[[Any, Results, dict[str, str]], None], results: Results) -> bytes:
    """A PNG with one pair of axes."""
    from matplotlib.figure import Figure

    names = dict.fromkeys(name for _, name, _ in contenders(results))
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    draw(figure.subplots(), results, dict(zip(names, COLOURS, strict=False)))
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


def draw_frames(axes: Any, results: Results, colours: dict[str, str]) -> None:
    """Bars: frames a second by case and contender."""
    cases = results["cases"]
    width = 0.8 / len(colours)
    for index, (name, colour) in enumerate(colours.items()):
        has = [i for i, case in enumerate(cases) if name in case["contenders"]]
        rates = [cases[i]["contenders"][name]["frames_per_s"] for i in has]
        offset = (index - (len(colours) - 1) / 2) * width
        bars = axes.bar(np.array(has) + offset, rates, width, color=colour, label=name)
        axes.bar_label(bars, [f"{rate:.3g}" for rate in rates], fontsize=7)
    axes.set_yscale("log")
    labels = [f"{case['model']}\n{case['batch_size']}" for case in cases]
    axes.set_xticks(range(len(cases)), labels)
    axes.set_xlabel("model, candidates")
    axes.set_ylabel("imagined frames a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def draw_roofline(axes: Any, results: Results, colours: dict[str, str]) -> None:
    """FLOP/s reached against FLOPs a byte, below the machine's roof."""
    peak = results["product_gflops"]["float32"]
    copies = results["copy_gb_per_s"]
    points = [(c, n, f) for c, n, f in contenders(results) if "gflop" in f]
    intensity = [f["gflop"] / f["gbyte"] for _, _, f in points]
    span = np.geomspace(0.5 * min(intensity), 2 * max(intensity), 100)
    axes.plot(span, np.minimum(peak, copies * span), color="black", linewidth=1)
    axes.annotate(f"{peak:.0f} GFLOP/s, {copies:.0f} GB/s (measured)", (span[-1], peak),
                  ha="right", va="bottom", fontsize=8)  # fmt: skip
    for name, colour in colours.items():
        mine = [(f["gflop"] / f["gbyte"], f["gflop"] / f["rollout_s"], c) for c, n, f in points
                if n == name]  # fmt: skip
        if not mine:
            continue
        for model, marker in (("small", "o"), ("mid", "s")):
            x = [m[0] for m in mine if m[2]["model"] == model]
            y = [m[1] for m in mine if m[2]["model"] == model]
            axes.plot(x, y, marker, color=colour, markersize=6)
        axes.plot([], [], "o", color=colour, label=name)
        for x_at, y_at, case in mine:
            axes.annotate(str(case["batch_size"]), (x_at, y_at), fontsize=7,
                          xytext=(5, -3), textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP a byte (round: small, square: mid-size model; numbers: candidates)")
    axes.set_ylabel("GFLOP/s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


if __name__ == "__main__":
    sys.exit(main())
