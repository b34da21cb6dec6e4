"""Back ends: the same rollouts as eager PyTorch, or a refusal that says why."""

from __future__ import annotations

import dataclasses
from threading import Event, Thread

import pytest
import torch
from backend_toys import HORIZON, other_model, rollouts
from core_toys import candidates, history, small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.registry import make_backend
from v2w_core.errors import V2WError
from v2w_core.world_model import WorldModel

pytestmark = pytest.mark.usefixtures("timed_briefly")


@pytest.mark.parametrize("sampling", [
    {"num_sampling_steps": 1}, {"num_sampling_steps": 3}, {"guidance_scale": 2.0},
    {"num_sampling_steps": 1, "guidance_scale": 0.5}, {"batch_size": 2},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_onnx_imagines_what_eager_imagines(engines, make_config, mode, sampling):
    model = small_model(make_config, imagined_history=mode)
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
        lanes = [backend.start(session.history.cache, count, 1) for count in (15, 17)]
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
        lanes = [len(backend.start(session.history.cache, count, 1)) for count in (23, 24)]
    assert lanes == [1, 3]


def test_overlapping_rollouts_give_pytorch_its_threads_back(engines, model):
    backend = make_backend(model, "onnx", BackendOptions(engines=engines))
    inside, over, found = Event(), Event(), []

    def other():
        with backend.rollout_context():
            inside.set()
            assert over.wait(60)
        found.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = Thread(target=other)
        with backend.rollout_context():
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
        ("reencode", 1, 1), ("reencode", 4, 3), ("reuse", 4, 4), ("reencode", 30, 8)
    ):  # fmt: skip
        model = small_model(imagined_history=mode, past_window="ring")
        backend = make_backend(model, "onnx", BackendOptions(engines=engines))
        start, lengths = backend.start, []

        def noted(*given, start=start, lengths=lengths):
            pasts = start(*given)
            lengths.extend(len(buffer) for past in pasts for buffer in past.buffers.values())
            return pasts

        backend.start = noted
        rollouts(model, backend, 2, horizon, num_sampling_steps=1)
        assert set(lengths) == {room}


PAST_WINDOW = [
    {"past_window": "recompute"},
    {"past_window": "ring", "num_sinks": 0},
    {"past_window": "ring", "num_sinks": 2, "imagined_history": "reuse"},
]


@pytest.mark.parametrize("sampling", PAST_WINDOW)
def test_every_back_end_goes_past_the_window_alike(engines, make_config, sampling):
    model = small_model(make_config, **sampling)
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
