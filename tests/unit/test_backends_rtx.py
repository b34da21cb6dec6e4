"""TensorRT-RTX without a GPU: the step's graphs are right (ONNX Runtime runs them) and build."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from backend_toys import rollouts
from core_toys import small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.parity import TOLERANCES
from v2w_core.backends.registry import make_backend
from v2w_core.errors import V2WError

pytest.importorskip("onnx", reason="onnx is not installed (extra export)")


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed (extra rtx)")
    from v2w_core.backends.onnx_step import tensorrt_rtx

    return tensorrt_rtx


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_graphs_of_fixed_shapes_imagine_what_eager_imagines(tmp_path, make_config, mode, precision):
    """With bfloat16 the graph is the same; ONNX Runtime has no kernels for it on a CPU."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra cpu)")
    from v2w_core.backends.onnx_step.onnx_runtime import OnnxRuntime, write_graphs

    class OnSlots(OnnxRuntime):
        @classmethod
        def _slots_of(cls, model, options):
            return model.config.num_frames

    model = small_model(make_config, imagined_history=mode)
    write_graphs(model, tmp_path, precision, model.config.num_frames)
    backend = OnSlots(model, tmp_path, BackendOptions(precision))
    tolerance = 1e-4 if precision == "fp32" else TOLERANCES[precision]
    for sampling in ({}, {"guidance_scale": 2.0}):
        eager = rollouts(model, Eager(model.unet), 5, 6, **sampling)
        ours = rollouts(model, backend, 5, 6, **sampling)
        torch.testing.assert_close(ours, eager, atol=tolerance, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("make_config", "precision", "graph"), [
    ("plain", "fp32", "look"), ("geometric", "fp16", "look"),
    ("geometric", "bf16", "join_and_look_guided"),
], indirect=["make_config"])  # fmt: skip
def test_an_engine_is_built_without_a_gpu(rtx, tmp_path, make_config, precision, graph):
    from v2w_core.backends.onnx_step.onnx_runtime import write_graphs

    model = small_model(make_config)
    write_graphs(model, tmp_path, precision, model.config.num_frames)
    assert len(rtx.build_engine(tmp_path / f"{graph}.onnx", "SM89")) > 100_000


def test_an_unknown_operator_is_refused_by_name(rtx, tmp_path):
    from v2w_core.backends.onnx_step.graph_writer import GraphWriter, WeightFile

    graph = GraphWriter(WeightFile())
    x = graph.input("x", ["batch", 4, 4])
    graph.output("y", graph.op("Bernoulli", x), ["batch", 4, 4])
    graph.save(tmp_path / "odd.onnx", "odd")
    with pytest.raises(V2WError, match=r"odd\.onnx.*Bernoulli") as error:
        rtx.build_engine(tmp_path / "odd.onnx", "SM89")
    assert error.value.code == "MODEL_ERROR"


def test_what_an_engine_does_not_take_is_an_error():
    """TensorRT-RTX says so by a return value only, and would run on what was bound before."""
    from v2w_core.backends.onnx_step.tensorrt_rtx import EngineBinding

    class Context:
        def set_input_shape(self, name, shape):
            return shape[0] <= 64

        def set_tensor_address(self, name, address):
            return name != "odd"

    binding = EngineBinding(Context(), frozenset({"latents", "odd"}))
    binding.bind_input(name="latents", shape=(64, 1), buffer_ptr=1)
    binding.bind_input(name="not_needed", shape=(65, 1), buffer_ptr=1)
    with pytest.raises(V2WError, match=r"input latents: .*batches of 1 to 64"):
        binding.bind_input(name="latents", shape=(65, 1), buffer_ptr=1)
    for bind in (binding.bind_output, lambda **how: binding.bind_input(shape=(1, 1), **how)):
        with pytest.raises(V2WError, match="tensor odd") as error:
            bind(name="odd", buffer_ptr=1)
        assert error.value.code == "MODEL_ERROR"


def test_without_a_gpu_or_the_package_the_reason_is_given(monkeypatch, tmp_path):
    model = small_model()
    with pytest.raises(V2WError, match=r"CUDA devices only, not on cpu.*--build-only"):
        make_backend(model, "tensorrt-rtx")
    from v2w_core.backends.onnx_step import tensorrt_rtx

    monkeypatch.setattr(tensorrt_rtx, "find_spec", lambda name: None)
    with pytest.raises(V2WError, match=r"pip install 'v2w\[rtx\]'"):
        tensorrt_rtx.build_engines(model, tmp_path, "fp32")


def test_export_says_what_was_built_and_that_it_was_not_tried(monkeypatch, tmp_path, capsys):
    import argparse

    from v2w_core.backends.onnx_step import tensorrt_rtx
    from v2w_core.commands import export

    assert importlib.util.find_spec("onnx")
    monkeypatch.setattr(tensorrt_rtx, "not_installed", lambda: None)
    monkeypatch.setattr(tensorrt_rtx, "build_engine", lambda graph, target: b"engine")
    checkpoint = small_model().save_pretrained(tmp_path / "model")
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    out = tmp_path / "built"
    arguments = [str(checkpoint), "--build-only", str(out), "--backend"]
    assert export.run(parser.parse_args([*arguments, "tensorrt-rtx"])) == 0
    printed = capsys.readouterr().out
    assert "built, not tried" in printed and "look.engine" in printed
    assert not (out / "manifest.json").exists()
    with pytest.raises(V2WError, match="tensorrt-rtx only"):
        export.run(parser.parse_args([*arguments, "onnx"]))
