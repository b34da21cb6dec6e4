"""Back ends: the same rollouts as eager PyTorch, or a refusal that says why."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import shutil
from threading import Event, Thread

import numpy as np
import pytest
import torch
from core_toys import candidates, history, small_model, wake

from v2w_core.backends import base, onnx_runtime, trial
from v2w_core.backends.base import (
    BackendOptions,
    device_errors,
    fall_back_to_cpu,
    make_backend,
    out_of_memory,
)
from v2w_core.backends.eager import Eager
from v2w_core.backends.onnx_runtime import OnnxRuntime
from v2w_core.errors import DeviceError, V2WError
from v2w_core.world_model import WorldModel, tiny_config

HORIZON = 3


@pytest.fixture(scope="module", autouse=True)
def timed_briefly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "BATCH_SIZES", (2,))
        yield


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def model():
    return small_model()


def rollouts(model, backend, count=3, horizon=HORIZON, length=4, **sampling):
    session = model.start(*history(length=length), seed=4)
    session.backend = backend or session.backend
    return session.imagine(candidates(count, horizon), **sampling).latents


def other_model(size=16, **changes):
    """A model with other options of the U-Net."""
    config = tiny_config(size=size)
    config = dataclasses.replace(
        config,
        unet=dataclasses.replace(config.unet, **changes),
        sampling=dataclasses.replace(config.sampling, num_steps=2),
    )
    return wake(WorldModel.build(config))


@pytest.mark.parametrize("sampling", [
    {"num_sampling_steps": 1}, {"num_sampling_steps": 3}, {"guidance_scale": 2.0},
    {"num_sampling_steps": 1, "guidance_scale": 0.5}, {"batch_size": 2},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["held", "denoised"])
def test_onnx_imagines_what_eager_imagines(engines, mode, sampling):
    model = small_model(imagined_history=mode)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    for count, horizon in ((1, 1), (3, HORIZON), (5, 8)):
        eager = rollouts(model, Eager(model.unet), count, horizon, **sampling)
        ours = rollouts(model, backend, count, horizon, **sampling)
        torch.testing.assert_close(ours, eager, atol=1e-4, rtol=1e-4)


def test_lanes_side_by_side_imagine_what_one_by_one_does(engines, model, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    monkeypatch.undo()
    session = model.start(*history(), seed=4)
    with torch.inference_mode():
        lanes = [backend.begin(session._cache, count, 1) for count in (15, 17)]
    assert [[lane.batch_size for lane in side_by_side] for side_by_side in lanes] == [[15], [9, 8]]
    sampling = {"num_sampling_steps": 2, "guidance_scale": 2.0}
    together = rollouts(model, backend, 17, HORIZON, batch_size=17, **sampling)
    eager = rollouts(model, Eager(model.unet), 17, HORIZON, **sampling)
    torch.testing.assert_close(together, eager, atol=1e-4, rtol=1e-4)


def test_batches_are_laid_out_in_two_ways_only(engines, model, monkeypatch):
    """Each way has sessions of its own."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    monkeypatch.undo()
    for count in (1, 8, 16, 23, 24, 31):
        rollouts(model, backend, count, 1)
    assert {num_threads for _, num_threads in backend._sessions} == {1, 3}
    with torch.inference_mode():
        session = model.start(*history())
        lanes = [len(backend.begin(session._cache, count, 1)) for count in (23, 24)]
    assert lanes == [1, 3]


