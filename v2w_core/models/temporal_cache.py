"""The causal cache as explicit state: what a frame needs to know of the frames before it.

A causal network looks back in two places only: temporal attention (keys and values of every
earlier frame) and temporal convolution (what the last ``kernel - 1`` frames add to the next ones).
A :class:`Cache` holds both for every temporal layer, in the order in which the network visits them.
It has two parts: the prefix, the history that all candidates have in common (batch 1, stored once
and never copied for attention), and the suffix, what each candidate has imagined since (batch K).

A cache is immutable: a forward pass reads one and returns another (:class:`CachePass`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]  # each [B, P * heads, T, head_dim]
#: What the past adds to each of the next kernel - 1 frames in a temporal convolution, the bias not
#: included, each [B or 1, 1, H, W, C].
ConvState = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cache:
    """Past of every temporal layer.

    Attributes:
        conv: per temporal convolution, what the past adds to the next frames, the first of them
            first. So a frame costs one tap in each of its denoising steps, not all of them.
        own: per temporal attention, keys and values of the candidates' own frames, or None.
        shared: per temporal attention, keys and values of the shared history (batch 1), or None.
        num_frames: frames that the cache stands for, shared and own together.
    """

    conv: tuple[ConvState, ...]
    suffix: tuple[KeyValue | None, ...]
    prefix: tuple[KeyValue | None, ...]
    num_frames: int

    def as_prefix(self) -> Cache:
        """The same cache with all frames so far in the shared part. Needs batch 1."""
        if any(added.shape[0] != 1 for sums in self.conv for added in sums):
            raise ValueError("only a cache of batch 1 can be shared")
        merged = tuple(_join(a, b) for a, b in zip(self.prefix, self.suffix, strict=True))
        return Cache(self.conv, tuple(None for _ in self.suffix), merged, self.num_frames)

    def evict(self, index: int) -> Cache:
        """Without the keys and values of frame ``index``, 0 is the oldest.

        Convolutions have seen the newest frames only, which stay as they are.
        """
        num_prefix = 0 if self.prefix[0] is None else self.prefix[0][0].shape[2]
        suffix, prefix = self.suffix, self.prefix
        if index < num_prefix:
            prefix = tuple(kv and _without(kv, index) for kv in prefix)
        else:
            suffix = tuple(kv and _without(kv, index - num_prefix) for kv in suffix)
        return Cache(self.conv, suffix, prefix, self.num_frames - 1)

    def select(self, indices: Tensor) -> Cache:
        """Of these candidates only; what all have in common stays as it is."""
        conv = tuple(
            tuple(added if len(added) == 1 else added[indices] for added in sums)
            for sums in self.conv
        )
        suffix = tuple(kv and (kv[0][indices], kv[1][indices]) for kv in self.suffix)
        return Cache(conv, suffix, self.prefix, self.num_frames)

    def emptied(self) -> Cache:
        """A past of no frames in the same shapes: nothing is added, nothing is seen."""
        conv = tuple(tuple(torch.zeros_like(added[:1]) for added in sums) for sums in self.conv)
        prefix = tuple(kv and (kv[0][:1, :, :0], kv[1][:1, :, :0]) for kv in self.prefix)
        return Cache(conv, tuple(None for _ in self.suffix), prefix, 0)

    def nbytes(self) -> int:
        """Bytes held, shared and own."""
        tensors = [added for sums in self.conv for added in sums]
        for pair in (*self.suffix, *self.prefix):
            tensors.extend(pair or ())
        return sum(t.numel() * t.element_size() for t in tensors)


def _join(a: KeyValue | None, b: KeyValue | None) -> KeyValue | None:
    if a is None or b is None:
        return a or b
    return torch.cat([a[0], b[0]], dim=2), torch.cat([a[1], b[1]], dim=2)


def _without(kv: KeyValue, index: int) -> KeyValue:
    key, value = (torch.cat([t[:, :, :index], t[:, :, index + 1 :]], dim=2) for t in kv)
    return key, value


class Attended(NamedTuple):
    """Keys and values that queries of the newest frames see.

    Attributes:
        shared: of the history common to the batch (batch 1), all of it visible; or None.
        own: [B, N, To, d].
        mask: [Tq, To], True where query q sees own frame o; None: all.
    """

    prefix: KeyValue | None
    suffix: KeyValue
    mask: Tensor | None


@dataclass
class CachePass:
    """One forward pass over a cache: layers read their past and leave their present.

    ``cache=None`` starts from nothing (zeros before the first frame, no earlier keys). The newest
    ``num_uncached`` frames see the others but do not join the cache. With ``unconditional``, the
    last frame is the one before it in the unconditional branch of guidance: it stands at the same
    time, sees the same past and itself, and the two do not see each other. It does not join.
    """

    cache: Cache | None = None
    num_uncached: int = 0
    unconditional: bool = False
    _conv: list[ConvState] = field(default_factory=list)
    _suffix: list[KeyValue | None] = field(default_factory=list)

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Causal convolution over time: y_t = bias + sum_i weight[:, i] x_{t - kernel + 1 + i}.

        Args:
            x: [B, T, H, W, C].
            weight: [C_out, kernel, C].
        """
        taps = weight.unbind(1)
        num_times, num_kept = x.shape[1] - self.unconditional, x.shape[1] - self.num_uncached
        if self.cache is None:
            nothing = x.new_zeros(1, 1, *x.shape[2:4], len(weight))
            sums: ConvState = (nothing,) * (len(taps) - 1)
            for time in range(max(0, num_kept - len(sums)), num_kept):
                sums = _conv_state_after(sums, x[:, time : time + 1], taps)
            self._conv.append(sums)
            return weighted(delayed(x, len(taps) - 1), weight, bias)
        y = F.linear(x, taps[-1], bias)
        sums = tuple(added.to(x.dtype) for added in self.cache.conv[len(self._conv)])
        if not sums:
            self._conv.append(sums)
            return y
        kept, added = sums, []
        for time in range(num_times):
            added.append(sums[0].expand(x.shape[0], *sums[0].shape[1:]))
            if time < max(num_kept, num_times - 1):
                sums = _conv_state_after(sums, x[:, time : time + 1], taps)
            if time < num_kept:
                kept = sums
        self._conv.append(kept)
        if num_times == 1:  # a sibling stands at the same time
            return y + added[0]
        return y + torch.cat(added + added[-1:] * self.unconditional, dim=1)

    def attention(self, key: Tensor, value: Tensor) -> Attended:
        """What the newest frames, whose keys and values these are, attend to."""
        index = len(self._suffix)
        suffix: KeyValue = (key, value)
        prefix = None
        if self.cache is not None:
            prefix = self.cache.prefix[index]
            joined = _join(self.cache.suffix[index], suffix)
            assert joined is not None
            suffix = joined
        kept = suffix[0].shape[2] - self.num_uncached
        self._suffix.append(
            (suffix[0][:, :, :kept], suffix[1][:, :, :kept]) if self.num_uncached else suffix
        )
        num_new, num_suffix = key.shape[2], suffix[0].shape[2]
        mask = None
        if num_new > 1:
            ones = torch.ones(num_new, num_suffix, dtype=torch.bool, device=key.device)
            mask = ones.tril(num_suffix - num_new)
            if self.unconditional:
                mask[-1, -2] = False
        return Attended(prefix, suffix, mask)

    def restarted(self) -> CachePass:
        """Another walk from nothing, as this one was when it began."""
        assert self.cache is None
        return type(self)(None, self.num_uncached, self.unconditional)

    def finish(self, num_new_frames: int) -> Cache:
        """The cache after this pass over ``num_new_frames``."""
        num_new_frames -= self.num_uncached
        before = self.cache.num_frames if self.cache else 0
        prefix = self.cache.prefix if self.cache else tuple(None for _ in self._suffix)
        return Cache(tuple(self._conv), tuple(self._suffix), prefix, before + num_new_frames)


def _conv_state_after(sums: ConvState, frame: Tensor, taps: Sequence[Tensor]) -> ConvState:
    """What the past adds once ``frame`` [B, 1, H, W, C] has joined it."""
    terms = [F.linear(frame, tap) for tap in reversed(taps[:-1])]
    return (*(old + new for old, new in zip(sums[1:], terms, strict=False)), *terms[-1:])


def delayed(x: Tensor, num_past: int) -> list[Tensor]:
    """x [B, T, H, W, C] by ``num_past`` frames later, ..., by one, and x; zeros before frame 0."""
    before = x.new_zeros(x.shape[0], num_past, *x.shape[2:])
    extended = torch.cat([before, x], dim=1)
    return [extended[:, i : i + x.shape[1]] for i in range(num_past + 1)]


def weighted(inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """bias + sum_i weight[:, i] inputs[i], weight [C_out, len(inputs), C]."""
    return F.linear(torch.cat(inputs, dim=-1), weight.flatten(1), bias)
