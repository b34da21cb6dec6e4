"""Recorded inputs and outputs of the reference implementation: a folder, V2W_PARITY_DIR.

Read by tests/parity and by the benchmarks that need its shapes or its small models. The recordings
are not part of the project. Names of runs, sizes, strides and masks are the folder's own.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from v2w_core.diffusion.compat import CompatConfig
from v2w_core.diffusion.schedule import DiffusionConfig
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.image_context.image_context import frame_tokens
from v2w_core.models.unet import UNet, UNetConfig
from v2w_core.transfer.released import unet_config
from v2w_core.transfer.unet_keys import UNET_PREFIX, unet_name
from v2w_core.transfer.weight_transfer import TransferMode, transfer_weights

ROOT = pathlib.Path(__file__).resolve().parents[1]
Shapes = dict[str, list[int]]


def default_folder() -> pathlib.Path:
    """$V2W_PARITY_DIR, or the folder beside the repository where recordings are shared."""
    return pathlib.Path(os.environ.get("V2W_PARITY_DIR", ROOT.parent / "shared" / "parity"))


class Recordings:
    """Files of the folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.json").is_file()

    def json(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")

    def arrays(self, name: str) -> dict[str, Tensor]:
        with np.load(self.folder / f"{name}.npz") as file:
            return {key: torch.from_numpy(value) for key, value in file.items()}

    def causal_names(self) -> list[str]:
        """The configuration of the transferred U-Nets."""
        return sorted(path.stem for path in self.folder.glob("unet_small_causal_*.json"))

    def base_weights(self) -> dict[str, Tensor]:
        weights = self.tensors("unet_small_base_weights")
        return {unet_name(name): value for name, value in weights.items()}

    def transferred(self, mode: TransferMode, added: dict[str, Tensor]) -> dict[str, Tensor]:
        """The base's weights after a transfer, and what the tensors add under ``weight.``"""
        weights = transfer_weights(self.base_weights(), mode, height_too=True)
        fresh = {k.removeprefix("weight."): v for k, v in added.items() if k.startswith("weight.")}
        return {**weights, **{unet_name(name): value for name, value in fresh.items()}}

    def diffusion(self) -> DiffusionConfig:
        """The schedule, with the dynamic rescale that its array shows."""
        data = self.json("ddim_schedule")
        schedule, scale = data["schedule"], data["scale_arr"]
        return DiffusionConfig(
            num_levels=schedule["timesteps"],
            beta_start=schedule["linear_start"],
            beta_end=schedule["linear_end"],
            zero_terminal_snr=schedule["rescale_zero_terminal_snr"],
            base_scale=scale[-1],
            turning_level=scale.index(scale[-1]) + 1,
        )

    def released_shapes(self, kind: str) -> tuple[Shapes, dict[str, Any]]:
        """Names and shapes of a whole released file, and its U-Net's configuration."""
        base = self.json("dynamicrafter512_unet_keys")
        parts = "first_stage_and_image_proj", "cond_stage_and_embedder", "schedule_buffers"
        rest: Shapes = {name: shape for part in parts for name, shape in base[part].items()}
        if kind == "dynamicrafter512":
            return {**rest, **base[UNET_PREFIX.removesuffix(".")]}, base["config"]["unet"]
        own = self.json("vid2world_unet_keys")
        domain = own[kind.removeprefix("vid2world-")]
        unet = dict(own["rt1"]["keys"])  # the only one that is listed in full
        for name in domain.get("keys_of_rt1_absent_here", []):
            del unet[name]
        unet.update(domain.get("keys_only_in_this_config_or_other_shape", {}))
        return {**rest, **unet}, domain["config"]


class SamplingCase:
    """The recorded sampling runs, with a model that can be changed."""

    def __init__(self, recorded: Recordings) -> None:
        self.tensors = recorded.tensors("sampler_small")
        data = recorded.json("sampler_small")
        self.settings, self.runs = data["sampling"], data["runs"]
        self.config: UNetConfig = unet_config(data["config_unet"])
        self.recorded = recorded
        self.at = {k.removeprefix("in."): v for k, v in self.tensors.items()}
        clean = self.at["z"].transpose(1, 2)
        self.history = clean[:, : self.settings["cond_frame"]]

    def unet(self, *, height_too: bool = True, **changes: Any) -> UNet:
        """The transferred U-Net, with other options."""
        weights = self.recorded.transferred("extrapolative", self.tensors)
        if not height_too:
            name = "out.2.weight"
            weights[name] = self.recorded.base_weights()[name]
        unet = UNet(dataclasses.replace(self.config, **changes)).eval()
        unet.load_state_dict(weights)
        return unet


class RecordedDenoiser:
    """A model under the recording's conditions: tokens, first frame, actions, stride.

    ``together``: the unguided pass of all frames at once; else it leaves out the newest action.
    """

    def __init__(
        self, case: SamplingCase, unet: UNet, compat: CompatConfig, *, together: bool = False
    ) -> None:
        self.case, self.unet, self.compat, self.together = case, unet, compat, together

    def __call__(self, x: Tensor, level: Tensor, *, guided: bool) -> Tensor:
        at, num_frames = self.case.at, x.shape[1]
        known = torch.ones(x.shape[:2])
        known[:, 0] = float(self.compat.zero_first_action)
        if not guided and self.together:
            known = self.together_mask()[:num_frames].expand(x.shape[:2])
        elif not guided:
            known[:, -1] = 0
        tokens = frame_tokens(
            at["ctx" if guided else "uctx"], num_frames, by_length=self.compat.tokens_by_length
        )
        actions = shift_actions(at["action"])[:, :num_frames]
        concat = at["concat"].transpose(1, 2)[:, :num_frames]
        stride = torch.full((len(x),), self.case.settings["fs"])
        x = torch.cat([x, concat], dim=2)
        v: Tensor = self.unet(x, level, actions, known, context=tokens, frame_stride=stride)[0]
        return v

    def together_mask(self) -> Tensor:
        """Which actions [T] the unguided pass knows when all frames are sampled at once."""
        settings = self.case.settings
        pattern = re.search(r"\(([01](?:,[01])*),\.\.\.\)", settings["uncond"])
        assert pattern is not None, settings["uncond"]
        bits = itertools.cycle(float(bit) for bit in pattern.group(1).split(","))
        return torch.tensor(list(itertools.islice(bits, settings["T"])))
