"""Engines on disk: exact or refused, found again, rebuilt, shared."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from core_toys import small_model

from v2w_core.backends import parity
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.onnx_step import onnx_runtime
from v2w_core.backends.onnx_step.onnx_runtime import OnnxRuntime
from v2w_core.backends.registry import make_backend
from v2w_core.errors import V2WError

pytestmark = pytest.mark.usefixtures("timed_briefly")


def test_a_provider_that_was_replaced_is_refused(engines, model, monkeypatch):
    """ONNX Runtime lists providers that it cannot load, and then runs on the CPU."""
    import onnxruntime

    wanted = BackendOptions(providers=("CUDAExecutionProvider",), engines=engines)
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(V2WError, match="runs on CUDAExecutionProvider") as error:
        make_backend(model, "onnx", wanted)
    assert "CPUExecutionProvider" in str(error.value)


@pytest.mark.slow
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
    model = small_model(imagined_history="reencode", guidance_scale=2.0)
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    step = OnnxRuntime._step

    def off(self, latents, level, actions, mask, past, keep, guided, num_threads):
        graph = onnx_runtime.GRAPHS[latents.shape[1], keep, guided]
        v, past = step(self, latents, level, actions, mask, past, keep, guided, num_threads)
        in_lane = len(latents) not in (parity.NUM_CANDIDATES, parity.MANY_CANDIDATES)
        wrong = {"unguided": not guided, "lanes": in_lane}.get(seen_by, graph == seen_by)
        return v + 0.01 * wrong, past

    monkeypatch.setattr(backend, "_num_threads", 2)
    parity.check_parity(model, backend, "fp32")
    monkeypatch.setattr(OnnxRuntime, "_step", off)
    with pytest.raises(V2WError, match=r"within 0\.0002 of eager float32"):
        parity.check_parity(model, backend, "fp32")


def test_an_engine_is_built_once_and_again_for_other_weights(tmp_path, engines, caplog):
    model, options = small_model(), BackendOptions(engines=tmp_path)
    first = make_backend(model, "onnx", options).info()["folder"]
    assert make_backend(model, "onnx", options).info()["folder"] == first
    with torch.no_grad():
        model.unet.out[2].bias += 0.01
    assert make_backend(model, "onnx", options).info()["folder"] != first


@pytest.mark.parametrize(
    "file",
    [
        "models/unet.py",
        "models/temporal.py",
        "backends/onnx_step/graph_cache.py",
        "rollout/interfaces.py",  # the unconditional branch is made there
    ],
)
def test_an_engine_is_of_the_networks_code(tmp_path, engines, model, file):
    from v2w_core.backends import engine_cache
    from v2w_core.backends.onnx_step import onnx_runtime
    from v2w_core.backends.torch_step import cuda_graphs

    package = shutil.copytree(
        engine_cache.PACKAGE, tmp_path / "v2w_core", ignore=shutil.ignore_patterns("checkpoints")
    )
    assert engine_cache.network_hash(package) == engine_cache.network_hash()
    with (package / file).open("a") as changed:
        changed.write("# a comment\n")
    assert engine_cache.network_hash(package) == engine_cache.network_hash()
    with (package / file).open("a") as changed:
        changed.write("ANOTHER = 'network'\n")
    assert engine_cache.network_hash(package) != engine_cache.network_hash()
    for module in (onnx_runtime, cuda_graphs):
        assert module.built_from(model, BackendOptions())["network"] == engine_cache.network_hash()


@pytest.mark.parametrize("damage", ["weights.bin", "look.onnx", "manifest.json", "another's"])
def test_a_damaged_engine_is_built_again(tmp_path, engines, caplog, model, damage):
    from v2w_core.backends.engine_cache import find_or_build

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
    from v2w_core.backends.engine_cache import find_or_build

    start.wait()
    folder = find_or_build(root, {"weights": "abc"}, slow_build)
    results.put((str(folder), (folder / "engine").read_text()))


@pytest.mark.slow
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
