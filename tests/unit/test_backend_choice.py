"""Which back end computes: by name, by the chain, and when a device is lost."""

from __future__ import annotations

import logging

import pytest
import torch
from backend_toys import rollouts
from core_toys import small_model

from v2w_core.backends import registry
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.registry import make_backend
from v2w_core.device import device_errors, out_of_memory
from v2w_core.errors import DeviceError, V2WError
from v2w_core.world_model import WorldModel, fall_back_to_cpu

pytestmark = pytest.mark.usefixtures("timed_briefly")


def test_a_named_back_end_is_never_replaced(model, monkeypatch):
    with pytest.raises(V2WError, match="one of auto, tensorrt, tensorrt-rtx, torch, onnx, eager"):
        model.use_backend("tensor")
    for name in ("onnxruntime", "onnx"):
        found = {"onnxruntime": object(), "onnx": object(), name: None}
        monkeypatch.setattr("v2w_core.backends.onnx_step.onnx_runtime.find_spec", found.get)
        with pytest.raises(V2WError, match=f"{name} is not installed; pip install") as error:
            model.use_backend("onnx")
        assert error.value.code == "MODEL_ERROR"
    assert model.backend.name == "eager"


def test_the_chain_says_why_it_passes_over(model, monkeypatch, caplog):
    class Broken(Eager):
        name = "broken"

        @classmethod
        def build(cls, model, options):
            raise V2WError("back end broken", "a compiler", code="MODEL_ERROR")

    class Absent(Broken):
        @classmethod
        def probe(cls, model, options):
            return "no such accelerator"

    kinds = {"absent": Absent, "broken": Broken, "eager": Eager}
    monkeypatch.setattr(registry, "CHAIN", tuple(kinds))
    monkeypatch.setattr(registry, "backend_class", kinds.__getitem__)
    with caplog.at_level(logging.WARNING):
        assert make_backend(model, "auto").name == "eager"
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "back end absent passed over: back end absent: no such accelerator",
        "back end broken passed over: back end broken: a compiler",
    ]


def test_a_compiler_that_fails_is_passed_over(model, monkeypatch, caplog):
    class Broken(Eager):
        @classmethod
        def build(cls, model, options):
            raise RuntimeError("ptxas is missing")

    kinds = {"broken": Broken, "eager": Eager}
    monkeypatch.setattr(registry, "CHAIN", tuple(kinds))
    monkeypatch.setattr(registry, "backend_class", kinds.__getitem__)
    assert make_backend(model, "auto").name == "eager"
    assert "RuntimeError: ptxas is missing" in caplog.text


def test_a_broken_package_is_passed_over(model, monkeypatch, caplog):
    class Broken(Eager):
        @classmethod
        def probe(cls, model, options):
            raise ImportError("libcudnn.so.9: cannot open shared object file")

    def find(name):
        if name == "absent":
            raise ModuleNotFoundError("No module named 'absent'")
        return {"broken": Broken, "eager": Eager}[name]

    monkeypatch.setattr(registry, "CHAIN", ("absent", "broken", "eager"))
    monkeypatch.setattr(registry, "backend_class", find)
    assert make_backend(model, "auto").name == "eager"
    assert "ImportError: libcudnn.so.9" in caplog.text and "No module named" in caplog.text
    with pytest.raises(V2WError, match="cannot be built here") as error:
        make_backend(model, "broken")
    assert error.value.code == "MODEL_ERROR"


def test_on_a_cpu_the_chain_ends_at_onnx(engines, model, caplog):
    backend = make_backend(model, "auto", BackendOptions(engines=engines))
    assert backend.name == "onnx" or torch.cuda.is_available()
    assert [record.args[0] for record in caplog.records if "passed over" in record.msg] == [
        "tensorrt", "tensorrt-rtx", "torch"
    ]  # fmt: skip


def test_a_lost_device_is_told_from_other_errors(model, monkeypatch, tmp_path):
    class Lost(Eager):
        def step(self, *given, **how):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class OutOfMemory(Eager):
        def step(self, *given, **how):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(DeviceError, match=r"lost or broken.*illegal memory access") as error:
        rollouts(model, Lost(model.unet))
    assert error.value.code == "MODEL_ERROR"
    with pytest.raises(V2WError, match="memory for one candidate") as error:
        rollouts(model, OutOfMemory(model.unet))
    assert not isinstance(error.value, DeviceError)


@pytest.mark.parametrize("said", [
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory",
    "[Errno 12] Cannot allocate memory",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Failed to allocate memory",
    "[executionContext.cpp::enqueueV3] Error Code 2: OutOfMemory (Requested size was 9 bytes)",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "std::bad_alloc",
])  # fmt: skip
def test_memory_that_is_used_up_is_no_lost_device(said):
    for error in (RuntimeError(said), MemoryError()):
        assert out_of_memory(error)
        with pytest.raises(type(error)), device_errors("request"):
            raise error
    wrapped = V2WError("back end onnx", "a graph that can be loaded", code="MODEL_ERROR")
    wrapped.__cause__ = RuntimeError(said)
    assert out_of_memory(wrapped)
    assert not out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))


def test_an_error_of_who_asks_is_no_lost_device():
    asked = V2WError("topic", "a camera's", "/cuda error")
    lost = DeviceError("request", "a device that answers", "CUDA error", code="MODEL_ERROR")
    for error in (asked, lost):
        with pytest.raises(type(error)) as raised, device_errors("request"):
            raise error
        assert raised.value is error


@pytest.mark.slow
def test_a_model_falls_back_to_the_cpu_even_without_its_device(model, monkeypatch, tmp_path):
    loaded = WorldModel.from_pretrained(model.save_pretrained(tmp_path / "model"))
    loaded.memory_budget = 2**30
    torch.testing.assert_close(rollouts(fall_back_to_cpu(model), None), rollouts(model, None))

    def lost(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    for given in (loaded, model):
        monkeypatch.setattr(given, "state_dict", lost)
    again = fall_back_to_cpu(loaded)
    assert (again.backend.name, again.checkpoint) == ("eager", loaded.checkpoint)
    assert again.memory_budget == 2**30
    torch.testing.assert_close(rollouts(again, None), rollouts(model, None))
    with pytest.raises(V2WError, match="lost with the device"):
        fall_back_to_cpu(model)


@pytest.mark.slow
def test_what_a_broken_device_hands_back_is_not_taken_for_weights(tmp_path):
    model = small_model()
    folder = model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.unet.out[2].bias[0] = float("nan")
    with pytest.raises(V2WError, match=r"lost with the device.*NaN or infinity in unet"):
        fall_back_to_cpu(model)
    model.checkpoint = folder
    torch.testing.assert_close(
        rollouts(fall_back_to_cpu(model), None), rollouts(small_model(), None)
    )