def test_overlapping_rollouts_give_pytorch_its_threads_back(engines, model):
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    inside, over, found = Event(), Event(), []

    def other():
        with backend.rolling_out():
            inside.set()
            assert over.wait(60)
        found.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = Thread(target=other)
        with backend.rolling_out():
            thread.start()
            assert inside.wait(60)
            assert torch.get_num_threads() == 1
        over.set()
        thread.join(60)
        fresh = Thread(target=lambda: found.append(torch.get_num_threads()))
        fresh.start()
        fresh.join(60)
        assert [torch.get_num_threads(), *found] == [2, 2, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("changes", [
    {"init_attention": True, "frame_stride": 3, "multi_hot_actions": True},
    {"two_temporal_attentions": False, "num_temporal_convs": 2, "temporal_kernel": 5},
    {"height_causal_out": True, "num_res_blocks": 2, "channel_mult": (1, 2, 2)},
    {"temporal_kernel": 1, "attention_levels": (0, 1), "model_channels": 24, "head_dim": 8},
])  # fmt: skip
def test_every_option_of_the_network_has_its_graph(engines, changes):
    model = other_model(size=32, **changes)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    eager = rollouts(model, Eager(model.unet))
    torch.testing.assert_close(rollouts(model, backend), eager, atol=1e-4, rtol=1e-4)


def test_sessions_stream_with_any_back_end(engines, model):
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    frames, past = history(length=6)
    results = []
    for kind in (Eager(model.unet), backend):
        session = model.start(frames[:4], past[:3])
        session.backend = kind
        for frame, action in zip(frames[4:], past[3:], strict=True):
            session.append(frame, action)
        results.append(session.imagine(candidates(2, HORIZON)).latents)
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


def test_buffers_are_as_long_as_the_rollout(engines):
    """Not as the window: a short rollout of many candidates would take memory for all of it."""
    for mode, horizon, room in (
        ("held", 1, 1), ("held", 4, 3), ("denoised", 4, 4), ("held", 30, 8)
    ):  # fmt: skip
        model = small_model(imagined_history=mode, past_window="ring")
        backend = make_backend(model, "onnx", BackendOptions(engines=engines))
        begin, lengths = backend.begin, []

        def noted(*given, begin=begin, lengths=lengths):
            pasts = begin(*given)
            lengths.extend(len(buffer) for past in pasts for buffer in past.buffers.values())
            return pasts

        backend.begin = noted
        rollouts(model, backend, 2, horizon, num_sampling_steps=1)
        assert set(lengths) == {room}


PAST_WINDOW = [
    {"past_window": "recompute"},
    {"past_window": "ring", "num_sinks": 0},
    {"past_window": "ring", "num_sinks": 2, "imagined_history": "denoised"},
]


@pytest.mark.parametrize("sampling", PAST_WINDOW)
def test_every_back_end_goes_past_the_window_alike(engines, sampling):
    model = small_model(**sampling)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    horizon = 2 * model.config.num_frames + 3
    results = [
        rollouts(model, kind, 2, horizon, num_sampling_steps=1, guidance_scale=1.5)
        for kind in (Eager(model.unet), backend)
    ]
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


def test_a_checkpoint_is_loaded_with_its_back_end(engines, model, tmp_path, monkeypatch):
    monkeypatch.setenv("V2W_ENGINES", str(engines))
    folder = model.save_pretrained(tmp_path / "model")
    loaded = WorldModel.from_pretrained(folder, backend="onnx")
    session = loaded.start(*history())
    assert session.backend.name == loaded.backend.name == "onnx"
    info = loaded.backend.info()
    assert info["parity"]["configured"] <= info["parity"]["tolerance"]
    assert info["latency"]["2"]["step_ms_p50"] > 0
    assert info["built_from"]["versions"].keys() == {"onnx", "onnxruntime"}


def test_a_named_back_end_is_never_replaced(model, monkeypatch):
    with pytest.raises(V2WError, match="one of auto, tensorrt, tensorrt-rtx, torch, onnx, eager"):
        model.use_backend("tensor")
    for name in ("onnxruntime", "onnx"):
        found = {"onnxruntime": object(), "onnx": object(), name: None}
        monkeypatch.setattr("v2w_core.backends.onnx_runtime.find_spec", found.get)
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
    monkeypatch.setattr(base, "CHAIN", tuple(kinds))
    monkeypatch.setattr(base, "backend_class", kinds.__getitem__)
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
    monkeypatch.setattr(base, "CHAIN", tuple(kinds))
    monkeypatch.setattr(base, "backend_class", kinds.__getitem__)
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

    monkeypatch.setattr(base, "CHAIN", ("absent", "broken", "eager"))
    monkeypatch.setattr(base, "backend_class", find)
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

    with pytest.raises(DeviceError, match=r"gone or broken.*illegal memory access") as error:
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


def test_a_model_whose_past_cannot_be_cached_stays_eager(engines):
    for changes in ({"norm_scope": "clip"}, {"causal": False}):
        with pytest.raises(V2WError, match="causal model"):
            make_backend(other_model(**changes), "onnx", BackendOptions(engines=engines))


def test_unknown_precisions_and_providers_are_refused(engines, model):
    for options, said in (
        (BackendOptions(precision="fp7"), "not fp7"),
        (BackendOptions(providers=("WarpDriveExecutionProvider",)), "has no WarpDrive"),
    ):
        with pytest.raises(V2WError, match=said) as error:
            make_backend(model, "onnx", dataclasses.replace(options, engines=engines))
        assert error.value.code == "MODEL_ERROR"


def test_a_provider_that_was_replaced_is_refused(engines, model, monkeypatch):
    """ONNX Runtime lists providers that it cannot load, and then runs on the CPU."""
    import onnxruntime

    wanted = BackendOptions(providers=("CUDAExecutionProvider",), engines=engines)
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(V2WError, match="runs on CUDAExecutionProvider") as error:
        make_backend(model, "onnx", wanted)
    assert "CPUExecutionProvider" in str(error.value)


def test_a_graph_that_is_not_exact_is_refused_and_leaves_nothing(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    write = onnx_runtime.write_graphs

    def tampered(model, folder, *how):
        with torch.no_grad():
            bias = model.unet.out[2].bias
            kept = bias.clone()
            bias += 0.01
            write(model, folder, *how)
            bias.copy_(kept)

    monkeypatch.setattr(onnx_runtime, "write_graphs", tampered)
    with pytest.raises(V2WError, match=r"within 0\.0002 of eager float32") as error:
        make_backend(model, "onnx", BackendOptions(engines=tmp_path))
    assert "times that" in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("seen_by", ["join.onnx", "join_guided.onnx", "unguided", "lanes"])
def test_the_trial_sees_every_kind_of_step(engines, seen_by, monkeypatch):
    """Whatever the configuration uses: it does not say what a session will be asked for."""
    model = small_model(imagined_history="held", guidance_scale=2.0)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    step = OnnxRuntime._step

    def off(self, latents, level, actions, mask, past, keep, guided, num_threads):
        graph = onnx_runtime.GRAPHS[latents.shape[1], keep, guided]
        v, past = step(self, latents, level, actions, mask, past, keep, guided, num_threads)
        in_lane = len(latents) not in (trial.NUM_CANDIDATES, trial.MANY_CANDIDATES)
        wrong = {"unguided": not guided, "lanes": in_lane}.get(seen_by, graph == seen_by)
        return v + 0.01 * wrong, past

    monkeypatch.setattr(backend, "_num_threads", 2)
    trial.check_parity(model, backend, "fp32")
    monkeypatch.setattr(OnnxRuntime, "_step", off)
    with pytest.raises(V2WError, match=r"within 0\.0002 of eager float32"):
        trial.check_parity(model, backend, "fp32")


def test_an_engine_is_built_once_and_again_for_other_weights(tmp_path, engines, caplog):
    model, options = small_model(), BackendOptions(engines=tmp_path)
    first = make_backend(model, "onnx", options).info()["folder"]
    assert make_backend(model, "onnx", options).info()["folder"] == first
    with torch.no_grad():
        model.unet.out[2].bias += 0.01
    assert make_backend(model, "onnx", options).info()["folder"] != first


@pytest.mark.parametrize("file", ["models/unet.py", "models/temporal.py", "backends/past.py"])
def test_an_engine_is_of_the_networks_code(tmp_path, engines, model, file):
    from v2w_core.backends import artifact, onnx_runtime, torch_graphs

    package = shutil.copytree(
        artifact.PACKAGE, tmp_path / "v2w_core", ignore=shutil.ignore_patterns("checkpoints")
    )
    assert artifact.network_hash(package) == artifact.network_hash()
    with (package / file).open("a") as changed:
        changed.write("# another network\n")
    assert artifact.network_hash(package) != artifact.network_hash()
    for module in (onnx_runtime, torch_graphs):
        assert module.built_from(model, BackendOptions())["network"] == artifact.network_hash()


@pytest.mark.parametrize("damage", ["weights.bin", "look.onnx", "manifest.json", "another's"])
def test_a_damaged_engine_is_built_again(tmp_path, engines, caplog, model, damage):
    from v2w_core.backends.artifact import find_or_build

    def build(folder):
        (folder / "look.onnx").write_bytes(b"graph")
        (folder / "weights.bin").write_bytes(b"weights")
        return {"parity": {}}

    folder = find_or_build(tmp_path, {"weights": "abc"}, build)
    if damage == "another's":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["built_from"]["weights"] = "xyz"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        (folder / damage).write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert find_or_build(tmp_path, {"weights": "abc"}, build) == folder
        assert find_or_build(tmp_path, {"weights": "abc"}, build) == folder
    assert len(caplog.records) == 1 and "built again" in caplog.text
    assert (folder / "weights.bin").read_bytes() == b"weights"


def slow_build(folder):
    """An engine that remembers who built it."""
    import os
    import time

    time.sleep(0.3)
    (folder / "engine").write_text(str(os.getpid()))
    return {}


def build_in_process(root, start, results):
    from v2w_core.backends.artifact import find_or_build

    start.wait()
    folder = find_or_build(root, {"weights": "abc"}, slow_build)
    results.put((str(folder), (folder / "engine").read_text()))


def test_processes_that_build_at_once_share_one_engine(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    arguments = (tmp_path, start, results)
    processes = [context.Process(target=build_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    found = {results.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert len(found) == 1
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_export_writes_an_engine_and_its_figures(engines, model, tmp_path, capsys):
    import argparse

    from v2w_core.commands import export

    checkpoint = model.save_pretrained(tmp_path / "model")
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    out = tmp_path / "figures.json"
    arguments = [str(checkpoint), "--out", str(engines), "--json", str(out)]
    assert export.run(parser.parse_args(arguments)) == 0
    printed = capsys.readouterr().out
    assert "parity with eager float32" in printed and "frames a second" in printed
    figures = json.loads(out.read_text())
    graphs = {f"{kind}{guided}.onnx" for kind in ("look", "join", "join_and_look")
              for guided in ("", "_guided")}  # fmt: skip
    assert set(figures["files"]) == {"weights.bin", *graphs}
    assert np.isfinite(list(figures["parity"].values())).all()
