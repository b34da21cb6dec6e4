"""The U-Net against the reference's outputs: base model, transfer, actions."""

from __future__ import annotations

import pytest
import torch

from v2w_core.diffusion.compat import RELEASED, frame_tokens
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.unet import UNet
from v2w_core.transfer.reference_names import unet_name
from v2w_core.transfer.weight_transfer import transfer_weights

LIMIT = 1e-4
MODES = ["shift", "masked", "extrapolative"]


def run(unet, case, context, x, level, *told, stride):
    num_frames = x.shape[2]
    level = level[:, None].expand(-1, num_frames) if level.ndim == 1 else level
    out, _ = unet(
        x.transpose(1, 2),
        level,
        *told,
        context=frame_tokens(context, num_frames, RELEASED),
        frame_stride=stride,
    )
    return out.transpose(1, 2)


def check_cases(recorded, name, unet, tensors):
    cases = [case for case in recorded.json(name)["cases"] if case != "wrapper"]
    assert cases
    for case in cases:
        at = {key.split(".", 1)[1]: tensors[key] for key in tensors if key.startswith(f"{case}.")}
        told = at.get("action"), at.get("action_mask")
        ours = run(unet, case, at["context"], at["x"], at["timesteps"], *told, stride=at.get("fs"))
        recorded.check(f"{name} {case}", ours, at["out"], LIMIT)


def test_the_base_model(recorded):
    name = "unet_small_base"
    unet = UNet(recorded.unet_config(name)).eval()
    unet.load_state_dict(recorded.base_weights())
    check_cases(recorded, name, unet, recorded.tensors(f"{name}_cases"))


@pytest.mark.parametrize("mode", MODES)
def test_transferred_weights(recorded, mode):
    name = f"unet_small_causal_{mode}"
    ours = transfer_weights(recorded.base_weights(), mode, height_too=True)
    for key, value in recorded.tensors(f"{name}_weights").items():
        if not key.startswith("_"):
            recorded.check(f"{name} {key}", ours[unet_name(key)], value, 1e-6)
    unet = UNet(recorded.unet_config(name)).eval()
    unet.load_state_dict(ours)
    inputs = recorded.tensors("unet_small_causal_inputs")
    check_cases(recorded, name, unet, {**inputs, **recorded.tensors(f"{name}_cases")})


@pytest.mark.parametrize("action_dim", [13, 3, 51])
def test_action_conditioning(recorded, action_dim):
    name = f"unet_small_causal_extrapolative_action{action_dim}"
    tensors = recorded.tensors(f"{name}_cases")
    weights = transfer_weights(recorded.base_weights(), "extrapolative", height_too=True)
    added = {key: tensors[key] for key in tensors if key.startswith("weight.")}
    weights.update({unet_name(key.removeprefix("weight.")): value for key, value in added.items()})
    unet = UNet(recorded.unet_config(name)).eval()
    unet.load_state_dict(weights)
    check_cases(recorded, name, unet, tensors)
    # the alignment: frame t is told a_{t-1}, frame 0 a zero vector
    at = {key.split(".")[1]: tensors[key] for key in tensors if key.startswith("wrapper.")}
    x = torch.cat([at["x"], at["c_concat"]], dim=1)
    told = shift_actions(at["c_action"]), at["c_action_mask"]
    ours = run(unet, "wrapper", at["c_crossattn"], x, at["t"], *told, stride=at["fs"])
    recorded.check(f"{name} wrapper", ours, at["out"], LIMIT)
