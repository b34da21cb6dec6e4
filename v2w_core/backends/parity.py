"""Rollouts on noise that hold a back end to eager float32, and time its steps."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_core.backends.base import Backend
from v2w_core.backends.eager import Eager
from v2w_core.device import exact_float32
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Dynamics, StepBackend
from v2w_core.rollout.result import Rollouts
from v2w_core.rollout.session import Session

if TYPE_CHECKING:
    from v2w_core.models.temporal_cache import Cache

log = logging.getLogger(__name__)

NUM_CANDIDATES, HORIZON = 4, 3
MANY_CANDIDATES = 64  # as many as are computed at once: in lanes, in the largest bucket
TIMED_HORIZON = 8  # frames; a wide window of a large model would take minutes
BATCH_SIZES = (1, 8, 64)
#: Largest difference of imagined latents (whose standard deviation is 1) from eager float32.
#: float32: other orders of summation, a hundred roundings of 6e-8 on values up to 10, with room.
#: A rounding of float16 is 2^-11, of bfloat16 2^-8 of the value; what a step makes of them
#: grows with the root of the number of layers and with the frames of a rollout. A graph with an
#: error is off by tenths.
TOLERANCES = {"fp32": 2e-4, "fp16": 0.02, "bf16": 0.15}


def synthetic_session(model: Dynamics, backend: StepBackend) -> Session:
    """A session on frames of noise."""
    rng = np.random.default_rng(0)
    config = model.config
    size = (config.num_history, config.observation.height, config.observation.width, 3)
    frames = rng.integers(0, 256, size, dtype=np.uint8)
    actions = config.action.normalise(synthetic_actions(model, 1, config.num_history - 1)[0])
    session = Session(model, model.encode(frames), model.tensor(actions), seed=0)
    session.backend = backend
    return session


def synthetic_actions(model: Dynamics, num_candidates: int, horizon: int) -> NDArray[np.float32]:
    """Physical actions [K, horizon, A] within the bounds."""
    spec = model.config.action
    shape = (num_candidates, horizon, spec.dim)
    return np.random.default_rng(1).uniform(spec.low, spec.high, shape).astype(np.float32)


@exact_float32()
def check_parity(model: Dynamics, backend: Backend, precision: str) -> dict[str, float]:
    """Largest differences of short rollouts from eager float32, on the same noise.

    Rollouts as the model is configured; with two sampling steps and guidance; of many candidates
    without guidance, some of which go on to the end; and out of the trained window. Which kinds of
    steps these use depends on the configuration; those in which a single frame joins are therefore
    compared by themselves.

    Raises:
        V2WError: MODEL_ERROR; a difference beyond the tolerance, and by how much.
    """
    window, needed = model.config.num_frames, model.config.num_history
    inside = {"horizon": min(HORIZON, window - needed)}
    cases: dict[str, dict[str, Any]] = {
        "configured": inside,
        "guided": inside | {"num_sampling_steps": 2, "guidance_scale": 1.5},
        "unguided": {
            "horizon": min(HORIZON, window - needed),
            "num_candidates": MANY_CANDIDATES,
            "select": (2, 3),
            "num_sampling_steps": 1,
            "guidance_scale": 1.0,
        },
        "past_window": {"horizon": HORIZON, "num_history": max(needed, window - HORIZON + 1)},
    }
    kinds = (Eager(model.unet), backend)
    results = {
        name: [_imagined(model, kind, **case) for kind in kinds] for name, case in cases.items()
    }
    results["joined"] = [_joined(model, kind) for kind in kinds]
    differences = {name: float((a - b).abs().max()) for name, (a, b) in results.items()}
    worst, tolerance = max(differences.values()), TOLERANCES[precision]
    if not worst <= tolerance:
        rule = f"imagined latents within {tolerance:g} of eager float32"
        off = f"{worst:.2g}, {worst / tolerance:.3g} times that"
        raise V2WError(f"back end {backend.name}, {precision}", rule, off, code="MODEL_ERROR")
    return {**differences, "tolerance": tolerance}


def _imagined(
    model: Dynamics,
    backend: StepBackend,
    horizon: int,
    num_candidates: int = NUM_CANDIDATES,
    num_history: int = 0,
    select: tuple[int, int] | None = None,
    **sampling: Any,
) -> Tensor:
    """Latents and motion after a history of at least ``num_history`` frames, [K, horizon, values].

    Args:
        select: (frames, n): after so many frames, only every nth candidate goes on.
    """
    session = synthetic_session(model, backend)
    rng, observation = np.random.default_rng(2), model.config.observation
    while session.num_history < num_history:
        frame = rng.integers(0, 256, (observation.height, observation.width, 3), dtype=np.uint8)
        session.append(frame, synthetic_actions(model, 1, 1)[0, 0])
    actions = synthetic_actions(model, num_candidates, horizon)
    rollout = session.rollout(actions, **sampling)
    if select is None or select[0] >= horizon:
        return _values(rollout.advance(horizon))
    rollout.advance(select[0])
    rollout.select(range(0, num_candidates, select[1]))
    return _values(rollout.advance(horizon - select[0]))


def _values(rollouts: Rollouts) -> Tensor:
    return torch.cat([rollouts.latents.flatten(2), rollouts.motion_means], dim=2).float()


@torch.inference_mode()
def _joined(model: Dynamics, backend: StepBackend) -> Tensor:
    """Outputs for a frame that joins the past, and for the next one, which sees it; both without
    guidance and with it."""
    config, cache = model.config, synthetic_session(model, backend).history.cache
    generator = torch.Generator().manual_seed(3)
    shape = (NUM_CANDIDATES, 1, *config.input_shape)
    latents = torch.randn(shape, generator=generator).to(model.device)
    level = torch.full(shape[:2], config.sampling.history_level, device=model.device)
    actions = model.tensor(config.action.normalise(synthetic_actions(model, NUM_CANDIDATES, 1)))
    frame = (latents, level, actions, torch.ones_like(level, dtype=torch.bool))
    velocities = []
    with backend.rollout_context():
        for guided in (False, True):
            past = backend.start(cache, NUM_CANDIDATES, 1)
            if cache.num_frames + 2 > config.num_frames:
                past = backend.evict(past, 0)
            for keep in (True, False):
                v, past = backend.step(*frame, past, keep=keep, guided=guided)
                velocities.append(v.float())
    return torch.cat(velocities, dim=1)


class TimedBackend:
    """A back end that notes how long each step took."""

    def __init__(self, backend: StepBackend) -> None:
        self._backend = backend
        self.name, self.max_batch_size = backend.name, backend.max_batch_size
        self.seconds: list[float] = []

    def rollout_context(self) -> AbstractContextManager[None]:
        return self._backend.rollout_context()

    def start(self, history: Cache, batch_size: int, num_suffix: int) -> Any:
        return self._backend.start(history, batch_size, num_suffix)

    def evict(self, past: Any, index: int) -> Any:
        return self._backend.evict(past, index)

    def select(self, past: Any, indices: Tensor) -> Any:
        return self._backend.select(past, indices)

    def step(
        self, latents: Tensor, *given: Any, keep: bool = True, guided: bool = False
    ) -> tuple[Tensor, Any]:
        began = time.perf_counter()
        result = self._backend.step(latents, *given, keep=keep, guided=guided)
        if latents.is_cuda:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - began)
        return result


def measure(
    model: Dynamics, backend: StepBackend, batch_size: int, *, horizon: int | None = None
) -> NDArray[np.float64]:
    """Seconds of every step of a rollout (the longest possible), as the model is configured."""
    timed = TimedBackend(backend)
    session = synthetic_session(model, timed)
    longest = session.max_horizon
    actions = synthetic_actions(model, batch_size, min(horizon or longest, longest))
    session.imagine(actions, batch_size=batch_size)
    return np.array(timed.seconds)


def latency(model: Dynamics, backend: Backend) -> dict[str, dict[str, float]]:
    """Milliseconds a step by batch size, median and 95th percentile."""
    figures = {}
    for batch_size in BATCH_SIZES:
        backend.warm_up(batch_size)
        p50, p95 = 1e3 * np.percentile(
            measure(model, backend, batch_size, horizon=TIMED_HORIZON), (50, 95)
        )
        figures[str(batch_size)] = {"step_ms_p50": round(p50, 3), "step_ms_p95": round(p95, 3)}
    return figures


def validate_and_time(model: Dynamics, backend: Backend, precision: str) -> dict[str, Any]:
    """Parity and latency, as the manifest of an engine holds them.

    Raises:
        V2WError: of :func:`check_parity`.
    """
    log.info("comparing rollouts with eager float32")
    parity = check_parity(model, backend, precision)
    log.info("timing steps")
    figures = latency(model, backend)
    return {"parity": parity, "num_threads": torch.get_num_threads(), "latency": figures}
