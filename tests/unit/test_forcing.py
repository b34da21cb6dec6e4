"""Teacher forcing in one pass equals a rollout with clean history, frame by frame."""

from __future__ import annotations

import pytest
import torch
from core_toys import small_unet

from v2w_core.errors import V2WError

BATCH, FRAMES = 2, 5


def streams(unet):
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, FRAMES, unet.config.in_channels, 8, 8)
    return {
        "past": torch.randn(shape, generator=generator),
        "past_noise_level": torch.randint(0, 60, (BATCH, FRAMES), generator=generator),
        "targets": torch.randn(shape, generator=generator),
        "target_noise_level": torch.randint(0, 1000, (BATCH, FRAMES), generator=generator),
        "actions": torch.randn(BATCH, FRAMES, 3, generator=generator),
        "action_mask": torch.rand(BATCH, FRAMES, generator=generator) > 0.2,
    }


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, {"two_temporal_attentions": False}])
def test_all_targets_at_once_are_what_a_rollout_sees_one_by_one(changes):
    unet = small_unet(**changes)
    s = streams(unet)
    v_past, v_targets = unet.forward_teacher_forced(**s)
    alone, _ = unet(s["past"], s["past_noise_level"], s["actions"], s["action_mask"])
    torch.testing.assert_close(v_past, alone, atol=1e-5, rtol=1e-5)
    cache = None
    for t in range(FRAMES):
        now = slice(t, t + 1)
        told = s["actions"][:, now], s["action_mask"][:, now]
        v, _ = unet(s["targets"][:, now], s["target_noise_level"][:, now], *told, cache=cache)
        torch.testing.assert_close(v_targets[:, now], v, atol=1e-5, rtol=1e-4)
        _, cache = unet(s["past"][:, now], s["past_noise_level"][:, now], *told, cache=cache)


@torch.inference_mode()
def test_a_target_sees_no_other_target_and_no_later_past():
    unet = small_unet()
    s = streams(unet)
    _, before = unet.forward_teacher_forced(**s)
    targets, past = s["targets"].clone(), s["past"].clone()
    targets[:, 2] += 1
    past[:, 3] += 1
    _, after = unet.forward_teacher_forced(**{**s, "targets": targets, "past": past})
    changed = [not torch.equal(before[:, t], after[:, t]) for t in range(FRAMES)]
    assert changed == [False, False, True, False, True]


@pytest.mark.parametrize("changes", [{"causal": False}, {"norm_scope": "clip"}])
def test_a_model_that_has_no_past_is_refused(changes):
    unet = small_unet(**changes)
    with pytest.raises(V2WError, match=next(iter(changes))):
        unet.forward_teacher_forced(**streams(unet))
    _, cache = small_unet()(torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2))
    with pytest.raises(V2WError, match=next(iter(changes))):
        unet(torch.zeros(1, 1, 4, 8, 8), torch.zeros(1, 1), cache=cache)
