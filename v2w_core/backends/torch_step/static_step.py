"""One denoising step as a function of fixed shapes: of all sizes, only the batch differs.

Compilers and CUDA graphs want shapes that never change. So the keys and values of earlier frames
lie in slots, as many as the window has frames, and a row of bits says which of them are seen.
:mod:`static_backend` keeps the slots; here is the step itself, without side effects, so that it
can be exported.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from v2w_core.backends.base import DTYPES
from v2w_core.models.temporal import TemporalConv
from v2w_core.models.temporal_cache import Attended, Cache, CachePass, ConvState, KeyValue
from v2w_core.rollout.interfaces import Dynamics, with_unconditional

if TYPE_CHECKING:
    from v2w_core.models.unet import UNet


@dataclass(frozen=True)
class StepVariant:
    """Which variant of a step is computed; see :meth:`StepBackend.step`."""

    num_frames: int
    keep: bool
    guided: bool


#: Every variant that rollouts ask for.
STEP_VARIANTS = tuple(
    StepVariant(num_frames, keep, guided)
    for guided in (False, True)
    for num_frames, keep in ((1, False), (1, True), (2, True))
)


@dataclass(frozen=True)
class Slots:
    """The past of a batch, in tensors of fixed shapes.

    Attributes:
        prefix: keys and values of the history, [1, N, slots, d], in the layers' order.
        suffix: keys and values of the candidates' frames, [B, N, slots, d].
        sums: what the past adds in temporal convolutions, [B, 1, H, W, C], in the layers' order;
            see :data:`~v2w_core.models.temporal_cache.ConvState`.
    """

    prefix: list[Tensor]
    suffix: list[Tensor]
    sums: list[Tensor]


def empty_slots(cache: Cache, num_slots: int, batch_size: int, dtype: torch.dtype) -> Slots:
    """Slots of zeros for candidates of any past that has the shapes of this history."""

    def zeros(like: Tensor, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=like.device)

    pairs = [value for pair in cache.prefix for value in pair or ()]
    sizes = [(value, value.shape[1], num_slots, value.shape[3]) for value in pairs]
    return Slots(
        [zeros(value, 1, *size) for value, *size in sizes],
        [zeros(value, batch_size, *size) for value, *size in sizes],
        [zeros(f, batch_size, *f.shape[1:]) for sums in cache.conv for f in sums],
    )


def slots_like(slots: Slots, batch_size: int) -> Slots:
    """Slots of zeros for another batch with the same history."""
    suffix, sums = (
        [value.new_zeros(batch_size, *value.shape[1:]) for value in values]
        for values in (slots.suffix, slots.sums)
    )
    return replace(slots, suffix=suffix, sums=sums)


class StaticCachePass(CachePass):
    """A pass over slots; see :class:`~v2w_core.models.temporal_cache.CachePass`.

    Args:
        slots: keys and values of earlier frames.
        visible: bits [T, prefix slots + suffix slots + T].
    """

    def __init__(
        self, slots: Slots, conv: list[ConvState], visible: Tensor, variant: StepVariant
    ) -> None:
        past = Cache(tuple(conv), (), (), 0)
        super().__init__(past, variant.num_frames - variant.keep + variant.guided, variant.guided)
        self.slots = slots
        self.visible = visible
        self.new: list[Tensor] = []

    def attention(self, key: Tensor, value: Tensor) -> Attended:
        """All slots and the newest frames."""
        index, joined = len(self.new), []
        for prefix, suffix, newest in zip(
            self.slots.prefix[index : index + 2],
            self.slots.suffix[index : index + 2],
            (key, value),
            strict=True,
        ):
            history = prefix.expand(newest.shape[0], -1, -1, -1)  # len() would fix the batch
            joined.append(torch.cat([history, suffix, newest], dim=2))
            self.new.append(newest[:, :, :1])
        both: KeyValue = (joined[0], joined[1])
        return Attended(None, both, self.visible)

    def sums(self) -> list[Tensor]:
        """The conv states after this pass."""
        return [added for sums in self._conv for added in sums]


class StaticStep(nn.Module):
    """A step of one variant.

    Args:
        unet: in the precision in which the slots are kept.
    """

    causal: Tensor

    def __init__(self, unet: UNet, variant: StepVariant) -> None:
        super().__init__()
        self.unet = unet
        self.variant = variant
        num_frames = variant.num_frames + variant.guided
        causal = torch.ones(num_frames, num_frames, dtype=torch.bool).tril()
        if variant.guided:
            causal[-1, -2] = False  # the two branches do not see each other
        self.register_buffer("causal", causal.to(next(unet.parameters()).device))
        self.num_sums = [
            module.kernel - 1 for module in unet.modules() if isinstance(module, TemporalConv)
        ]

    def forward(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        seen: Tensor,
        prefix: list[Tensor],
        suffix: list[Tensor],
        sums: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Output [B, 1 or 2, C_out, H, W] float32 and, where the first frame joins the past, its
        keys and values [B, N, 1, d] and the new sums. What is given is not changed.

        Args:
            latents, level, actions, mask: as of :meth:`StepBackend.step`.
            seen: bits [prefix slots + suffix slots].
            prefix, suffix, sums: see :class:`Slots`.
        """
        frames, start, conv = [latents, level, actions, mask], 0, []
        if self.variant.guided:
            frames = with_unconditional(*frames)
        for length in self.num_sums:
            conv.append(tuple(sums[start : start + length]))
            start += length
        visible = torch.cat([seen.expand(len(self.causal), -1), self.causal], dim=1)
        cache_pass = StaticCachePass(Slots(prefix, suffix, sums), conv, visible, self.variant)
        dtype = suffix[0].dtype if suffix else sums[0].dtype
        latents, level, actions, mask = frames
        v = self.unet._run(
            latents.to(dtype), level, actions.to(dtype), mask, cache_pass, None, None
        )
        v = v[:, self.variant.num_frames - 1 :].float()
        return (v, cache_pass.new, cache_pass.sums()) if self.variant.keep else (v, [], [])


def in_precision(model: Dynamics, precision: str) -> UNet:
    """The model's network in a precision; the same object where it has that precision already."""
    dtype = DTYPES[precision]
    unet = model.unet
    if all(value.dtype == dtype for value in unet.parameters()):
        return unet
    return copy.deepcopy(unet).to(dtype)


def example_arguments(
    model: Dynamics, unet: UNet, variant: StepVariant, batch_size: int
) -> list[Any]:
    """Arguments of :meth:`StaticStep.forward`, all zero, for whoever compiles it."""
    device = model.device
    lead = (batch_size, variant.num_frames)
    latents = torch.zeros(*lead, *model.config.input_shape, device=device)
    level = torch.zeros(lead, dtype=torch.long, device=device)
    actions = torch.zeros(*lead, model.config.action.dim, device=device)
    mask = torch.zeros(lead, dtype=torch.bool, device=device)
    with torch.no_grad():
        _, cache = model.unet(latents[:1, :1], level[:1, :1], actions[:1, :1], mask[:1, :1])
    num_slots, dtype = model.config.num_frames, next(unet.parameters()).dtype
    slots = empty_slots(cache.as_prefix(), num_slots, batch_size, dtype)
    seen = torch.zeros(2 * num_slots, dtype=torch.bool, device=device)
    return [latents, level, actions, mask, seen, slots.prefix, slots.suffix, slots.sums]
