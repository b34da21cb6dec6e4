"""The U-Net against the reference's outputs: base model, transfer, actions."""

from __future__ import annotations

import pytest
import torch

from v2w_core.diffusion.compat import RELEASED
from v2w_core.models.conditioning import shift_actions
from v2w_core.models.image_context.image_context import frame_tokens
from v2w_core.models.unet import UNet
from v2w_core.transfer.released import unet_config
from v2w_core.transfer.unet_keys import unet_name

LIMIT = 1e-4


def loaded(recorded, name, weights):
    unet = UNet(unet_config(recorded.json(name)["config"])).eval()
    unet.load_state_dict(weights)
    return unet


def run(unet, context, x, level, *told, stride):
    num_frames = x.shape[2]
    level = level[:, None].expand(-1, num_frames) if level.ndim == 1 else level
    out, _ = unet(
        x.transpose(1, 2),
        level,
        *told,
        context=frame_tokens(context, num_frames, by_length=RELEASED.tokens_by_length),
        frame_stride=stride,
    )
    return out.transpose(1, 2)


def of_case(tensors, case):
    return {k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{case}.")}


def check_cases(recorded, name, unet, tensors):
    cases = list(recorded.json(name)["cases"])
    assert cases
    for case in cases:
        at = of_case(tensors, case)
        if case == "wrapper":
            # the alignment: frame t is told a_{t-1}, frame 0 a zero vector
            context, x, level = at["c_crossattn"], torch.cat([at["x"], at["c_concat"]], 1), at["t"]
            told = shift_actions(at["c_action"]), at["c_action_mask"]
        else:
            context, x, level = at["context"], at["x"], at["timesteps"]
            told = at.get("action"), at.get("action_mask")
        ours = run(unet, context, x, level, *told, stride=at.get("fs"))
        recorded.check(f"{name} {case}", ours, at["out"], LIMIT)
    used = {k.split(".", 1)[0] for k in tensors} - {"weight"}
    assert used == set(cases), f"{name}: recorded and not compared"


def test_the_base_model(recorded):
    name = "unet_small_base"
    unet = loaded(recorded, name, recorded.base_weights())
    check_cases(recorded, name, unet, recorded.tensors(f"{name}_cases"))


@pytest.mark.slow
def test_transfers_and_action_conditioning(recorded):
    names = recorded.causal_names()
    about = {name: recorded.json(name) for name in names}
    assert {data["mode"] for data in about.values()} == {"shift", "masked", "extrapolative"}
    assert any(data["action_dim"] for data in about.values())
    for name, data in about.items():
        tensors = recorded.tensors(f"{name}_cases")
        if data["action_dim"] is None:  # inputs that all modes share, and the mode's own weights
            tensors = {**recorded.tensors("unet_small_causal_inputs"), **tensors}
            check_weights(recorded, name, data["mode"])
        unet = loaded(recorded, name, recorded.transferred(data["mode"], tensors))
        assert unet.config.action_dim == data["action_dim"]
        check_cases(recorded, name, unet, tensors)


def check_weights(recorded, name, mode):
    ours = recorded.transferred(mode, {})
    for key, value in recorded.tensors(f"{name}_weights").items():
        if not key.startswith("_"):
            error = float((ours[unet_name(key)] - value).abs().max())
            assert error <= 1e-6, f"{name} {key}: {error}"
