"""A folder of recorded inputs and outputs of the reference implementation (V2W_PARITY_DIR).

The recordings are not part of the project: where they are missing, these tests are skipped.
"""

from __future__ import annotations

import json
import os
import pathlib

import pytest
import torch
from safetensors.torch import load_file

from v2w_core.transfer.reference_names import unet_name
from v2w_core.transfer.released import unet_config

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Recordings:
    """Files of the folder; prints the largest error of what was compared."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def json(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())

    def tensors(self, name):
        return load_file(self.folder / f"{name}.safetensors")

    def base_weights(self):
        weights = self.tensors("unet_small_base_weights")
        return {unet_name(name): value for name, value in weights.items()}

    def unet_config(self, name, key="config"):
        return unet_config(self.json(name)[key])

    def check(self, what, ours, theirs, limit):
        assert ours.shape == theirs.shape
        error = float((ours - theirs).abs().max())
        print(f"{what}: largest error {error:.1e} (limit {limit:.0e})")
        assert error <= limit, f"{what}: {error}"


@pytest.fixture(scope="session")
def recorded():
    folder = pathlib.Path(os.environ.get("V2W_PARITY_DIR", ROOT.parent / "shared" / "parity"))
    if not (folder / "unet_small_base.json").is_file():
        pytest.skip(f"no recordings of the reference in {folder} (set V2W_PARITY_DIR)")
    return Recordings(folder)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield
