"""Drives that are finished are kept, so that an evaluation that was stopped goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from v2w_core.files import replaced

#: Packages whose code decides what a drive is.
CODE = ("planners", "training/envs", "training/evaluation", "v2w_core")


class KeptDrives:
    """Records of one planner's drives by the number of the goal, in a file of JSON lines.

    Args:
        folder: of the files.
        planner: its name.
        about: all that a drive depends on. Other settings, another checkpoint or another version
            of the code have a file of their own.
    """

    def __init__(self, folder: Path, planner: str, about: dict[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        self.path = folder / f"{planner}_{key}.jsonl"
        self.records: dict[int, dict[str, Any]] = {}
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        for line in lines:
            if not line.endswith("\n"):  # the process was killed while it wrote
                break
            item = json.loads(line)
            self.records[item["number"]] = item["record"]
        if len(self.records) < len(lines):
            with replaced(self.path) as temporary:
                temporary.write_text("".join(lines[: len(self.records)]), encoding="utf-8")

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Keeps a finished drive."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": number, "record": record}) + "\n")
        self.records[number] = json.loads(json.dumps(record))


def code_hash() -> str:
    """SHA-256 of the sources that a drive depends on."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in CODE:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 of a checkpoint's configuration and weights."""
    digest = hashlib.sha256()
    for name in ("config.yaml", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
