"""A back end whose rollouts are timed and whose failures are reported as a lost device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from v2w.inference.timings import Timings
from v2w_core.device import out_of_memory
from v2w_core.errors import DeviceError, Interrupted, V2WError


class MonitoredBackend:
    """Wraps a back end: times its rollouts, and raises DeviceError when a computation fails.

    All other attributes are those of the back end.

    Args:
        backend: the back end.
        device: name of its PyTorch device.
        timings: gets the durations.
        last: nothing could replace this back end, so its errors are raised as they are.
        interrupt: asked before every step, of which a frame may have many; True ends the rollout.

    Attributes:
        pass_s: seconds for one candidate's frame in one pass, in the fastest rollout so far;
            infinite before the first.

    Raises:
        Interrupted: from a step, where ``interrupt`` said so.
        DeviceError: MODEL_ERROR, from any method, when the runtime fails for another reason than
            memory or a fault of the request.
    """

    def __init__(
        self,
        backend: Any,
        device: str,
        timings: Timings,
        *,
        last: bool,
        interrupt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._backend = backend
        self._on_gpu = torch.device(device).type == "cuda"
        self._timings = timings
        self._last, self._interrupt = last, interrupt
        self._num_steps = self._num_passes = 0
        self.pass_s = math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @contextmanager
    def rollout_context(self) -> Iterator[None]:
        """Context of a rollout; on a GPU it waits at the end until all steps are complete."""
        began, self._num_steps, self._num_passes = perf_counter(), 0, 0
        with self._backend.rollout_context():
            yield
            with self._failures_reported():
                if self._on_gpu:
                    torch.cuda.synchronize()
        seconds = perf_counter() - began
        self._timings.add_steps(self._num_steps, seconds)
        if self._num_passes:
            self.pass_s = min(self.pass_s, seconds / self._num_passes)

    def start(self, *given: Any, **options: Any) -> Any:
        with self._failures_reported():
            return self._backend.start(*given, **options)

    def step(self, latents: Any, *given: Any, guided: bool = False, **options: Any) -> Any:
        if self._interrupt():
            raise Interrupted
        self._num_steps += 1
        self._num_passes += latents.shape[0] * (2 if guided else 1)
        with self._failures_reported():
            return self._backend.step(latents, *given, guided=guided, **options)

    def select(self, *given: Any) -> Any:
        with self._failures_reported():
            return self._backend.select(*given)

    def warm_up(self, batch_size: int) -> None:
        with self._failures_reported():
            self._backend.warm_up(batch_size)

    @contextmanager
    def _failures_reported(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the runtimes' errors have no base class in common
            if self._last or _is_known(error) or out_of_memory(error):
                raise
            said = f"{type(error).__name__}: {error}"
            rule = "a device that goes on working"
            raise DeviceError(
                f"back end {self._backend.name}", rule, said, code="MODEL_ERROR"
            ) from error


def _is_known(error: Exception) -> bool:
    """Whether the error is a device error already, or says that the request was at fault."""
    if not isinstance(error, V2WError):
        return False
    return isinstance(error, DeviceError) or error.code != "MODEL_ERROR"
