"""A world model as a node uses it: the back end is chosen, warmed up, timed and, if lost, replaced.

Knows no ROS. A model is only ever used from one thread (:mod:`v2w.inference.model_thread`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch

from v2w.inference.monitored_backend import MonitoredBackend
from v2w.inference.request_cost import Pace, RequestCost
from v2w.inference.status import RuntimeReport
from v2w.inference.timings import Timings
from v2w_core.backends.base import BackendOptions
from v2w_core.backends.names import AUTO, CHAIN
from v2w_core.device import device_errors
from v2w_core.errors import DeviceError, V2WError
from v2w_core.world_model import WorldModel, fall_back_to_cpu

T = TypeVar("T")
#: The back end and the precision that work on every machine.
LAST_RESORT = ("eager", "fp32")


@dataclass(frozen=True)
class RuntimeSettings:
    """What the parameters of a node say about its model.

    Attributes:
        checkpoint: folder of the checkpoint.
        device: name of a PyTorch device; "auto" takes a GPU where there is one.
        backend: name of a back end, or "auto".
        precision: precision of the rollouts, e.g. "fp32".
        strict: compute with nothing else; a back end or device that is not available, or is lost
            later, is an error.
        memory_budget: bytes that a rollout may take; None: what the device has free.
    """

    checkpoint: Path
    device: str = "auto"
    backend: str = "eager"
    precision: str = "fp32"
    strict: bool = False
    memory_budget: int | None = None


class ModelRuntime:
    """The model of a node, with the interface that planners use.

    Args:
        settings: what to load and what to compute with.
        warn: called with a sentence when something is not as the settings say.
        on_replaced: called when the device was lost and another model computes from here on; what
            the old one has encoded is of no use any more.
        interrupt: asked before every step of a rollout; True gives the rollout up.

    Attributes:
        device: name of the PyTorch device, e.g. "cpu".
        precision: precision of the rollouts.
        key: short name of the built engine in the cache; empty for a back end that builds none.
        degraded: why something else computes than the settings name; empty when nothing else does.
        lost: why no request can be answered any more; empty while they can.

    Raises:
        V2WError: there is no such checkpoint, or, with ``strict``, the device or the back end is
            not available.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        warn: Callable[[str], None],
        on_replaced: Callable[[], None] = lambda: None,
        interrupt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pace = Pace()
        self._interrupt = interrupt
        self.settings = settings
        self.timings = Timings()
        self.degraded = self.lost = ""
        self._warn, self._on_replaced = warn, on_replaced
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        model = WorldModel.from_pretrained(settings.checkpoint)
        try:
            model.on_device(device)
        except V2WError as error:
            self._give_up_on(f"device {device}", error)
            device = "cpu"
            model.on_device(device)
        self._adopt(model, device)
        self._choose_backend()

    def _adopt(self, model: WorldModel, device: str) -> None:
        model.memory_budget = self.settings.memory_budget
        self._model, self.device = model, device

    def _choose_backend(self) -> None:
        """Use the back end of the settings, or the next of the chain that can be built."""
        chosen, precision = self.settings.backend, self.settings.precision
        # "auto" has been through the chain by itself
        after = () if chosen == AUTO else CHAIN[CHAIN.index(chosen) + 1 :]
        for name in (chosen, *(name for name in after if name != LAST_RESORT[0])):
            try:
                self._use_backend(name, precision)
                return
            except V2WError as error:
                if error.code != "MODEL_ERROR":
                    raise
                self._give_up_on(f"back end {name}, {precision}", error)
        self._use_backend(*LAST_RESORT)

    def _use_backend(self, name: str, precision: str) -> None:
        backend = self._model.use_backend(name, BackendOptions(precision))
        folder = backend.info().get("folder")
        self.key = Path(folder).name[:12] if folder else ""
        self.precision = precision
        last = (backend.name, self.device) == (LAST_RESORT[0], "cpu")
        self._model.backend = MonitoredBackend(
            backend, self.device, self.timings, last=last, interrupt=self._interrupt
        )

    def _give_up_on(self, what: str, error: V2WError) -> None:
        """Note that something is not available; raises the error when nothing may replace it."""
        if self.settings.strict:
            raise error
        self.degraded = self.degraded or f"{what} is not available: {error}"
        self._warn(f"{what} is not available (strict_backend would refuse): {error}")

    @property
    def backend(self) -> str:
        """The name of the back end."""
        return self._model.backend.name

    def report(self) -> RuntimeReport:
        """What computes now, and how long the last requests took."""
        return RuntimeReport(
            self.device, self.backend, self.precision, self.key, self.degraded,
            self.timings.percentiles(),
        )  # fmt: skip

    @property
    def config(self) -> Any:
        """The model's WorldModelConfig."""
        return self._model.config

    @property
    def goal_distance(self) -> Any:
        """The model's distance between frames and a goal image; None without one."""
        return self._model.goal_distance

    def start(self, frames: Any, actions: Any, *, seed: int = 0) -> Any:
        """Encode a history; returns a session. See :meth:`WorldModel.start`."""
        with self.timings.stage("encode"):
            return self._model.start(frames, actions, seed=seed)

    def encode(self, frames: Any) -> torch.Tensor:
        """Latents of RGB frames; see :meth:`WorldModel.encode`."""
        return self._model.encode(frames)

    def decode(self, latents: torch.Tensor) -> Any:
        """RGB frames of latents; see :meth:`WorldModel.decode`."""
        with self.timings.stage("decode"):
            return self._model.decode(latents)

    def warm_up(self, batch_sizes: Iterable[int], horizon: int) -> None:
        """Do trial rollouts, so that the first requests take no longer than later ones.

        Args:
            batch_sizes: numbers of candidates of the requests to come.
            horizon: their number of steps.
        """
        self.run(lambda: self._warm_up(batch_sizes, horizon), counts=False)

    def _warm_up(self, batch_sizes: Iterable[int], horizon: int) -> None:
        """Imagine as requests do, so that the memory budget splits the batches as it will then."""
        config = self._model.config
        size = (config.num_history, config.observation.height, config.observation.width, 3)
        middle = (np.asarray(config.action.low) + np.asarray(config.action.high)) / 2
        actions = np.tile(middle.astype(np.float32), (max(config.num_history - 1, horizon), 1))
        session = self.start(np.zeros(size, np.uint8), actions[: config.num_history - 1])
        pass_s = np.inf
        for batch_size in batch_sizes:
            candidates = np.repeat(actions[None, :horizon], batch_size, axis=0)
            began = perf_counter()
            rollouts = session.imagine(candidates)
            cost = self.cost(batch_size * horizon)
            pass_s = min(pass_s, (perf_counter() - began) / cost.num_passes)
        self.decode(rollouts.latents[:1])  # the first one is slower
        began = perf_counter()
        self.decode(rollouts.latents[:1])
        self._pace = Pace(pass_s, (perf_counter() - began) / horizon)

    @property
    def pace(self) -> Pace:
        """How fast the fastest rollout was; a large batch is faster than the trial rollouts."""
        return replace(self._pace, pass_s=min(self._pace.pass_s, self._model.backend.pass_s))

    def cost(self, num_frames: int, num_sampling_steps: int | None = None) -> RequestCost:
        """The size of a request for ``num_frames`` frames; None: the configuration's steps."""
        sampling = self.config.sampling
        guided = sampling.guidance_scale != 1.0
        return RequestCost(num_frames, num_sampling_steps or sampling.num_steps, guided)

    def run(self, work: Callable[[], T], *, counts: bool = True) -> T:
        """Do the work of a request, and once more on the CPU when the device is lost meanwhile.

        Args:
            work: computes with this model.
            counts: whether its times belong to those of requests.

        Raises:
            V2WError: MODEL_ERROR when the device is lost and nothing may replace it.
        """
        if self.lost:
            raise V2WError("model", "configured again", self.lost, code="MODEL_ERROR")
        try:
            with device_errors("request"):
                return self._timed(work, counts)
        except DeviceError as error:
            what = f"{self.backend} on {self.device} was lost: {_first_cause(error)}"
            if self.settings.strict:
                self.lost = what
                raise V2WError(
                    "device", "there (strict_backend: nothing else computes)", what,
                    code="MODEL_ERROR",
                ) from error  # fmt: skip
        try:
            self._fall_back(what)
        except Exception as error:
            self.lost = f"{what}; falling back failed: {type(error).__name__}: {error}"
            rule = "there, or a checkpoint that can be loaded on the CPU"
            raise V2WError("device", rule, self.lost, code="MODEL_ERROR") from error
        return self._timed(work, counts)

    def _timed(self, work: Callable[[], T], counts: bool) -> T:
        done = False
        try:
            with self.timings.stage("request"):
                result = work()
            done = True
            return result
        finally:
            self.timings.finish(counts=done and counts)

    def _fall_back(self, what: str) -> None:
        """Replace the model by the same one on the CPU with the back end that always works."""
        self.degraded = what
        self._warn(f"{what}; falling back to eager on the CPU until the node is configured again")
        self.timings = Timings()
        self._adopt(fall_back_to_cpu(self._model), "cpu")
        gc.collect()  # frees what the lost back end keeps of the device
        self._use_backend(*LAST_RESORT)
        self._on_replaced()


def settings_from(values: dict[str, Any]) -> RuntimeSettings:
    """The settings that the parameters of a node stand for.

    Args:
        values: parameter values by name.

    Raises:
        V2WError: the parameter checkpoint is empty.
    """
    if not values["checkpoint"]:
        raise V2WError("parameter checkpoint", "the folder of a checkpoint", "")
    mib = values["memory_budget_mib"]
    return RuntimeSettings(
        Path(values["checkpoint"]).expanduser(),
        values["device"],
        values["backend"],
        values["precision"],
        values["strict_backend"],
        mib * 2**20 if mib else None,
    )


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Batch sizes to warm up: 1, 2, 4, ... and the largest one itself."""
    powers = [2**n for n in range(largest.bit_length()) if 2**n < largest]
    return (*powers, largest)


def _first_cause(error: BaseException) -> str:
    """The error of the runtime itself, which every layer above has wrapped once more."""
    while isinstance(error, DeviceError) and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
