"""What benchmarks/rollout.py compares, each in a process of its own.

A contender is the reference's algorithm ("reference") or one of our back ends ("onnx:fp32"). A
process of its own gives each its own peak memory; the benchmark lets them take turns.
"""

from __future__ import annotations

import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from cases import Case, Setup, load_model, scene
from floors import CountedUNet, Work
from reference_rollout import WindowRecomputed
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.parity import TimedBackend
from v2w_core.backends.registry import backend_class, make_backend
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import StepBackend
from v2w_core.rollout.session import Session
from v2w_core.world_model import WorldModel

REFERENCE = "reference"
MIB = 2**20
RESET_PEAK = "5"  # written to clear_refs, see proc(5)


class Measured(NamedTuple):
    """One rollout.

    Attributes:
        seconds: wall clock.
        steps: seconds of every call of the network.
        latents: [K, horizon, C, h, w].
    """

    seconds: float
    steps: list[float]
    latents: NDArray[np.float32]


class Contender(ABC):
    """A way to compute the rollout of a case."""

    def __init__(self, model: WorldModel, case: Case) -> None:
        self.model = model
        self.case = case
        self.scene = scene(model, case)

    @abstractmethod
    def rollout(self) -> Measured:
        """One, timed."""

    @abstractmethod
    def warm_up(self) -> None:
        """What is slow only once is over afterwards."""

    @abstractmethod
    def work(self) -> list[Work]:
        """Seconds of every pass of a rollout."""


class Reference(Contender):
    """The whole window at every step."""

    def _algorithm(self, unet: object = None) -> WindowRecomputed:
        return WindowRecomputed(self.model, self.scene.frames, self.scene.actions, unet=unet)

    def rollout(self) -> Measured:
        algorithm = self._algorithm()
        began = time.perf_counter()
        latents = algorithm.imagine(
            self.scene.candidates, num_sampling_steps=self.case.num_steps,
            guidance_scale=self.case.guidance_scale,
        )  # fmt: skip
        return Measured(time.perf_counter() - began, algorithm.seconds, latents.cpu().numpy())

    def warm_up(self) -> None:
        one = self.scene.candidates[:1, :1]
        self._algorithm().imagine(one, num_sampling_steps=1, guidance_scale=1.0)

    def work(self) -> list[Work]:
        unet = CountedUNet(self.model.config.unet)
        self._algorithm(unet).imagine(
            self.scene.candidates, num_sampling_steps=self.case.num_steps,
            guidance_scale=self.case.guidance_scale,
        )  # fmt: skip
        return unet.passes


class Ours(Contender):
    """A session of a back end."""

    def __init__(self, model: WorldModel, case: Case, backend: StepBackend) -> None:
        super().__init__(model, case)
        self.session = self._session()
        self.timed = TimedBackend(backend)

    def _session(self) -> Session:
        given = self.model.config.num_history
        frames, actions, _ = self.scene
        session = self.model.start(frames[:given], actions[: given - 1])
        assert isinstance(session, Session)
        for frame, action in zip(frames[given:], actions[given - 1 :], strict=True):
            session.append(frame, action)
        return session

    def _imagine(self, backend: StepBackend, horizon: int | None = None) -> tuple[float, Any]:
        self.session.backend = backend
        rollouts = self.session.imagine(
            self.scene.candidates[:, :horizon], num_sampling_steps=self.case.num_steps,
            guidance_scale=self.case.guidance_scale, batch_size=self.case.batch_size,
        )  # fmt: skip
        return rollouts.elapsed_s, rollouts.latents

    def rollout(self) -> Measured:
        self.timed.seconds = []
        seconds, latents = self._imagine(self.timed)
        return Measured(seconds, self.timed.seconds, latents.cpu().numpy())

    def warm_up(self) -> None:
        self._imagine(self.timed, horizon=2)

    def work(self) -> list[Work]:
        unet: Any = CountedUNet(self.model.config.unet)
        self._imagine(Eager(unet))
        return unet.passes


def chosen_backend(name: str, setup: Setup) -> tuple[str, BackendOptions]:
    """What NAME:PRECISION stands for."""
    backend, _, precision = name.partition(":")
    return backend, BackendOptions(precision or "fp32", engines=setup.engines)


def probed(name: str, model: WorldModel, setup: Setup) -> str | None:
    """Why a back end cannot serve the model here, as far as can be told quickly."""
    backend, options = chosen_backend(name, setup)
    return backend_class(backend).probe(model, options)


def make_contender(name: str, model: WorldModel, case: Case, setup: Setup) -> Contender:
    """Raises V2WError for a back end that cannot serve the model here."""
    if name == REFERENCE:
        return Reference(model, case)
    return Ours(model, case, make_backend(model, *chosen_backend(name, setup)))


class Peak:
    """Memory above what is in use now: of the process, or of the GPU as PyTorch allocates it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._idle = psutil.Process().memory_info().rss
        if device.type == "cuda":
            self._idle = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
        else:
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)

    def mib(self) -> float:
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._idle) / MIB
        lines = Path("/proc/self/status").read_text().splitlines()
        peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return (1024 * peak_kib - self._idle) / MIB


def serve(pipe: Connection, name: str, case: Case, setup: Setup) -> None:
    """The process of a contender: does what it is told until it is told None."""
    torch.set_num_threads(setup.num_threads)
    model = load_model(case.model, setup)
    peak = Peak(model.device)
    try:
        contender = make_contender(name, model, case, setup)
    except V2WError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    tasks: dict[str, Callable[[], Any]] = {
        "warm_up": contender.warm_up,
        "rollout": contender.rollout,
        "peak": peak.mib,
        "work": contender.work,
        "parameters": lambda: sum(p.numel() for p in model.unet.parameters()),
    }
    while (task := pipe.recv()) is not None:
        pipe.send(tasks[task]())


class Process:
    """A contender at the other end of a pipe."""

    def __init__(self, name: str, case: Case, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, case, setup), daemon=True)
        self._process.start()
        theirs.close()

    def refusal(self) -> str | None:
        """Why it cannot take part; waits until it is ready."""
        refusal: str | None = self._pipe.recv()
        return refusal

    def ask(self, task: str) -> Any:
        self._pipe.send(task)
        return self._pipe.recv()

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


@contextmanager
def processes(names: list[str], case: Case, setup: Setup) -> Iterator[dict[str, Process]]:
    started = {name: Process(name, case, setup) for name in names}
    try:
        yield started
    finally:
        for process in started.values():
            process.end()
