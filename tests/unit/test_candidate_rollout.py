"""Rollouts that advance in parts and give candidates up: the others are imagined as if alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backend_toys import other_model, values
from core_toys import candidates, history, small_model

from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.onnx_step.onnx_runtime import OnnxRuntime
from v2w_core.backends.registry import make_backend
from v2w_core.backends.torch_step.cuda_graphs import TorchGraphs
from v2w_core.errors import Interrupted, V2WError
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


def advanced(session, actions, num_frames, chosen, **sampling):
    """The early rollouts of all, and the whole ones of the chosen."""
    rollout = session.rollout(actions, **sampling)
    early = rollout.advance(num_frames)
    rollout.select(chosen)
    left = actions.shape[1] - num_frames
    return early, rollout.advance(left) if left else None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["reencode", "reuse"])
def test_those_that_go_on_are_imagined_as_among_all(engines, make_config, backend, mode):
    model = small_model(make_config, imagined_history=mode)
    session = started(model, backend, engines)
    for count, chosen, num_frames in (
        (40, [0, 7, 17, 18, 39], 2),  # out of several lanes, into a smaller bucket
        (6, [1, 4, 5], 1), (6, [2], 4), (6, [0, 1, 2, 3, 4, 5], 3),
    ):  # fmt: skip
        actions = candidates(count, HORIZON)
        early, found = advanced(session, actions, num_frames, chosen[::-1])
        whole = model.start(*history(), seed=4).imagine(actions)
        expected = values(whole)
        torch.testing.assert_close(values(found), expected[chosen], atol=1e-4, rtol=1e-4)
        begun = expected[:, :num_frames]
        torch.testing.assert_close(values(early), begun, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(found.poses, whole.poses[chosen], atol=1e-4)
        np.testing.assert_array_equal(found.commands, actions[chosen])
        assert early.frames_imagined == count * num_frames
        rest = len(chosen) * (HORIZON - num_frames)
        assert found.frames_imagined == count * num_frames + rest


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("past_window", ["ring", "recompute"])
def test_some_go_on_out_of_the_trained_window(engines, make_config, backend, past_window):
    model = small_model(make_config, past_window=past_window)
    session = started(model, backend, engines, length=model.config.num_frames - 3)
    actions, chosen = candidates(9, 8), [0, 3, 4, 8]
    expected = started(model, eager, engines, length=model.config.num_frames - 3).imagine(actions)
    for num_frames in (2, 5):
        _, found = advanced(session, actions, num_frames, chosen)
        torch.testing.assert_close(values(found), values(expected)[chosen], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frame_by_frame_is_as_at_once(engines, backend):
    model = small_model()
    rollout = started(model, backend, engines).rollout(candidates(3, HORIZON))
    for num_frames in range(1, HORIZON + 1):
        found = rollout.advance(1)
        assert found.latents.shape[1] == rollout.num_frames == num_frames
    expected = model.start(*history(), seed=4).imagine(candidates(3, HORIZON)).latents
    torch.testing.assert_close(found.latents, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(V2WError, match="num_frames: from 1 to the 0 steps that are left"):
        rollout.advance(1)


def test_rollouts_of_one_session_do_not_disturb_each_other():
    model = small_model()
    session, actions = model.start(*history()), candidates(5, HORIZON)
    expected = session.imagine(actions).latents
    first, second = session.rollout(actions[:3]), session.rollout(actions[3:])
    first.advance(2)
    second.advance(1)
    session.append(history()[0][-1], actions[0, 0])  # the rollouts began before
    latents = [first.advance(HORIZON - 2).latents, second.advance(HORIZON - 1).latents]
    torch.testing.assert_close(torch.cat(latents), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_what_does_not_fit_at_once_is_imagined_from_the_beginning(make_config):
    model, actions, chosen = small_model(make_config), candidates(7, HORIZON), [1, 2, 6]
    session = model.start(*history())
    expected = session.imagine(actions).latents[chosen]
    model.memory_budget = 3 * candidate_bytes(model, HORIZON, guided=False)
    early, found = advanced(session, actions, 2, chosen)
    torch.testing.assert_close(found.latents, expected, atol=1e-5, rtol=1e-5)
    assert early.frames_imagined == 7 * 2
    assert found.frames_imagined == 7 * 2 + 3 * HORIZON


def test_models_without_a_cache_go_on_as_well():
    model = other_model(norm_scope="clip", causal=True)
    session, actions = model.start(*history()), candidates(3, 2)
    expected = session.imagine(actions).latents
    for batch_size, num_frames in ((None, 3 + 2 * 2), (3, 3 + 2)):
        early, found = advanced(session, actions, 1, [0, 2], batch_size=batch_size)
        torch.testing.assert_close(early.latents, expected[:, :1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.latents, expected[[0, 2]], atol=1e-5, rtol=1e-5)
        assert found.frames_imagined == num_frames


@pytest.mark.parametrize("chosen", [[], [-1], [0, 3]])
def test_a_choice_of_nobody_is_refused(chosen):
    rollout = small_model().start(*history()).rollout(candidates(3, 2))
    for num_frames in (0, 1):
        with pytest.raises(V2WError, match="indices: some of 0 to 2"):
            rollout.select(chosen)
        if num_frames == 0:
            rollout.advance(1)


def test_a_rollout_that_is_not_wanted_any_more_stops_after_the_choice_too():
    session, unwanted = small_model().start(*history()), []
    rollout = session.rollout(candidates(3, 2), interrupt=lambda: bool(unwanted))
    rollout.advance(1)
    rollout.select([0])
    unwanted.append(True)
    with pytest.raises(Interrupted):
        rollout.advance(1)
