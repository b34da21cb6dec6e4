"""Parsing of action sequences on the command line: a keyword, numbers or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec

FIELD = "--actions"
#: Largest file of actions.
MAX_BYTES = 64 << 20
SUFFIXES = (".npy", ".csv", ".json")


def parse_actions(
    text: str, spec: ActionSpec, num_steps: int | None, default_steps: int
) -> NDArray[np.float32]:
    """Actions float32 [horizon, A] in physical units, within the bounds.

    Args:
        text: "zero", numbers with commas ("0.3,0,0.1", one action that is repeated), or a file:
            .npy [horizon, A], .csv (a row per step, a header is allowed) or .json (a list of rows,
            or an object with "action_sequence" as ``v2w plan --json`` writes it).
        spec: the action space.
        num_steps: number of steps; None: all rows of a file, or ``default_steps``.
        default_steps: number of steps of a repeated action.

    Raises:
        V2WError: the file does not exist, or the actions are not numbers, not finite, out of
            bounds, too few or of wrong width.
    """
    steps = default_steps if num_steps is None else num_steps
    if text == "zero":
        return spec.validate(np.zeros((steps, spec.dim)), field=FIELD)
    if text.lower().endswith(SUFFIXES):
        rows = spec.validate(_read(Path(text)), field=f"{FIELD} {Path(text).name}")
        if rows.ndim != 2:
            raise V2WError(FIELD, f"one sequence [horizon, {spec.dim}]", list(rows.shape))
        if num_steps is not None and num_steps > len(rows):
            raise V2WError("--steps", f"at most the {len(rows)} steps in {text}", num_steps)
        return rows[:num_steps]
    try:
        row = [float(item) for item in text.split(",")]
    except ValueError as error:
        rule = (
            f"recorded, zero, numbers {','.join(spec.names)} with commas, "
            f"or a file {', '.join(SUFFIXES)}"
        )
        raise V2WError(FIELD, rule, text) from error
    if len(row) != spec.dim:
        rule = f"{spec.dim} numbers, one for each of {', '.join(spec.names)}"
        raise V2WError(FIELD, rule, text)
    return spec.validate(np.tile(np.asarray(row, dtype=np.float32), (steps, 1)), field=FIELD)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise V2WError(FIELD, "an existing file", str(path))
    if path.stat().st_size > MAX_BYTES:
        raise V2WError(f"{FIELD} {path.name}", f"at most {MAX_BYTES} bytes", path.stat().st_size)
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".json":
            data = json.loads(path.read_text(encoding="utf-8"))
            return data.get("action_sequence") if isinstance(data, dict) else data
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split(",") for line in lines if line.strip() and not line.startswith("#")]
        if rows and not _is_number(rows[0][0]):
            rows = rows[1:]
        return [[float(cell) for cell in row] for row in rows]
    except (ValueError, OSError, EOFError, MemoryError, RecursionError) as error:
        # JSON and Unicode errors are ValueErrors; a header may claim more than there is memory
        rule = f"numbers [horizon, A]; {path.suffix} data, never a pickle"
        raise V2WError(f"{FIELD} {path.name}", rule, str(error)) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
