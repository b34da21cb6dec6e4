"""A batch of candidates on their way: frame by frame, on any back end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2w_core.diffusion.sampler import ddim_sample
from v2w_core.errors import Interrupted
from v2w_core.rollout.frame_denoiser import Denoiser
from v2w_core.rollout.interfaces import Frames
from v2w_core.rollout.request import Asked

if TYPE_CHECKING:
    from v2w_core.rollout.session import Session


class Imagining:
    """What some candidates of a session lead to, as far as it was asked for.

    Args:
        session: whose history they share.
        actions: [K, horizon, A] normalised.
        asked: how to sample.
        interrupt: asked before every frame; True gives up.
    """

    def __init__(
        self,
        session: Session,
        actions: Tensor,
        asked: Asked,
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        self.session = session
        self.actions = actions
        self.asked = asked
        self.interrupt = interrupt
        horizon = actions.shape[1]
        noise = session._noise(2 * horizon, asked.seed + 1_000_003)
        self._initial, self._held = noise[0::2], noise[1::2]  # a longer horizon begins the same
        self._generator = torch.Generator().manual_seed(asked.seed)
        self._mask = torch.ones(len(actions), 1, dtype=torch.bool, device=actions.device)
        self._denoise_onto = session.model.config.sampling.imagined_history == "denoised"
        self._num_joining = horizon if self._denoise_onto else horizon - 1
        self._past = session.backend.begin(session._cache, len(actions), self._num_joining)
        self._num_past = session.num_history
        self._newest: Frames | None = None  # the imagined frame that the past does not hold yet
        self._imagined: list[Tensor] = []

    def until(self, num_frames: int) -> Tensor:
        """Latents [K, num_frames, C, h, w]. Raises Interrupted where ``interrupt`` says so."""
        while len(self._imagined) < num_frames:
            if self.interrupt is not None and self.interrupt():
                raise Interrupted
            self._next()
        return torch.cat(self._imagined[:num_frames], dim=1)

    def only(self, indices: Tensor) -> None:
        """These candidates go on, the others end here."""
        self.actions, self._mask = self.actions[indices], self._mask[indices]
        self._past = self.session.backend.select(self._past, indices)
        self._imagined = [frame[indices] for frame in self._imagined]
        if self._newest is not None:
            self._newest = Frames(*(item[indices] for item in self._newest))

    def _next(self) -> None:
        """One frame more."""
        session, step = self.session, len(self._imagined)
        config, sampling = session.model.config, session.model.config.sampling
        if self._num_past + (self._newest is not None) >= config.num_frames:
            self._make_room()
        action = self.actions[:, step : step + 1]
        denoiser = Denoiser(
            session.backend, self._past, self._newest, action, self._mask,
            scale=self.asked.guidance_scale, rescale=sampling.guidance_rescale,
            keep=self._denoise_onto,
        )  # fmt: skip
        x = self._initial[step].expand(len(action), 1, *self._initial.shape[1:])
        x = ddim_sample(
            denoiser, session.model.schedule, x, self.asked.num_steps, eta=sampling.eta,
            generator=self._generator,
        )  # fmt: skip
        self._imagined.append(x)
        self._num_past += self._newest is not None or self._denoise_onto
        if self._denoise_onto:
            self._past = denoiser.past_after
        else:
            self._past = denoiser.past
            self._newest = session._held(x, self._held[step].expand_as(x), action, self._mask)

    def _make_room(self) -> None:
        """The trained window is full: its oldest frame is forgotten, or a new one begins."""
        session, sampling = self.session, self.session.model.config.sampling
        if sampling.past_window == "ring":
            self._past = session.backend.forget(self._past, sampling.num_sinks)
            self._num_past -= 1
        else:
            self._past, self._newest = self._encoded_anew(), None
            self._num_past = session.model.config.num_history

    def _encoded_anew(self) -> Any:
        """The back end's past of the newest frames of the history and of what came after it."""
        session, step = self.session, len(self._imagined)
        num_candidates, newest = len(self.actions), session.model.config.num_history
        latents = [_for_each(session._latents, num_candidates), *self._imagined]
        told = [_for_each(session._actions, num_candidates), self.actions[:, :step]]
        frames = session._encoded_first(
            torch.cat(latents, dim=1)[:, -newest:], torch.cat(told, dim=1)[:, -newest:]
        )
        num_own = newest + self._num_joining - step
        past = session.backend.begin(session._cache.emptied(), num_candidates, num_own)
        for index in range(newest):  # one by one: a back end knows steps only
            _, past = session.backend.step(*frames.frame(index), past)
        return past


def _for_each(value: Tensor, num_candidates: int) -> Tensor:
    """[...] -> [K, ...]."""
    return value.expand(num_candidates, *value.shape)
