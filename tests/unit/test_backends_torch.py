"""The step on slots: what is compiled and recorded on a GPU imagines what eager imagines."""

from __future__ import annotations

import pytest
import torch
from backend_toys import other_model, rollouts
from core_toys import history, small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.parity import TOLERANCES
from v2w_core.backends.registry import make_backend
from v2w_core.backends.torch_step import static_cache
from v2w_core.backends.torch_step.cuda_graphs import TorchGraphs
from v2w_core.errors import V2WError


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [
    {"num_sampling_steps": 1}, {"num_sampling_steps": 3}, {"guidance_scale": 2.0},
    {"num_sampling_steps": 1, "guidance_scale": 0.5}, {"batch_size": 2},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_steps_on_slots_imagine_what_eager_imagines(make_config, mode, sampling):
    model = small_model(make_config, imagined_history=mode)
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
    sizes = [static_cache.bucket_of(n) for n in (1, 2, 8, 9, 33, 64)]
    assert sizes == [1, 8, 8, 32, 64, 64]
    with pytest.raises(V2WError, match="at most 64"):
        static_cache.bucket_of(65)


@pytest.mark.parametrize("batch_size", [None, 65])
def test_more_candidates_than_the_largest_bucket_come_in_parts(batch_size, monkeypatch):
    model = small_model()
    backend, sizes = TorchGraphs(model, BackendOptions()), []
    start = TorchGraphs.start

    def noted(self, history, num_candidates, *how):
        sizes.append(num_candidates)
        return start(self, history, num_candidates, *how)

    monkeypatch.setattr(TorchGraphs, "start", noted)
    monkeypatch.setattr(
        "v2w_core.rollout.memory_budget.MOST_ON_CPU", 1000
    )  # a GPU has no such limit
    ours = rollouts(model, backend, 65, 2, batch_size=batch_size)
    assert sizes == ([33, 32] if batch_size is None else [64, 1])
    eager = rollouts(model, Eager(model.unet), 65, 2)
    torch.testing.assert_close(ours, eager, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_within_its_tolerance(make_config, precision):
    model = small_model(make_config)
    backend = TorchGraphs(model, BackendOptions(precision))
    for sampling in ({}, {"guidance_scale": 2.0}):
        difference = rollouts(model, backend, **sampling) - rollouts(
            model, Eager(model.unet), **sampling
        )
        assert 0 < float(difference.abs().max()) <= TOLERANCES[precision]


@pytest.mark.slow
@pytest.mark.parametrize("make_config", ["geometric"], indirect=True)
def test_the_compiler_takes_the_step_whole(make_config):
    """What inductor would compile, traced without a break; its kernels need no GPU to exist."""

    def traced(step):
        return torch.compile(step, fullgraph=True, dynamic=False, backend="aot_eager")

    model = small_model(make_config)
    ours = rollouts(model, TorchGraphs(model, BackendOptions(), compiler=traced))
    torch.testing.assert_close(ours, rollouts(model, Eager(model.unet)), atol=1e-4, rtol=1e-4)


def test_what_was_imagined_before_leaves_no_trace():
    model = small_model()
    backend = TorchGraphs(model, BackendOptions())
    expected = rollouts(model, backend, 3)
    for size, count in ((6, 5), (4, 1), (4, 2)):
        rollouts(model, backend, count, length=size)
    torch.testing.assert_close(rollouts(model, backend, 3), expected, atol=0, rtol=0)


def test_frames_are_forgotten_as_eager_forgets_them():
    model = small_model()
    session = model.start(*history())
    frame = {"latents": torch.randn(2, 1, *model.config.latent_shape),
             "level": torch.full((2, 1), 5), "actions": torch.randn(2, 1, 3),
             "mask": torch.ones(2, 1, dtype=torch.bool)}  # fmt: skip
    results = []
    with torch.inference_mode():
        for backend in (Eager(model.unet), TorchGraphs(model, BackendOptions())):
            past = backend.start(session.history.cache, 2, 3)
            for _ in range(3):
                v, past = backend.step(*frame.values(), past)
            for index in (1, 1, 1, 1):  # the history but its first frame, and an own one
                past = backend.evict(past, index)
            results.append((v, *backend.step(*frame.values(), past, keep=False)[:1]))
    for ours, eager in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-4, rtol=1e-4)


def test_only_the_newest_rollout_goes_on():
    model = small_model()
    backend = TorchGraphs(model, BackendOptions())
    session = model.start(*history())
    with torch.inference_mode():
        past = backend.start(session.history.cache, 1, 1)
        backend.start(session.history.cache, 1, 1)
        with pytest.raises(V2WError, match="only the newest one"):
            backend.step(torch.zeros(1, 1, 4, 4, 4), *[torch.zeros(1, 1)] * 3, past)


def test_without_a_gpu_the_reason_is_given():
    with pytest.raises(V2WError, match="CUDA device, not cpu") as error:
        make_backend(small_model(), "torch")
    assert error.value.code == "MODEL_ERROR"
