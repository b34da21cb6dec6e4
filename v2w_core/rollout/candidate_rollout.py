"""The rollout of many candidates, in micro-batches that fit into memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.device import out_of_memory
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import BatchRollout, Dynamics, Imagined
from v2w_core.rollout.result import Rollouts
from v2w_core.spec import FloatArray

log = logging.getLogger(__name__)


class CandidateRollout:
    """A rollout of K candidates, in progress: what a planner advances and narrows down.

    All candidates in one batch go on where they are. Several micro-batches are computed one after
    the other and only their latents are kept, since the caches of all of them would not fit: a
    later :meth:`advance` imagines the candidates that are left from the beginning, with the same
    noise and therefore the same result.

    A back end with static caches holds one rollout at a time: a newer one ends those before.

    Args:
        actions: [K, horizon, A], normalised.
        commands: the same in physical units.
        batch_size: candidates of a micro-batch.
        start: begins the rollout of one micro-batch of the actions.
        context: is entered around the steps of the back end.

    ``num_frames`` counts the frames imagined of every candidate so far.
    """

    def __init__(
        self,
        model: Dynamics,
        actions: Tensor,
        commands: FloatArray,
        batch_size: int,
        start: Callable[[Tensor], BatchRollout],
        context: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.num_frames = 0
        self._model = model
        self._actions = actions
        self._commands = commands
        self._batch_size = batch_size
        self._start = start
        self._context = context
        self._in_flight: BatchRollout | None = None  # of all candidates, when they are one batch
        self._imagined: Imagined | None = None
        self._frames_imagined = 0
        self._elapsed_s = 0.0

    @torch.inference_mode()
    def advance(self, num_frames: int) -> Rollouts:
        """Imagines ``num_frames`` more frames of every candidate; returns all frames so far.

        Raises:
            V2WError: no frames, or more than the candidates have actions for; memory that is too
                small for one candidate.
            Interrupted: the interrupt of the request said so; the rollout cannot go on.
        """
        left = self._actions.shape[1] - self.num_frames
        if not 1 <= num_frames <= left:
            raise V2WError("num_frames", f"from 1 to the {left} steps that are left", num_frames)
        began = time.perf_counter()
        with self._context():
            if self._in_flight is not None:
                self._imagined = self._in_flight.advance(num_frames)
                self._frames_imagined += len(self._actions) * num_frames
            else:
                self._imagined = self._in_batches(self.num_frames + num_frames)
        self.num_frames += num_frames
        self._elapsed_s += time.perf_counter() - began
        commands = self._commands[:, : self.num_frames]
        return Rollouts(
            self._imagined.latents, self._elapsed_s, self._frames_imagined, self._model, commands,
            self._imagined.motion,
        )  # fmt: skip

    @torch.inference_mode()
    def select(self, indices: ArrayLike) -> None:
        """Only these candidates go on, in ascending order.

        Raises:
            V2WError: no index, or one that is out of range.
        """
        chosen = np.unique(np.asarray(indices, dtype=np.int64))
        number = len(self._actions)
        if len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= number:
            raise V2WError("indices", f"some of 0 to {number - 1}", chosen.tolist())
        rows = torch.from_numpy(chosen).to(self._actions.device)
        self._actions, self._commands = self._actions[rows], self._commands[chosen]
        if self._imagined is not None:
            self._imagined = self._imagined.select(rows)
        if self._in_flight is not None:
            with self._context():
                self._in_flight.select(rows)

    def _in_batches(self, num_frames: int) -> Imagined:
        """The first ``num_frames`` frames of all candidates, from the beginning.

        Where memory runs out all the same (others use it too), half as many are tried.
        """
        parts: list[Imagined] = []
        done = 0
        while done < len(self._actions):
            actions = self._actions[done : done + self._batch_size]
            begun = self._begin(actions, num_frames)
            if begun is None:
                self._batch_size //= 2
                torch.cuda.empty_cache()
                log.warning("out of memory: going on with %d candidates at once", self._batch_size)
                continue
            parts.append(begun[1])
            done += len(actions)
            self._frames_imagined += len(actions) * num_frames
            self._in_flight = begun[0] if len(actions) == len(self._actions) else None
            del begun  # before the next one begins: one cache at a time
        return Imagined(*(torch.cat(items) for items in zip(*parts, strict=True)))

    def _begin(self, actions: Tensor, num_frames: int) -> tuple[BatchRollout, Imagined] | None:
        """The rollout of one micro-batch and its frames; None where fewer candidates may fit."""
        try:
            batch = self._start(actions)
            return batch, batch.advance(num_frames)
        except Exception as error:  # each back end has one of its own
            if not out_of_memory(error):
                raise
            if self._batch_size == 1:
                rule = "memory for one candidate"
                found = str(error).partition("\n")[0] or type(error).__name__
                raise V2WError("memory budget", rule, found, code="MODEL_ERROR") from error
        return None
