"""v2w convert, any data set: which kind it is, options, damage, and the model after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from convert_toys import converted, fails
from datasetmaker import rt1_steps, write_csgo, write_recon_folder, write_recon_hdf5
from released_toys import tiny_released_config

from v2w_core.cli import main
from v2w_core.data.convert import convert
from v2w_core.data.sources.csgo import open_csgo
from v2w_core.data.sources.recon import open_recon
from v2w_core.data.sources.rlds import open_episodes
from v2w_core.world_model import WorldModel


@pytest.mark.parametrize("write", [write_csgo, write_recon_hdf5])
def test_truncated_hdf5(tmp_path: Path, write, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "data.hdf5")
    os.truncate(source, source.stat().st_size // 2)
    message = fails(capsys, source, tmp_path / "out")
    assert "data.hdf5: a complete HDF5 file" in message


def test_unknown_and_ambiguous_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing")
    message = fails(capsys, notes, tmp_path / "out")
    for name in ("rosbag2 folder", "dataset_info.json", "traj_data.pkl", "frame_0_x", "notes.txt"):
        assert name in message
    mixed = tmp_path / "mixed"
    write_csgo(mixed / "a.hdf5", 3)
    write_recon_folder(mixed / "jackal", 3)
    message = fails(capsys, mixed, tmp_path / "out")
    assert "choose with --kind recon or --kind csgo" in message
    assert len(converted(mixed, tmp_path / "chosen", "--kind", "csgo")) == 1
    assert "one of auto, bag, rlds" in fails(capsys, mixed, tmp_path / "out", "--kind", "zip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-topic", "/x"], "--image-topic: only for bag; this source is csgo"),
        (["--split", "val"], "--split: only for rlds"),
        (["--rate-hz", "5"], "--rate-hz: only for bag or rlds or recon"),
        (["--start-s", "0"], "--start-s: only for bag"),
        (["--action-low", "0", "0", "0"], "--action-low: only for bag"),
        (["--max-episodes", "0"], "--max-episodes: at least 1"),
    ],
)
def test_options_of_another_kind(tmp_path: Path, capsys, options, message: str) -> None:
    source = write_csgo(tmp_path / "dm.hdf5", 3)
    assert message in fails(capsys, source, tmp_path / "out", *options)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys) -> None:
    source = write_csgo(tmp_path / "dm.hdf5", 3)
    assert "dest: a folder that can be made" in fails(capsys, source, source / "out")


def test_a_damaged_recording_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "recon"
    write_recon_hdf5(source / "a.hdf5")
    write_recon_hdf5(source / "b.hdf5")
    os.truncate(source / "b.hdf5", 3000)
    assert "b.hdf5: a complete HDF5 file" in fails(capsys, source, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["rt1", "csgo", "recon"])
def test_an_imported_model_takes_the_episodes(domain: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    if domain == "rt1":
        recordings = open_episodes([rt1_steps(6)], 1, name="rt1", split="train")
    elif domain == "csgo":
        recordings = open_csgo(write_csgo(tmp_path / "dm.hdf5", 6))
    else:
        recordings = open_recon(write_recon_hdf5(tmp_path / "jackal.hdf5", 6))
    (path,) = convert(recordings, tmp_path / "episodes", domain).paths
    config = tiny_released_config(f"vid2world-{domain}")
    checkpoint = WorldModel.build(config).save_pretrained(tmp_path / "checkpoint")
    options = ["--steps", "2", "--num-sampling-steps", "2", "--out", str(tmp_path / "imagined")]
    assert main(["imagine", str(path), "--checkpoint", str(checkpoint), *options]) == 0
