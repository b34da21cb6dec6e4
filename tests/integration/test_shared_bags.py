"""Recordings re-made after public reports, where the folder that holds them is there."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from convert_toys import SHARED

CASES = SHARED / "cases" / "bags"
NAMES = sorted(path.parent.name for path in CASES.glob("*/case.json")) or ["none"]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    sys.path.insert(0, str(CASES / "common"))
    spec = importlib.util.spec_from_file_location("check_all_bags", CASES / "check_all.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"no {CASES} (set V2W_SHARED_DIR)")
@pytest.mark.parametrize("name", NAMES)
def test_case(
    checker: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "WORK", tmp_path)
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    _, good, why = checker.one(name)
    if good is None:
        pytest.skip(why)
    assert good, why
