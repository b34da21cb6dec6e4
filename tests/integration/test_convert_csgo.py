"""v2w convert on DIAMOND's CS:GO files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from convert_toys import converted, fails
from datasetmaker import csgo_actions, shown, write_csgo

from v2w_core.data.csgo_actions import decode
from v2w_core.data.domains import CSGO_ACTION


def test_csgo(tmp_path: Path) -> None:
    source = tmp_path / "full_res"
    write_csgo(source / "dm_1_to_200" / "hdf5_dm_july2021_2.hdf5", 9)
    write_csgo(source / "dm_1_to_200" / "hdf5_dm_july2021_1.hdf5")
    first, second = converted(source, tmp_path / "out")
    assert "hdf5_dm_july2021_1" in first.source
    assert len(second) == 9
    assert first.action_spec == CSGO_ACTION
    assert first.image_size == (150, 280)
    assert [shown(frame) for frame in first.frames()] == list(range(12))
    assert tuple(first.frames()[0, 70, 40] // 8) == (25, 0, 0)  # blue-first on disk, red here
    assert decode(first.actions) == csgo_actions(12)[:-1]
    assert first.stamps_ns[8] == 500_000_000
    assert first.attributes == {"poses": "unknown"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frame_3_y", None, "frame_3_y: a dataset of this name"),
        ("frame_5_x", None, "frame_5_x: a dataset of this name"),
        ("frame_2_y", np.zeros(50), "frame_2_y: shape [51] (got [50])"),
        ("frame_2_y", np.zeros(51), "frame_y[2]: exactly one of the 23 mouse_x bins (got 0)"),
        ("frame_4_x", np.zeros((150, 280, 3)), "uint8 [H, W, 3], blue first"),
        ("frame_4_x", np.zeros((150, 280), np.uint8), "uint8 [H, W, 3], blue first"),
        ("frame_4_x", np.zeros((75, 140, 3), np.uint8), "frames[4]: the size of the first frame"),
    ],
)
def test_csgo_that_is_wrong(tmp_path: Path, capsys, key, value, message: str) -> None:
    source = write_csgo(tmp_path / "dm.hdf5")
    with h5py.File(source, "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value
    assert message in fails(capsys, source, tmp_path / "out")
