"""Autoregressive rollout over a cached history: what a planner and a node call.

A :class:`Session` holds the encoded history of one moment. ``imagine`` rolls out K candidate
action sequences from it; the history's cache is stored once and shared by all of them. One frame
is denoised at a time; a finished frame joins the candidates' own part of the cache, held at the
small history noise level (Vid2World section 4.3, Algorithm 2) or as its last denoising pass left
it (``SamplingConfig.imagined_history``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from v2w_core.cache import Cache
from v2w_core.diffusion.guidance import guide
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import Interrupted, V2WError

if TYPE_CHECKING:
    from v2w_core.backends.base import Stepper
    from v2w_core.world_model import WorldModel

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Rollouts:
    """What K candidates lead to.

    Attributes:
        latents: [K, horizon, C, h, w] normalised latents of the imagined frames.
        frames_imagined: K * horizon.
        elapsed_s: wall-clock seconds of the rollout, without decoding.
    """

    latents: Tensor
    elapsed_s: float
    model: WorldModel = field(repr=False)

    @property
    def num_candidates(self) -> int:
        return int(self.latents.shape[0])

    @property
    def horizon(self) -> int:
        return int(self.latents.shape[1])

    @property
    def frames_imagined(self) -> int:
        return self.num_candidates * self.horizon

    def frames(self, indices: ArrayLike | None = None) -> UInt8Array:
        """Decoded RGB frames uint8 [K', horizon, H, W, 3] of the candidates ``indices`` (all)."""
        latents = self.latents
        if indices is not None:
            latents = latents[torch.as_tensor(np.atleast_1d(np.asarray(indices)))]
        return self.model.decode(latents)


class Session:
    """The encoded history of one moment, ready to imagine futures.

    Made by :meth:`WorldModel.start`. Not thread-safe; one lock around a model's sessions.
    """

    def __init__(self, model: WorldModel, latents: Tensor, actions: Tensor, seed: int) -> None:
        self.model = model
        self.backend: Stepper = model.backend
        self.seed = seed
        self._latents = latents  # [T, C, h, w]
        self._actions = actions  # [T - 1, A] normalised
        self._encode_history()

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return int(self._latents.shape[0])

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

    @torch.inference_mode()
    def _encode_history(self) -> None:
        latents, actions = self._latents[None], self._actions[None]
        pad = torch.zeros_like(actions[:, :1]) if actions.shape[1] else _no_action(self.model, 1)
        aligned = torch.cat([pad, actions], dim=1)
        mask = torch.ones(aligned.shape[:2], dtype=torch.bool, device=aligned.device)
        mask[:, 0] = False
        noise = self._noise(self.num_history, self.seed)[None]
        self._cache = self._hold(latents, noise, aligned, mask, None).share()

    @torch.inference_mode()
    def append(self, frame: UInt8Array, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it.

        Streaming: the frame joins the cache, the history is not encoded again. Past the trained
        window the oldest frames are dropped and the rest is encoded anew.
        """
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        action_t = self.model.tensor(spec.normalise(checked))
        latent = self.model.encode(np.asarray(frame)[None])
        self._latents = torch.cat([self._latents, latent])
        self._actions = torch.cat([self._actions, action_t])
        limit = self.model.config.num_frames - 1
        if self.num_history > limit:
            keep = self.model.config.num_history
            self._latents, self._actions = self._latents[-keep:], self._actions[-(keep - 1) :]
            self._encode_history()
            return
        noise = self._noise(self.num_history, self.seed)[None, -1:]
        mask = torch.ones(1, 1, dtype=torch.bool, device=latent.device)
        self._cache = self._hold(latent[None], noise, action_t[None], mask, self._cache).share()

    @torch.inference_mode()
    def imagine(
        self,
        candidates: ArrayLike,
        *,
        num_sampling_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        batch_size: int = 64,
        bounds: bool = True,
        interrupt: Callable[[], bool] | None = None,
    ) -> Rollouts:
        """Roll out every candidate from the shared history.

        Args:
            candidates: [K, horizon, A] physical units, within the ActionSpec's bounds.
            num_sampling_steps, guidance_scale: the configuration's when None.
            seed: of the noise; the session's when None. All candidates share the same noise, so
                that they differ by their actions only and the batch size changes nothing.
            batch_size: candidates computed at once.
            bounds: False accepts actions outside the bounds (recorded ones may be).
            interrupt: asked before every frame; True gives the rollout up.

        Raises:
            V2WError: actions of a wrong shape, NaN or out of bounds; a horizon past the window.
            Interrupted: ``interrupt`` said so.
        """
        began = time.perf_counter()
        asked = asked_for(self, candidates, num_sampling_steps, guidance_scale, seed, bounds)
        with self.backend.rolling_out():
            parts = [
                self._imagine(chunk, asked, interrupt) for chunk in asked.actions.split(batch_size)
            ]
        return Rollouts(torch.cat(parts), time.perf_counter() - began, self.model)

    def _imagine(
        self, actions: Tensor, asked: Asked, interrupt: Callable[[], bool] | None
    ) -> Tensor:
        """Some of the asked-for actions [K, horizon, A] -> latents [K, horizon, C, h, w]."""
        num_candidates, horizon = actions.shape[:2]
        noise = self._noise(2 * horizon, asked.seed + 1_000_003)
        initial, held = noise[0::2], noise[1::2]  # so that a longer horizon begins the same
        generator = torch.Generator().manual_seed(asked.seed)
        mask = torch.ones(num_candidates, 1, dtype=torch.bool, device=actions.device)
        sampling = self.model.config.sampling
        denoise_onto = sampling.imagined_history == "denoised"
        past, frames = self.backend.begin(self._cache, num_candidates), []
        newest: _Frames | None = None  # the imagined frame that the past does not hold yet
        for step in range(horizon):
            if interrupt is not None and interrupt():
                raise Interrupted
            action = actions[:, step : step + 1]
            denoiser = _Denoiser(
                self, past, newest, action, mask, scale=asked.guidance_scale, keep=denoise_onto
            )
            x = initial[step].expand(num_candidates, 1, *initial.shape[1:])
            x = ddim_sample(
                denoiser, self.model.schedule, x, asked.num_steps, eta=sampling.eta,
                generator=generator,
            )  # fmt: skip
            frames.append(x)
            if denoise_onto:
                past = denoiser.past_after
            else:
                past = denoiser.past
                newest = self._held(x, held[step].expand_as(x), action, mask)
        return torch.cat(frames, dim=1)

    def _hold(
        self, latents: Tensor, noise: Tensor, actions: Tensor, mask: Tensor, cache: Cache | None
    ) -> Cache:
        """The cache with these frames, held at the history noise level."""
        _, after = self.model.unet(*self._held(latents, noise, actions, mask), cache=cache)
        joined: Cache = after
        return joined

    def _held(self, latents: Tensor, noise: Tensor, actions: Tensor, mask: Tensor) -> _Frames:
        """Frames at the history noise level."""
        level = torch.full(
            latents.shape[:2],
            self.model.config.sampling.history_level,
            dtype=torch.long,
            device=latents.device,
        )
        return _Frames(self.model.schedule.add_noise(latents, noise, level), level, actions, mask)

    def _noise(self, num_frames: int, seed: int) -> Tensor:
        """Noise [num_frames, C, h, w]; frame i's is the same for any num_frames >= i."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.model.config.latent_shape
        frames = [torch.randn(shape, generator=generator) for _ in range(num_frames)]
        return torch.stack(frames).to(self._latents.device, self._latents.dtype)


class History(Protocol):
    """What both kinds of sessions tell: the model, how long the past is, how far they look."""

    model: WorldModel
    seed: int

    @property
    def num_history(self) -> int: ...

    @property
    def max_horizon(self) -> int: ...


class Asked(NamedTuple):
    """Actions [K, horizon, A] normalised, and how to sample; nothing is None any more."""

    actions: Tensor
    num_steps: int
    guidance_scale: float
    seed: int


def asked_for(
    session: History,
    candidates: ArrayLike,
    num_sampling_steps: int | None,
    guidance_scale: float | None,
    seed: int | None,
    bounds: bool,
) -> Asked:
    """Checks a call of ``imagine`` and fills in the configuration's values.

    Raises:
        V2WError: see :meth:`Session.imagine`.
    """
    model = session.model
    spec, sampling = model.config.action, model.config.sampling
    actions = spec.validate(candidates, field="candidates", bounds=bounds)
    if actions.ndim != 3 or actions.shape[0] == 0:
        raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
    if actions.shape[1] > session.max_horizon:
        rule = f"at most {session.max_horizon} steps after {session.num_history} history frames"
        raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
    return Asked(
        model.tensor(spec.normalise(actions)),
        sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
        sampling.guidance_scale if guidance_scale is None else guidance_scale,
        session.seed if seed is None else seed,
    )


class _Frames(NamedTuple):
    """What the U-Net is given of some frames: latents, noise levels, actions, which are known."""

    latents: Tensor
    level: Tensor
    action: Tensor
    mask: Tensor

    def then(self, later: _Frames) -> _Frames:
        return _Frames(*(torch.cat(pair, dim=1) for pair in zip(self, later, strict=True)))


class _Denoiser:
    """Velocity of the newest frame, guided by its action.

    The frame before it joins the past in the first pass, side by side with the newest: two
    frames in one pass cost less than one after the other.

    Attributes:
        past: all frames before the newest (after the first call).
        past_after: the same with the newest frame as its last pass left it (with ``keep``).
    """

    def __init__(
        self,
        session: Session,
        past: Any,
        before: _Frames | None,
        action: Tensor,
        mask: Tensor,
        *,
        scale: float,
        keep: bool,
    ) -> None:
        self.backend = session.backend
        self.past = self.past_after = past
        self.before = before
        self.action = action
        self.mask = mask
        self.scale = scale
        self.rescale = session.model.config.sampling.guidance_rescale
        self.keep = keep

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        newest = _Frames(x, level, self.action, self.mask)
        if self.before is None:
            v, self.past_after = self.backend.step(*newest, self.past, keep=self.keep)
        else:
            v, self.past = self.backend.step(*self.before.then(newest), self.past)
            self.before = None
        if self.scale == 1.0:
            return v
        plain, _ = self.backend.step(x, level, self.action, ~self.mask, self.past, keep=False)
        return guide(v, plain, self.scale, self.rescale)


def _no_action(model: WorldModel, num_frames: int) -> Tensor:
    return model.tensor(np.zeros((1, num_frames, model.config.action.dim), np.float32))
