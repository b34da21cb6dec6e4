"""A folder of recorded inputs and outputs of the reference implementation (V2W_PARITY_DIR).

The recordings are not part of the project: where they, or some of them, are missing, the tests that
read them are skipped.
"""

from __future__ import annotations

import pytest
import torch
from compared import ERRORS, Compared

from recordings import default_folder


@pytest.fixture(scope="session")
def recorded():
    folder = default_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings of the reference in {folder} (set V2W_PARITY_DIR)")
    return Compared(folder)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def pytest_terminal_summary(terminalreporter):
    if ERRORS:
        terminalreporter.section("largest errors against the reference")
    for what, error, limit in ERRORS:
        terminalreporter.write_line(f"{error:8.1e}  (limit {limit:.0e})  {what}")
    if ERRORS:
        what, error, _ = max(ERRORS, key=lambda row: row[1])
        terminalreporter.write_line(f"{error:8.1e}  is the largest of {len(ERRORS)}: {what}")
