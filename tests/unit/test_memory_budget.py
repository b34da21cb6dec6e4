"""What a device has free, and what a candidate takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from core_toys import candidates, history, small_model

from planners.planner import Planner
from v2w_core.rollout.memory_budget import (
    CPU_SHARE,
    GPU_SHARE,
    LiveBytes,
    candidate_bytes,
    device_budget,
)

GIB = 2**30
CPU = torch.device("cpu")


def machine(root, available_gib, cgroup, files):
    """A root folder whose /proc and /sys say this."""
    (root / "proc/self").mkdir(parents=True)
    text = f"MemTotal: 1 kB\nMemAvailable:  {int(available_gib * GIB) // 1024} kB\n"
    (root / "proc/meminfo").write_text(text)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, value in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def test_a_machine_without_limits_has_what_is_available(tmp_path):
    machine(tmp_path, 6, "0::/\n", {})
    assert device_budget(CPU, tmp_path) == CPU_SHARE * 6 * GIB


def test_a_system_without_proc_is_asked_another_way(tmp_path, monkeypatch):
    memory = SimpleNamespace(available=6 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert device_budget(CPU, tmp_path) == CPU_SHARE * 6 * GIB


@pytest.mark.parametrize("group", ["/", "/pod", "/outside/its/own/name"])
def test_the_limit_of_a_container_counts(tmp_path, group):
    within = "" if group != "/pod" else "pod/"
    files = {
        f"{within}memory.max": 4 * GIB,
        f"{within}memory.current": 3 * GIB,
        f"{within}memory.stat": f"anon 5\ninactive_file {GIB}",
    }
    machine(tmp_path, 6, f"0::{group}\n", files)
    assert device_budget(CPU, tmp_path) == CPU_SHARE * 2 * GIB


def test_control_groups_of_version_1(tmp_path):
    files = {
        "memory/job/memory.limit_in_bytes": 2 * GIB,
        "memory/job/memory.usage_in_bytes": GIB,
        "memory/job/memory.stat": "total_inactive_file 0",
        "memory/memory.limit_in_bytes": 2**63 - 4096,  # none
        "memory/memory.usage_in_bytes": 3 * GIB,
        "memory/memory.stat": "total_inactive_file 0",
    }
    machine(tmp_path, 6, "5:cpu:/\n4:memory:/job\n0::/\n", files)
    assert device_budget(CPU, tmp_path) == CPU_SHARE * GIB


def test_a_limit_that_is_reached_leaves_nothing(tmp_path):
    files = {"memory.max": GIB, "memory.current": 2 * GIB, "memory.stat": "inactive_file 0"}
    machine(tmp_path, 6, "0::/\n", files)
    assert device_budget(CPU, tmp_path) == 0


def test_this_machine_has_something_left():
    assert device_budget(CPU) > 2**20


def test_a_gpu_has_what_is_free_and_what_pytorch_keeps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert device_budget(torch.device("cuda")) == int(GPU_SHARE * 10 * GIB)


def test_live_bytes_are_those_that_are_alive_at_once():
    with LiveBytes() as live:
        a = torch.zeros(100)
        b = a + 1
        view = b[:10]
        assert live.peak == 800
        del a, b
        c = torch.zeros(150)
        assert live.peak == 1000  # the view keeps b
        del view, c
        torch.zeros(300)
    assert live.peak == 1200


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_a_candidate_takes_more_for_a_longer_horizon_and_with_guidance(mode):
    model = small_model(imagined_history=mode)
    sizes = [candidate_bytes(model, own, guided=False) for own in (1, 3, 8)]
    assert sizes == sorted(set(sizes))
    _, height, width = model.config.latent_shape
    pixels = height * width // 4  # of the level with attention
    cache = sum(2 * 4 * m.to_k.out_features * pixels for m in attentions(model))
    assert sizes[2] - sizes[1] >= 5 * cache
    for own, size in zip((1, 3, 8), sizes, strict=True):
        assert candidate_bytes(model, own, guided=True) > size


@pytest.mark.slow
@pytest.mark.parametrize("deadline_s", [None, 100.0])
def test_a_plan_is_the_same_with_little_memory(deadline_s):
    model = small_model()
    session, planner = model.start(*history()), Planner(model.config.action, horizon=3)

    def cost(context):
        return context.latents[:, -1].square().mean(dim=(1, 2, 3)).numpy()

    plans = []
    for fits in (None, 3):
        model.memory_budget = fits and fits * candidate_bytes(model, 3, guided=False)
        plans.append(
            planner.plan(session, cost, num_candidates=10, num_iterations=2, deadline_s=deadline_s)
        )
    assert np.allclose(plans[0].action_sequence, plans[1].action_sequence, atol=1e-4)
    assert plans[1].frames_imagined == plans[0].frames_imagined == 60


def attentions(model):
    from v2w_core.models.temporal import TemporalAttention

    return [m for m in model.unet.modules() if isinstance(m, TemporalAttention)]


@pytest.mark.gpu
def test_a_gpu_keeps_to_the_budget():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    model = small_model().on_device("cuda")
    session = model.start(*history())
    one = candidate_bytes(model, 3, guided=False)
    actions = candidates(64, 3)
    expected = session.imagine(actions).latents
    model.memory_budget = 16 * one
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ours = session.imagine(actions).latents
    taken = torch.cuda.max_memory_allocated() - before
    assert taken < 2 * model.memory_budget + 16 * 2**20
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
