"""What a machine without a GPU can prove of TensorRT: every operator of the step has a converter.

torch-tensorrt asks for a GPU when it is imported; where there is none, these tests answer for it.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch
from core_toys import small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.torch_step.static_step import StepVariant, in_precision
from v2w_core.backends.torch_step.tensorrt import TYPICAL_BATCH, TensorRt, exported

NEEDS = "torch_tensorrt is not installed (extra tensorrt)"


@pytest.fixture(scope="module")
def converters():
    """operators(program) -> those of the lowered program, and those without a converter."""
    if importlib.util.find_spec("torch_tensorrt") is None:
        pytest.skip(NEEDS)
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            memory = 1 << 34
            patch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
            patch.setattr(torch.cuda, "current_device", lambda: 0)
            patch.setattr(torch.cuda, "mem_get_info", lambda *_: (memory, memory))
            patch.setattr(torch.cuda, "empty_cache", lambda: None)
        import torch_tensorrt
        from torch_tensorrt.dynamo import CompilationSettings
        from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS
        from torch_tensorrt.dynamo.lowering import (
            get_decompositions,
            post_lowering,
            pre_export_lowering,
        )

        assert torch_tensorrt.__version__
        settings = CompilationSettings()
        DYNAMO_CONVERTERS.set_compilation_settings(settings)

        def operators(program):
            program = pre_export_lowering(program, settings)
            program = program.run_decompositions(get_decompositions(False))
            graph = post_lowering(program.module(), settings).graph
            nodes = [node for node in graph.nodes if node.op == "call_function"]
            return nodes, [str(node.target) for node in nodes if node not in DYNAMO_CONVERTERS]

        yield operators


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [StepVariant(1, False, False), StepVariant(2, True, True)])
def test_every_operator_of_the_step_has_a_converter(converters, make_config, kind, precision):
    model = small_model(make_config)
    program, _ = exported(model, in_precision(model, precision), kind)
    nodes, missing = converters(program)
    print(f"{kind}, {precision}: {len(nodes) - len(missing)} of {len(nodes)} operators")
    assert len(nodes) > 200 and not missing


def test_an_operator_without_a_converter_is_seen(converters):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.svd(torch.special.bessel_j0(x))[1]

    _, missing = converters(torch.export.export(Odd(), (torch.rand(4, 4),)))
    assert any("svd" in name for name in missing) and any("bessel" in name for name in missing)


@pytest.mark.parametrize("make_config", ["geometric"], indirect=True)
def test_the_exported_step_takes_every_batch(make_config):
    model = small_model(make_config)
    kind = StepVariant(2, True, True)
    program, arguments = exported(model, model.unet, kind)
    for size in (1, 3):
        given = [t[:size] if t.shape[:1] == (TYPICAL_BATCH,) else t for t in arguments]
        v, *kept = program.module()(*given)
        assert v.shape == (size, 2, *model.config.output_shape)
        assert {len(value) for value in kept} == {size}


def test_without_a_gpu_or_the_package_the_reason_is_given(monkeypatch):
    model = small_model()
    assert "CUDA devices only, not on cpu" in TensorRt.probe(model, BackendOptions())
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    monkeypatch.setattr("v2w_core.backends.torch_step.tensorrt.find_spec", lambda name: None)
    assert "pip install 'v2w[tensorrt]'" in TensorRt.probe(model, BackendOptions())
