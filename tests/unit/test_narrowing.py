"""Candidates that are given up on the way: the others are imagined as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backend_toys import other_model
from core_toys import candidates, history, small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.onnx_step.onnx_runtime import OnnxRuntime
from v2w_core.backends.registry import make_backend
from v2w_core.backends.torch_step.cuda_graphs import TorchGraphs
from v2w_core.errors import Interrupted, V2WError
from v2w_core.narrowing import Narrowing
from v2w_core.rollout.memory_budget import candidate_bytes

pytestmark = pytest.mark.usefixtures("timed_briefly")

HORIZON = 5


def eager(model, engines):
    return Eager(model.unet)


def onnx(model, engines):
    return make_backend(model, "onnx", BackendOptions(engines=engines))


def onnx_of_fixed_shapes(model, engines):
    """The graphs that TensorRT is given."""

    class Padded(OnnxRuntime):
        @classmethod
        def _slots_of(cls, model, options):
            return model.config.num_frames

    return Padded.build(model, BackendOptions(engines=engines / "padded"))


def slots(model, engines):
    return TorchGraphs(model, BackendOptions())


BACKENDS = [eager, onnx, onnx_of_fixed_shapes, slots]


def started(model, backend, engines, length=4):
    session = model.start(*history(length=length), seed=4)
    session.backend = backend(model, engines)
    return session


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["held", "denoised"])
def test_those_that_go_on_are_imagined_as_among_all(engines, backend, mode):
    model = small_model(imagined_history=mode)
    session = started(model, backend, engines)
    for count, chosen, num_frames in (
        (40, [0, 7, 17, 18, 39], 2),  # out of several lanes, into a smaller bucket
        (6, [1, 4, 5], 1), (6, [2], 4), (6, [0, 1, 2, 3, 4, 5], 3), (6, [0, 3], HORIZON),
    ):  # fmt: skip
        actions, early = candidates(count, HORIZON), []
        choose = lambda rollouts: early.append(rollouts) or chosen[::-1]  # noqa: B023, E731
        found = session.imagine(actions, narrowing=Narrowing(num_frames, choose))
        expected = model.start(*history(), seed=4).imagine(actions).latents
        torch.testing.assert_close(found.latents, expected[chosen], atol=1e-4, rtol=1e-4)
        begun = expected[:, :num_frames]
        torch.testing.assert_close(early[0].latents, begun, atol=1e-4, rtol=1e-4)
        assert early[0].frames_imagined == count * num_frames
        rest = len(chosen) * (HORIZON - num_frames)
        assert found.frames_imagined == count * num_frames + rest


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("past_window", ["ring", "recompute"])
def test_some_go_on_out_of_the_trained_window(engines, backend, past_window):
    model = small_model(past_window=past_window)
    session = started(model, backend, engines, length=model.config.num_frames - 3)
    actions, chosen = candidates(9, 8), [0, 3, 4, 8]
    expected = started(model, eager, engines, length=model.config.num_frames - 3).imagine(actions)
    for num_frames in (2, 5):
        narrowing = Narrowing(num_frames, lambda _: chosen)
        found = session.imagine(actions, narrowing=narrowing).latents
        torch.testing.assert_close(found, expected.latents[chosen], atol=1e-4, rtol=1e-4)


def test_what_is_not_held_is_imagined_anew():
    """A small memory budget, or fewer denoising steps before the choice."""
    model, actions, chosen = small_model(), candidates(7, HORIZON), [1, 2, 6]
    session = model.start(*history())
    expected = session.imagine(actions).latents[chosen]
    model.memory_budget = 3 * candidate_bytes(model, HORIZON, guided=False)
    found = session.imagine(actions, narrowing=Narrowing(2, lambda _: chosen))
    torch.testing.assert_close(found.latents, expected, atol=1e-5, rtol=1e-5)
    assert found.frames_imagined == 7 * 2 + 3 * HORIZON
    model.memory_budget = None
    seen = []
    coarse = Narrowing(2, lambda rollouts: seen.append(rollouts.latents) or chosen, 1)
    found = session.imagine(actions, narrowing=coarse)
    torch.testing.assert_close(found.latents, expected, atol=1e-5, rtol=1e-5)
    one_step = session.imagine(actions[:, :2], num_sampling_steps=1).latents
    torch.testing.assert_close(seen[0], one_step, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(seen[0], session.imagine(actions[:, :2]).latents, atol=1e-3)


def test_models_without_a_cache_narrow_as_well():
    model = other_model(norm_scope="clip", causal=True)
    session, actions = model.start(*history()), candidates(3, 2)
    expected = session.imagine(actions).latents
    found = session.imagine(actions, narrowing=Narrowing(1, lambda _: [0, 2]))
    torch.testing.assert_close(found.latents, expected[[0, 2]], atol=1e-5, rtol=1e-5)
    assert found.frames_imagined == 3 + 2 * 2


@pytest.mark.parametrize("chosen", [[], [-1], [0, 3]])
def test_a_choice_of_nobody_is_refused(chosen):
    session = small_model().start(*history())
    with pytest.raises(V2WError, match="narrowing: some of 0 to 2"):
        session.imagine(candidates(3, 2), narrowing=Narrowing(1, lambda _: chosen))
    with pytest.raises(V2WError, match="num_frames: at least 1"):
        Narrowing(0, lambda _: chosen)


def test_a_rollout_that_is_not_wanted_any_more_stops_after_the_choice_too():
    session, chosen = small_model().start(*history()), []
    narrowing = Narrowing(1, lambda _: chosen.append(0) or np.array([0]))
    with pytest.raises(Interrupted):
        session.imagine(candidates(3, 2), narrowing=narrowing, interrupt=lambda: bool(chosen))
    assert chosen
