"""The step on slots: what is compiled and recorded on a GPU imagines what eager imagines."""

from __future__ import annotations

import pytest
import torch
from core_toys import candidates, history, small_model
from test_backends import other_model, rollouts

from v2w_core.backends import slot_backend, trial
from v2w_core.backends.base import BackendOptions, make_backend
from v2w_core.backends.eager import Eager
from v2w_core.backends.torch_graphs import TorchGraphs
from v2w_core.errors import V2WError


@pytest.mark.parametrize("sampling", [
    {"num_sampling_steps": 1}, {"num_sampling_steps": 3}, {"guidance_scale": 2.0},
    {"num_sampling_steps": 1, "guidance_scale": 0.5}, {"batch_size": 2},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["held", "denoised"])
def test_steps_on_slots_imagine_what_eager_imagines(mode, sampling):
    model = small_model(imagined_history=mode)
    backend = TorchGraphs(model, BackendOptions())
    for count, horizon in ((1, 1), (3, 3), (5, 8)):
        eager = rollouts(model, Eager(model.unet), count, horizon, **sampling)
        ours = rollouts(model, backend, count, horizon, **sampling)
        torch.testing.assert_close(ours, eager, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", [
    {"init_attention": True, "frame_stride": 3, "multi_hot_actions": True},
    {"two_temporal_attentions": False, "num_temporal_convs": 2, "temporal_kernel": 5},
    {"temporal_kernel": 1, "attention_levels": (0, 1), "model_channels": 24, "head_dim": 8},
])  # fmt: skip
def test_every_option_of_the_network_works_on_slots(changes):
    model = other_model(size=32, **changes)
    eager = rollouts(model, Eager(model.unet), guidance_scale=2.0)
    ours = rollouts(model, TorchGraphs(model, BackendOptions()), guidance_scale=2.0)
    torch.testing.assert_close(ours, eager, atol=1e-4, rtol=1e-4)


def test_batches_are_padded_to_their_bucket():
    sizes = [slot_backend.bucket_of(n) for n in (1, 2, 8, 9, 33, 64, 65, 130)]
    assert sizes == [1, 8, 8, 32, 64, 64, 128, 192]
