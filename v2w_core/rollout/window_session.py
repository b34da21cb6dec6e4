"""Rollouts of models whose frames look ahead through their statistics: the released checkpoints.

Nothing of their past can be cached, so that every denoising step computes the whole window
(:mod:`v2w_core.diffusion.window_sampler`). The interface is that of
:class:`v2w_core.rollout.session.Session`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.diffusion.window_sampler import Noise, WindowSampler
from v2w_core.errors import Interrupted
from v2w_core.images import ImageArray
from v2w_core.models.conditioning import concat_first_frame
from v2w_core.models.motion_head import no_motion
from v2w_core.rollout.base_session import BaseSession, RolloutRequest
from v2w_core.rollout.candidate_rollout import CandidateRollout
from v2w_core.rollout.interfaces import Dynamics, Imagined


class WindowSession(BaseSession):
    """The history of one moment, ready to imagine futures; made by ``WorldModel.start``.

    Args:
        frames: uint8 [T, H, W, 3] of the model's size.
        actions: [T - 1, A], normalised.
        seed: of the noise of rollouts, unless a call names another.
    """

    def __init__(self, model: Dynamics, frames: ImageArray, actions: Tensor, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.frames = frames
        self.actions = actions
        self.latents = model.encode(frames)
        self.tokens = self._context_tokens()

    @property
    def num_history(self) -> int:
        """Frames in the history."""
        return len(self.frames)

    def append(self, frame: ImageArray, action: ArrayLike) -> None:
        """A new camera frame uint8 [H, W, 3] and the physical action [A] that led to it."""
        spec = self.model.config.action
        checked = spec.validate(np.asarray(action)[None], horizon=1, field="action", bounds=False)
        self.frames = np.concatenate([self.frames, self.model.preprocess(frame[None])])
        self.latents = torch.cat([self.latents, self.model.encode(frame[None])])
        self.actions = torch.cat([self.actions, self.model.tensor(spec.normalise(checked))])
        if self.num_history >= self.model.config.num_frames:
            newest = self.model.config.num_history
            self.frames, self.latents = self.frames[-newest:], self.latents[-newest:]
            self.actions = self.actions[len(self.actions) - newest + 1 :]
            self.tokens = self._context_tokens()

    def _begin(self, request: RolloutRequest, batch_size: int | None) -> CandidateRollout:
        return CandidateRollout(
            self.model,
            request.actions,
            request.commands,
            batch_size or 1,
            lambda actions: WindowRollout(self, actions, request),
            nullcontext,
        )

    @torch.inference_mode()
    def _context_tokens(self) -> Tensor | None:
        """Context tokens [1, L, D] of the first frame; None where the model is shown none."""
        if self.model.image_context is None:
            return None
        image = self.model.tensor(self.frames[0]).permute(2, 0, 1)[None] / 127.5 - 1.0
        tokens: Tensor = self.model.image_context(image)
        return tokens


class WindowRollout:
    """The state of a rollout of one batch, see :class:`AutoregressiveRollout`.

    Args:
        session: whose history the candidates share.
        actions: [K, horizon, A], normalised.
        request: how frames are sampled; its ``interrupt`` is asked before every pass.
    """

    def __init__(
        self,
        session: WindowSession,
        actions: Tensor,
        request: RolloutRequest,
    ) -> None:
        config, sampling = session.model.config, session.model.config.sampling
        self._num_history = session.num_history
        self._sampler = WindowSampler(
            session.model.schedule,
            num_steps=request.num_steps,
            eta=sampling.eta,
            guidance_scale=request.guidance_scale,
            guidance_rescale=sampling.guidance_rescale,
            history_level=sampling.history_level,
            compat=config.compat,
        )
        self._denoiser = _WindowDenoiser(session, actions, request.interrupt)
        history = session.latents.expand(len(actions), *session.latents.shape)
        num_frames = session.num_history + actions.shape[1]
        self._state = self._sampler.start(history, num_frames, _shared_noise(session, request.seed))

    def advance(self, num_frames: int) -> Imagined:
        """Imagines more frames; returns all frames so far."""
        for _ in range(num_frames):
            self._state = self._sampler.next_frame(self._denoiser, self._state)
        latents = self._state.frames[:, self._num_history :]
        return Imagined(latents, no_motion(latents))

    def select(self, indices: Tensor) -> None:
        """Only these candidates go on."""
        self._state = self._state.select(indices)
        self._denoiser.select(indices)


class _WindowDenoiser:
    """Velocity of a window of all candidates; guidance masks the newest action."""

    def __init__(
        self, session: WindowSession, candidates: Tensor, interrupt: Callable[[], bool] | None
    ) -> None:
        self._session = session
        self._interrupt = interrupt
        past = session.actions.expand(len(candidates), *session.actions.shape)
        first = torch.zeros_like(candidates[:, :1])
        self._actions = torch.cat([first, past, candidates], dim=1)
        mask = torch.ones(self._actions.shape[:2], dtype=torch.bool, device=candidates.device)
        mask[:, 0] = session.model.config.compat.zero_first_action
        self._action_mask = mask

    def __call__(self, x: Tensor, noise_level: Tensor, *, guided: bool) -> Tensor:
        if self._interrupt is not None and self._interrupt():
            raise Interrupted
        model, num_frames = self._session.model, x.shape[1]
        mask = self._action_mask[:, :num_frames]
        if not guided:
            mask = mask.clone()
            mask[:, -1] = False
        if model.config.first_frame_channels:
            x = concat_first_frame(x, self._session.latents[None, :1])
        tokens = self._session.tokens
        if tokens is not None:
            tokens = tokens.expand(len(x), -1, -1)
        context = model.frame_context(tokens, num_frames)
        v: Tensor = model.unet(
            x, noise_level, self._actions[:, :num_frames], mask, context=context
        )[0]
        return v

    def select(self, indices: Tensor) -> None:
        """Keeps the candidates ``indices`` only."""
        self._actions, self._action_mask = self._actions[indices], self._action_mask[indices]


def _shared_noise(session: WindowSession, seed: int) -> Noise:
    """Draws the noise of one candidate for all of them: they differ by their actions only."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: Sequence[int]) -> Tensor:
        one = torch.randn(tuple(shape)[1:], generator=generator)
        return one.to(session.latents).expand(*shape)

    return draw
