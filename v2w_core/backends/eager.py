"""The U-Net in plain PyTorch: runs everywhere, and is the reference of every other back end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2w_core.backends.base import BackendOptions, unknown_precision
from v2w_core.device import device_errors, exact_float32
from v2w_core.models.temporal_cache import Cache
from v2w_core.rollout.interfaces import Dynamics, with_unconditional

if TYPE_CHECKING:
    from v2w_core.models.unet import UNet


class Eager:
    """Calls the U-Net. The past is its :class:`~v2w_core.models.temporal_cache.Cache`."""

    name = "eager"
    max_batch_size: int | None = None

    def __init__(self, unet: UNet) -> None:
        self._unet = unet

    @classmethod
    def probe(cls, model: Dynamics, options: BackendOptions) -> str | None:
        return unknown_precision(options, ("fp32",))

    @classmethod
    def build(cls, model: Dynamics, options: BackendOptions) -> Eager:
        return cls(model.unet)

    def warm_up(self, batch_size: int) -> None:
        """Nothing is compiled or allocated ahead."""

    def rollout_context(self) -> AbstractContextManager[None]:
        return device_errors(self.name)

    def start(self, history: Cache, batch_size: int, num_suffix: int) -> Cache:
        return history

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Cache,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Cache]:
        before = latents.shape[1] - 1
        given = [latents, level, actions, mask]
        if guided:
            given = with_unconditional(*given)
        with exact_float32():
            v, after = self._unet(
                *given,
                cache=past,
                num_uncached=before if keep else before + 1,
                unconditional=guided,
            )
        return v[:, before:], after if keep else past

    def evict(self, past: Cache, index: int) -> Cache:
        return past.evict(index)

    def select(self, past: Cache, indices: Tensor) -> Cache:
        return past.select(indices)

    def info(self) -> dict[str, Any]:
        device = str(next(self._unet.parameters()).device)
        return {"backend": self.name, "device": device, "torch": torch.__version__}
