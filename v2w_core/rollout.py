"""Autoregressive rollout over a cached history: what a planner and a node call.

A :class:`Session` holds the encoded history of one moment. ``imagine`` rolls out K candidate
action sequences from it; the history's cache is stored once and shared by all of them. One frame
is denoised at a time; a finished frame joins the candidates' own part of the cache, held at the
small history noise level (Vid2World section 4.3, Algorithm 2) or as its last denoising pass left
it (``SamplingConfig.imagined_history``). When the trained window is full, the newest frames are
encoded anew, or the oldest frame leaves the cache (``SamplingConfig.past_window``).
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

from v2w_core.backends.base import exact_float32
from v2w_core.cache import Cache
from v2w_core.denoiser import Denoiser, Frames
from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import Interrupted, V2WError
from v2w_core.micro_batches import in_micro_batches, micro_batch

if TYPE_CHECKING:
    from v2w_core.backends.base import Stepper
    from v2w_core.world_model import WorldModel

UInt8Array = NDArray[np.uint8]
#: Longest horizon of a rollout, inside the trained window or past it.
MAX_HORIZON = 1000


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
        self._ring = model.config.sampling.past_window == "ring"
        self._held_noise = self._noise(model.config.num_frames, seed)
        self._latents = latents  # [T, C, h, w] of the newest frames
        unknown = model.tensor(np.zeros((1, model.config.action.dim)))
        self._actions = torch.cat([unknown, actions])  # [T, A] that led to them
        self._encode_history()

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return self._cache.num_frames

    @property
    def max_horizon(self) -> int:
        """Longest horizon inside the trained window."""
        return self.model.config.num_frames - self.num_history

    @torch.inference_mode()
    def _encode_history(self) -> None:
        frames = self._encoded_first(self._latents[None], self._actions[None])
        self._cache = self._joined(frames, None)
        self._num_seen = self.num_history

    @torch.inference_mode()
    def append(self, frame: UInt8Array, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it.

        Streaming: the frame joins the cache, the history is not encoded again. When the trained
        window is full, see :class:`SamplingConfig`'s ``past_window``.
        """
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        action_t = self.model.tensor(spec.normalise(checked))
        latent = self.model.encode(np.asarray(frame)[None])
        newest = self.model.config.num_history
        self._latents = torch.cat([self._latents, latent])[-newest:]
        self._actions = torch.cat([self._actions, action_t])[-newest:]
        if self.num_history == self.model.config.num_frames - 1:
            if not self._ring:
                self._encode_history()
                return
            self._cache = self._cache.forget(self.model.config.sampling.num_sinks)
        noise = self._held_noise[None, [self._num_seen % len(self._held_noise)]]
        known = torch.ones(1, 1, dtype=torch.bool, device=latent.device)
        frames = self._held(latent[None], noise, action_t[None], known)
        self._cache = self._joined(frames, self._cache)
        self._num_seen += 1

    @torch.inference_mode()
    def imagine(
        self,
        candidates: ArrayLike,
        *,
        num_sampling_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        bounds: bool = True,
        interrupt: Callable[[], bool] | None = None,
    ) -> Rollouts:
        """Roll out every candidate from the shared history.

        Args:
            candidates: [K, horizon, A] physical units, within the ActionSpec's bounds. The horizon
                may leave the trained window.
            num_sampling_steps, guidance_scale: the configuration's when None.
            seed: of the noise; the session's when None. All candidates share the same noise, so
                that they differ by their actions only and the batch size changes nothing.
            batch_size: candidates computed at once, or as many of them as the back end takes; as
                many as the model's memory budget allows when None.
            bounds: False accepts actions outside the bounds (recorded ones may be).
            interrupt: asked before every frame; True gives the rollout up.

        Raises:
            V2WError: actions of a wrong shape, NaN or out of bounds; a horizon past MAX_HORIZON;
                a memory budget that is too small for one candidate.
            Interrupted: ``interrupt`` said so.
        """
        began = time.perf_counter()
        asked = asked_for(
            self, candidates, num_sampling_steps, guidance_scale, seed, bounds, MAX_HORIZON
        )
        num_candidates, horizon = asked.actions.shape[:2]
        if batch_size is not None and batch_size < 1:
            raise V2WError("batch_size", "at least 1", batch_size)
        most_at_once = self.backend.most_at_once
        if batch_size is None:
            num_own = horizon if horizon <= self.max_horizon else self.model.config.num_frames
            guided = asked.guidance_scale != 1.0
            batch_size = micro_batch(
                self.model, num_candidates, num_own, guided=guided, most_at_once=most_at_once
            )
        elif most_at_once is not None:
            batch_size = min(batch_size, most_at_once)
        with self.backend.rolling_out():
            latents = in_micro_batches(
                asked.actions, batch_size, lambda part: self._imagine(part, asked, interrupt)
            )
        return Rollouts(latents, time.perf_counter() - began, self.model)

    def _imagine(
        self, actions: Tensor, asked: Asked, interrupt: Callable[[], bool] | None
    ) -> Tensor:
        """Some of the asked-for actions [K, horizon, A] -> latents [K, horizon, C, h, w]."""
        num_candidates, horizon = actions.shape[:2]
        noise = self._noise(2 * horizon, asked.seed + 1_000_003)
        initial, held = noise[0::2], noise[1::2]  # so that a longer horizon begins the same
        generator = torch.Generator().manual_seed(asked.seed)
        mask = torch.ones(num_candidates, 1, dtype=torch.bool, device=actions.device)
        config, sampling = self.model.config, self.model.config.sampling
        denoise_onto = sampling.imagined_history == "denoised"
        num_joining = horizon if denoise_onto else horizon - 1
        past = self.backend.begin(self._cache, num_candidates, num_joining)
        num_past = self.num_history
        newest: Frames | None = None  # the imagined frame that the past does not hold yet
        imagined: list[Tensor] = []
        for step in range(horizon):
            if interrupt is not None and interrupt():
                raise Interrupted
            if num_past + (newest is not None) >= config.num_frames:
                if self._ring:
                    past, num_past = self.backend.forget(past, sampling.num_sinks), num_past - 1
                else:
                    past = self._encoded_anew(imagined, actions[:, :step], num_joining - step)
                    newest, num_past = None, config.num_history
            action = actions[:, step : step + 1]
            denoiser = Denoiser(
                self.backend, past, newest, action, mask,
                scale=asked.guidance_scale, rescale=sampling.guidance_rescale, keep=denoise_onto,
            )  # fmt: skip
            x = initial[step].expand(num_candidates, 1, *initial.shape[1:])
            x = ddim_sample(
                denoiser, self.model.schedule, x, asked.num_steps, eta=sampling.eta,
                generator=generator,
            )  # fmt: skip
            imagined.append(x)
            num_past += newest is not None or denoise_onto
            if denoise_onto:
                past = denoiser.past_after
            else:
                past = denoiser.past
                newest = self._held(x, held[step].expand_as(x), action, mask)
        return torch.cat(imagined, dim=1)

    def _encoded_anew(self, imagined: list[Tensor], actions: Tensor, num_joining: int) -> Any:
        """The back end's past of the newest frames of the history and of what came after it.

        Args:
            imagined: latents [K, 1, C, h, w] of each frame after the history.
            actions: [K, len(imagined), A] that led to them.
            num_joining: frames that are going to join it later.
        """
        num_candidates, newest = len(actions), self.model.config.num_history
        latents = [self._latents.expand(num_candidates, *self._latents.shape), *imagined]
        told = [self._actions.expand(num_candidates, *self._actions.shape), actions]
        frames = self._encoded_first(
            torch.cat(latents, dim=1)[:, -newest:], torch.cat(told, dim=1)[:, -newest:]
        )
        past = self.backend.begin(self._cache.emptied(), num_candidates, newest + num_joining)
        for index in range(newest):  # one by one: a back end knows steps only
            _, past = self.backend.step(*frames.frame(index), past)
        return past

    def _encoded_first(self, latents: Tensor, actions: Tensor) -> Frames:
        """Frames [B, T, ...] as a history begins: the first of them has no known action."""
        noise = self._held_noise[: latents.shape[1]].expand_as(latents)
        known = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        known[:, 0] = False
        return self._held(latents, noise, actions, known)

    def _joined(self, frames: Frames, cache: Cache | None) -> Cache:
        """The cache with these frames (batch 1), which all candidates share."""
        with exact_float32():
            _, after = self.model.unet(*frames, cache=cache)
        joined: Cache = after
        return joined.share()

    def _held(self, latents: Tensor, noise: Tensor, actions: Tensor, mask: Tensor) -> Frames:
        """Frames at the history noise level."""
        level = torch.full(
            latents.shape[:2],
            self.model.config.sampling.history_level,
            dtype=torch.long,
            device=latents.device,
        )
        return Frames(self.model.schedule.add_noise(latents, noise, level), level, actions, mask)

    def _noise(self, num_frames: int, seed: int) -> Tensor:
        """Noise [num_frames, C, h, w]; frame i's is the same for any num_frames >= i."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.model.config.latent_shape
        frames = [torch.randn(shape, generator=generator) for _ in range(num_frames)]
        latents = self.model.autoencoder.latent_mean
        return torch.stack(frames).to(latents.device, latents.dtype)


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
    longest: int,
) -> Asked:
    """Checks a call of ``imagine`` and fills in the configuration's values.

    Args:
        longest: horizon.

    Raises:
        V2WError: see :meth:`Session.imagine`.
    """
    model = session.model
    spec, sampling = model.config.action, model.config.sampling
    actions = spec.validate(candidates, field="candidates", bounds=bounds)
    if actions.ndim != 3 or actions.shape[0] == 0:
        raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
    if actions.shape[1] > longest:
        rule = f"at most {longest} steps after {session.num_history} history frames"
        raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
    return Asked(
        model.tensor(spec.normalise(actions)),
        sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
        sampling.guidance_scale if guidance_scale is None else guidance_scale,
        session.seed if seed is None else seed,
    )
