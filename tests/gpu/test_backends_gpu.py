"""Every back end that needs a GPU, on one: parity, recorded steps, memory."""

from __future__ import annotations

import contextlib

import pytest
import torch
from backend_toys import rollouts
from core_toys import candidates, history, small_model

from v2w_core.backends import parity
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.registry import make_backend
from v2w_core.errors import V2WError
from v2w_core.testing import geometric_config, tiny_config
from v2w_core.world_model import fall_back_to_cpu

pytestmark = [
    pytest.mark.usefixtures("timed_briefly"),
    pytest.mark.gpu,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
COMBINATIONS = [
    *((name, precision) for name in ("torch", "tensorrt-rtx", "tensorrt") for precision in
      ("fp32", "fp16", "bf16")),
    ("onnx", "fp32"), ("onnx", "fp16"),
]  # fmt: skip


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def model():
    return small_model().to("cuda")


@pytest.fixture(scope="module", params=[tiny_config, geometric_config])
def any_model(request):
    return small_model(request.param).to("cuda")


def built(model, name, precision, engines):
    """The back end; skips where it has no package, fails where it cannot be built."""
    from v2w_core.backends.registry import backend_class

    options = BackendOptions(precision, engines=engines)
    reason = backend_class(name).probe(model, options)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    return make_backend(model, name, options)


@pytest.mark.parametrize(("name", "precision"), COMBINATIONS)
@pytest.mark.parametrize("count", [1, 5, 40, 65, 200])
def test_a_gpu_imagines_what_eager_imagines(engines, any_model, name, precision, count):
    model = any_model
    backend = built(model, name, precision, engines)
    for sampling in ({}, {"guidance_scale": 2.0}):
        eager = rollouts(model, Eager(model.unet), count, **sampling)
        ours = rollouts(model, backend, count, **sampling)
        assert float((ours - eager).abs().max()) <= parity.TOLERANCES[precision]


def test_eager_on_a_gpu_is_float32(model):
    """TF32 in convolutions, PyTorch's default, is off by more than this."""
    cpu = small_model()
    on_cpu, on_gpu = (rollouts(m, Eager(m.unet), 5) for m in (cpu, model))
    assert float((on_gpu.cpu() - on_cpu).abs().max()) <= parity.TOLERANCES["fp32"]


def test_a_found_engine_is_the_built_one(engines, model):
    first = built(model, "torch", "bf16", engines)
    again = built(model, "torch", "bf16", engines)
    assert first.info()["folder"] == again.info()["folder"]
    torch.testing.assert_close(rollouts(model, again), rollouts(model, first), atol=0, rtol=0)


def test_steps_are_recorded_once_for_each_bucket(engines, model):
    backend = built(model, "torch", "fp32", engines)
    for count in (1, 3, 8, 20):
        rollouts(model, backend, count)
    before = torch.cuda.memory_reserved()
    for count in (2, 1, 8, 5, 30):
        rollouts(model, backend, count)
    assert torch.cuda.memory_reserved() == before


@pytest.mark.parametrize("name", ["torch", "tensorrt-rtx", "onnx"])
def test_memory_is_flat_over_a_hundred_rollouts(engines, model, name):
    backend = built(model, name, "fp32", engines)
    rollouts(model, backend, 8)
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(100):
        rollouts(model, backend, 8)
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_out_of_memory_leaves_the_back_end_usable(engines, model):
    backend = built(model, "torch", "fp32", engines)
    expected = rollouts(model, backend, 8)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        with contextlib.suppress(V2WError):  # it goes on with fewer at once, or says so
            rollouts(model, backend, 64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(rollouts(model, backend, 8), expected, atol=1e-6, rtol=0)


def test_the_chain_finds_a_back_end_of_the_gpu(engines, model):
    assert make_backend(model, "auto", BackendOptions(engines=engines)).name != "eager"


def test_a_model_moves_to_the_cpu_with_its_weights(model):
    again = fall_back_to_cpu(model)
    session = again.start(*history())
    assert again.device.type == "cpu" and session.imagine(candidates(2, 2)).num_candidates == 2
