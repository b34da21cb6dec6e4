"""What a node computes with: choice of the back end, its loss, warming up, times; turns."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import pytest
from core_toys import candidates, history, small_model

from v2w.errors import NodeError
from v2w.inference.model_runtime import ModelRuntime, RuntimeSettings, settings_from, sizes_up_to
from v2w.inference.model_thread import ModelThread
from v2w.inference.timings import Timings
from v2w_core.backends import registry
from v2w_core.backends.eager import Eager
from v2w_core.errors import V2WError


class Dying(Eager):
    """Stands for a back end on a GPU: it takes steps like eager, and then its device is gone."""

    name = "dying"
    steps_left = 0
    error: Exception = RuntimeError("CUDA error: unspecified launch failure")

    def step(self, *given, **options):
        if not type(self).steps_left:
            raise self.error
        type(self).steps_left -= 1
        return super().step(*given, **options)


class Absent(Dying):
    name = "absent"

    @classmethod
    def probe(cls, model, options):
        return "no such accelerator"


class Engined(Eager):
    """Keeps a built engine somewhere, and notes what it was warmed up for."""

    name = "engined"

    def __init__(self, unet):
        super().__init__(unet)
        self.warmed, self.num_steps = [], 0

    def warm_up(self, batch_size):
        raise AssertionError("a node warms up by rollouts, as requests are")

    def start(self, history, batch_size, num_suffix):
        self.warmed.append(batch_size)
        return super().start(history, batch_size, num_suffix)

    def step(self, *given, **options):
        self.num_steps += 1
        return super().step(*given, **options)

    def rollout_context(self):
        return nullcontext()

    def info(self):
        return super().info() | {"folder": "/engines/0123456789abcdef"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_model().save_pretrained(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(autouse=True)
def back_ends(monkeypatch):
    kinds = {"dying": Dying, "absent": Absent, "engined": Engined, "eager": Eager}
    monkeypatch.setattr(registry, "backend_class", kinds.__getitem__)
    monkeypatch.setattr(
        "v2w.inference.model_runtime.CHAIN", ("dying", "absent", "engined", "eager")
    )
    monkeypatch.setattr(Dying, "steps_left", 2)
    monkeypatch.setattr(Dying, "error", Dying.error)


class Warnings(list):
    """Warnings, and that the model was replaced."""

    def runtime(self, checkpoint, **settings):
        replaced = lambda: self.append("replaced")  # noqa: E731
        return ModelRuntime(RuntimeSettings(checkpoint, "cpu", **settings), self.append, replaced)


def imagine(runtime):
    session = runtime.start(*history(), seed=1)
    return runtime.decode(session.imagine(candidates(2, 3), seed=1).latents)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 4])
def test_a_lost_device_is_replaced_and_the_request_answered(checkpoint, steps):
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="dying")
    assert (runtime.backend, runtime.degraded, warnings) == ("dying", "", [])
    Dying.steps_left = steps
    frames = runtime.run(lambda: imagine(runtime))
    np.testing.assert_array_equal(frames, imagine(Warnings().runtime(checkpoint)))
    assert (runtime.backend, runtime.device, runtime.precision) == ("eager", "cpu", "fp32")
    assert "dying on cpu was lost" in runtime.degraded
    assert "unspecified launch failure" in warnings[0] and "falling back" in warnings[0]
    assert warnings[1:] == ["replaced"]
    assert not runtime.lost
    assert runtime.timings.percentiles()["step"][0] > 0


def test_with_strict_a_lost_device_is_the_end(checkpoint):
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="dying", strict=True)
    for _ in range(2):  # also later, when the device seems to be back
        with pytest.raises(V2WError, match="unspecified launch failure") as error:
            runtime.run(lambda: imagine(runtime))
        assert error.value.code == "MODEL_ERROR"
        Dying.steps_left = 100
    assert runtime.lost and runtime.backend == "dying" and not warnings


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_want_of_memory_is_no_lost_device(checkpoint, monkeypatch, error):
    monkeypatch.setattr(Dying, "error", error)
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="dying")
    with pytest.raises(V2WError, match=r"memory for one candidate \(got \w+") as raised:
        runtime.run(lambda: imagine(runtime))
    assert raised.value.__cause__ is error
    Dying.steps_left = 100
    runtime.run(lambda: imagine(runtime))
    assert runtime.backend == "dying" and not runtime.degraded and not warnings


def test_a_wrong_request_is_no_lost_device(checkpoint):
    runtime = Warnings().runtime(checkpoint, backend="dying")
    with pytest.raises(V2WError, match="candidates"):
        runtime.run(lambda: runtime.start(*history()).imagine(np.full((2, 3, 3), np.nan)))
    assert runtime.backend == "dying" and not runtime.degraded


@pytest.mark.parametrize("strict", [False, True])
def test_a_back_end_that_refuses_a_request_is_no_lost_device(checkpoint, monkeypatch, strict):
    refused = V2WError("rollout", "only the newest one of a back end goes on", 3)
    monkeypatch.setattr(Dying, "error", refused)
    runtime = Warnings().runtime(checkpoint, backend="dying", strict=strict)
    with pytest.raises(V2WError, match="only the newest") as error:
        runtime.run(lambda: imagine(runtime))
    assert error.value is refused
    assert runtime.backend == "dying" and not runtime.degraded and not runtime.lost


def test_a_model_that_cannot_be_had_on_the_cpu_is_lost(checkpoint, monkeypatch):
    def gone(model):
        raise OSError("the disk is gone, too")

    runtime = Warnings().runtime(checkpoint, backend="dying")
    Dying.steps_left = 0
    monkeypatch.setattr("v2w.inference.model_runtime.fall_back_to_cpu", gone)
    for _ in range(2):
        with pytest.raises(V2WError, match="unspecified launch failure") as error:
            runtime.run(lambda: imagine(runtime))
        assert error.value.code == "MODEL_ERROR"
    assert "the disk is gone, too" in runtime.lost


def test_what_auto_ends_with_is_the_last_resort(checkpoint, monkeypatch):
    """Nothing takes the place of eager on the CPU: its errors are errors of the request."""

    def broken(self, *given, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(registry, "CHAIN", ("absent", "eager"))
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="auto")
    assert runtime.backend == "eager"
    monkeypatch.setattr(Eager, "step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        runtime.run(lambda: imagine(runtime))
    assert not runtime.degraded and not warnings


def test_a_back_end_that_cannot_be_had_gives_way(checkpoint):
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="absent")
    assert runtime.backend == "engined"  # the next of the chain, not its first
    assert "no such accelerator" in runtime.degraded
    assert len(warnings) == 1 and "strict_backend" in warnings[0]
    with pytest.raises(V2WError, match="no such accelerator"):
        Warnings().runtime(checkpoint, backend="absent", strict=True)


def test_a_device_or_precision_that_cannot_be_had_gives_way(checkpoint):
    for settings in ({"device": "cuda:77"}, {"precision": "bf16"}):
        warnings = Warnings()
        relaxed = RuntimeSettings(checkpoint, **({"device": "cpu", "backend": "eager"} | settings))
        runtime = ModelRuntime(relaxed, warnings.append)
        assert (runtime.backend, runtime.device, runtime.precision) == ("eager", "cpu", "fp32")
        assert next(iter(settings.values())) in runtime.degraded
        strict = RuntimeSettings(checkpoint, strict=True, **({"device": "cpu"} | settings))
        with pytest.raises(V2WError) as error:
            ModelRuntime(strict, warnings.append)
        assert error.value.code == "MODEL_ERROR"


def test_it_says_which_engine_computes_and_warms_it_up(checkpoint):
    runtime = Warnings().runtime(checkpoint, backend="engined", memory_budget=2**30)
    assert runtime.key == "0123456789ab"
    assert runtime._model.memory_budget == 2**30
    runtime.warm_up(sizes_up_to(6), 5)
    assert runtime._model.backend.warmed == [1, 2, 4, 6]
    assert runtime._model.backend._backend.num_steps == 4 * 5 * 2  # rollouts, frames, denoising
    assert "request" not in runtime.timings.percentiles(), "trial rollouts are no requests"
    assert Warnings().runtime(checkpoint).key == ""


@pytest.mark.slow
def test_a_back_end_that_dies_in_the_trial_gives_way_before_any_request(checkpoint, monkeypatch):
    monkeypatch.setattr(Dying, "steps_left", 0)
    warnings = Warnings()
    runtime = warnings.runtime(checkpoint, backend="dying")
    runtime.warm_up((1,), 3)
    assert runtime.backend == "eager" and "was lost" in warnings[0]


def test_settings_come_from_parameters(checkpoint):
    values = {"checkpoint": str(checkpoint), "device": "cpu", "backend": "auto",
              "precision": "fp32", "strict_backend": True, "memory_budget_mib": 0}  # fmt: skip
    assert settings_from(values).memory_budget is None
    given = settings_from(values | {"memory_budget_mib": 3})
    assert given == RuntimeSettings(checkpoint, "cpu", "auto", "fp32", True, 3 * 2**20)
    with pytest.raises(V2WError, match="parameter checkpoint"):
        settings_from(values | {"checkpoint": ""})


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (9, (1, 2, 4, 8, 9))])
def test_batch_sizes(largest, sizes):
    assert sizes_up_to(largest) == sizes


def test_times_are_of_the_last_requests_that_were_answered():
    timings = Timings()
    for seconds in (*range(100, 0, -1), 1000):
        timings.add("encode", seconds / 2)
        timings.add("encode", seconds / 2)
        timings.finish(counts=seconds < 1000)
    with pytest.raises(ZeroDivisionError), timings.stage("answer"):
        1 // 0
    timings.add_steps(4, 2.0)
    timings.finish(counts=True)
    found = timings.percentiles()
    assert found["encode"] == pytest.approx((50.5, 95.05))
    assert found["step"] == (0.5, 0.5)
    assert found["imagine"] == (2.0, 2.0)
    assert "decode" not in found and found["answer"][0] > 0


def test_requests_are_served_in_order_of_arrival_and_too_many_are_refused():
    thread, may_end, served = ModelThread(max_waiting=3), threading.Event(), []

    def work(number):
        may_end.wait(30.0)
        served.append(number)
        return number

    callers = []
    for number in range(4):
        caller = threading.Thread(target=lambda n=number: thread.run(lambda: work(n)))
        caller.start()
        callers.append(caller)
        while thread.num_waiting != number:
            pass
    assert thread.busy
    with pytest.raises(NodeError, match="3 waiting") as error:
        thread.run(lambda: work(9))
    assert error.value.code == "BUSY"
    may_end.set()
    for caller in callers:
        caller.join(30.0)
    assert served == [0, 1, 2, 3]
    assert not thread.busy and thread.num_waiting == 0
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 // 0)
    assert thread.run(lambda: work(5)) == 5
