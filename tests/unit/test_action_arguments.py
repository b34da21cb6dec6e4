"""Files of actions: what is no table of numbers is refused, however it is broken."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from v2w_core.commands.action_arguments import MAX_BYTES, parse_actions
from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(("dx", "dyaw"), ("m", "rad"), (-1, -1), (1, 1), 4.0)


def npy(shape, body=b""):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return head.getvalue() + body


BROKEN = {
    "claim.npy": npy((1 << 31, 2), bytes(16)),
    "overflow.npy": npy((1 << 40, 1 << 40)),
    "objects.npy": npy((1, 2)).replace(b"<f8", b"|O8"),
    "cut.npy": npy((4, 2))[:20],
    "deep.json": b"[" * 200_000,
    "digits.json": b"[[" + b"9" * 10_000 + b", 1]]",
    "huge.json": b"[[1" + b"0" * 400 + b", 1]]",
    "infinite.json": b"[[1e999, 1]]",
    "texts.json": b'[["a", 1]]',
    "object.json": b'{"action_sequence": {"a": 1}}',
    "huge.csv": b"1e999,1\n",
    "bytes.csv": b"\xff\xfe\n",
    "wide.csv": b"1,2,3\n1\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_actions_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(V2WError, match="--actions"):
        parse_actions(str(tmp_path / name), SPEC, None, 4)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".json"])
def test_what_is_no_small_file_is_not_read(tmp_path, suffix):
    with (tmp_path / f"large{suffix}").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for name in ("large", "pipe", "none"):
        with pytest.raises(V2WError, match="--actions"):
            parse_actions(str(tmp_path / f"{name}{suffix}"), SPEC, None, 4)
