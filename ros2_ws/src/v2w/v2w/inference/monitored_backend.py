"""A back end under watch: how long its rollouts take, and whether its device is still there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from v2w.inference.timings import Timings
from v2w_core.device import out_of_memory
from v2w_core.errors import DeviceError, V2WError


class Watched:
    """A back end that notes how long its rollouts take and says when it fails.

    Whatever is not watched is the back end's own.

    Args:
        device: of PyTorch.
        last: nothing could take its place, so that its errors pass as they are.
    """

    def __init__(self, backend: Any, device: str, timings: Timings, *, last: bool) -> None:
        self._backend = backend
        self._on_gpu = torch.device(device).type == "cuda"
        self._timings = timings
        self._last = last
        self._num_steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @contextmanager
    def rollout_context(self) -> Iterator[None]:
        """Around a rollout; on a GPU the steps are only complete at its end."""
        began, self._num_steps = perf_counter(), 0
        with self._backend.rollout_context():
            yield
            with self._watch():
                if self._on_gpu:
                    torch.cuda.synchronize()
        self._timings.add_steps(self._num_steps, perf_counter() - began)

    def start(self, *given: Any, **options: Any) -> Any:
        with self._watch():
            return self._backend.start(*given, **options)

    def step(self, *given: Any, **options: Any) -> Any:
        self._num_steps += 1
        with self._watch():
            return self._backend.step(*given, **options)

    def select(self, *given: Any) -> Any:
        with self._watch():
            return self._backend.select(*given)

    def warm_up(self, batch_size: int) -> None:
        with self._watch():
            self._backend.warm_up(batch_size)

    @contextmanager
    def _watch(self) -> Iterator[None]:
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
    """Whether it says what it is: a device error already, or a fault of the request."""
    if not isinstance(error, V2WError):
        return False
    return isinstance(error, DeviceError) or error.code != "MODEL_ERROR"
