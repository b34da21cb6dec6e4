"""Golden values of rollouts, plans, trainings, parity and help texts: did a refactor keep them?

    python benchmarks/golden.py --json benchmarks/results/golden.json
    python benchmarks/golden.py --compare benchmarks/results/golden.json

The first line records, the second computes everything again, prints a line a value and exits with 1
where one differs. One thread, fixed seeds. Bits are the same on one machine with one version of
PyTorch only, so record and compare on the same one. All that is used of the project is in
benchmarks/golden_api.py.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import argparse
import contextlib
import difflib
import io
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "ros2_ws/src/v2w")]
GROUPS = ("rollouts", "plans", "training", "parity", "help")


def main() -> int:
    """Records or compares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--json", type=Path, metavar="FILE", help="record into this file")
    what.add_argument("--compare", type=Path, metavar="FILE", help="compare with this file")
    parser.add_argument("--only", default=",".join(GROUPS), metavar="GROUPS",
                        help="some of these (default: %(default)s)")  # fmt: skip
    args = parser.parse_args()
    groups = args.only.split(",")
    if unknown := set(groups) - set(GROUPS):
        parser.error(f"--only: {sorted(unknown)}, not some of {', '.join(GROUPS)}")
    known = json.loads(args.compare.read_text()) if args.compare else None
    found = {"machine": machine(), "values": computed(groups, go_on=known is not None)}
    found = json.loads(json.dumps(found))  # tuples become lists, as in the file
    if known is None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    return compare(known, found, groups)


def machine() -> dict[str, str]:
    """What bits depend on."""
    import numpy
    import onnxruntime
    import torch

    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def computed(groups: Sequence[str], *, go_on: bool) -> dict[str, Any]:
    """All values by "GROUP: name"; a group that fails has none, or ends it all."""
    import torch

    from golden_cases import GROUPS as functions
    from golden_cases import Shared

    torch.set_num_threads(1)
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="v2w_golden_") as folder:
        shared = Shared(Path(folder))
        for group in groups:
            began = time.perf_counter()
            torch.manual_seed(0)
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # of trainings
                    found = functions[group](shared)
            except Exception:
                if not go_on:
                    raise
                traceback.print_exc()
                found = {}
            values |= {f"{group}: {name}": value for name, value in found.items()}
            seconds = time.perf_counter() - began
            print(f"{group}: {len(found)} values, {seconds:.0f} s", file=sys.stderr)
    return values


def compare(known: dict[str, Any], found: dict[str, Any], groups: Sequence[str]) -> int:
    """A line a value; 1 where one differs, is missing or is new."""
    for name, value in known["machine"].items():
        if found["machine"].get(name) != value:
            print(f"another machine: {name} was {value}, is {found['machine'].get(name)}")
    before = {k: v for k, v in known["values"].items() if k.partition(":")[0] in groups}
    after, num_different = found["values"], 0
    for name in {**before, **after}:
        if name in before and name in after and before[name] == after[name]:
            print(f"same       {name}")
            continue
        num_different += 1
        if name not in after:
            print(f"MISSING    {name}")
        elif name not in before:
            print(f"NEW        {name}")
        else:
            print(f"DIFFERENT  {name}")
            show(before[name], after[name])
    print(f"{len(before)} values, {num_different} of them different, missing or new")
    return int(num_different > 0)


def show(before: Any, after: Any, name: str = "") -> None:
    """Both, where they differ; of texts, the lines that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                show(before.get(key), after.get(key), f"{name}{key}: ")
        return
    if name == "text: ":
        for line in difflib.unified_diff(before, after, "before", "after", lineterm="", n=1):
            print(f"    {line}")
        return
    print(f"    {name}before {before}\n    {name}after  {after}{distance(before, after)}")


def distance(before: Any, after: Any) -> str:
    """The largest difference of two numbers or lists of as many."""
    import numpy as np

    try:
        one, other = np.array(before, float), np.array(after, float)
        return f"\n    largest difference {np.abs(one - other).max():.3g}"
    except (TypeError, ValueError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
