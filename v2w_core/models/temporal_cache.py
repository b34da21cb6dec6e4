"""The cache of the causal U-Net: the state of its temporal layers after the frames so far.

Only two kinds of layers look back: temporal attention (keys and values of every earlier frame) and
temporal convolution (the contribution of the last ``kernel - 1`` frames to the next ones). A
:class:`Cache` holds the state of every such layer, in the order of the forward pass. Keys and
values have two parts: the prefix, the history that all candidates share (batch 1, stored once and
never copied for attention), and the suffix, the frames that each candidate has imagined since
(batch K).

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
#: State of one temporal convolution: what the cached frames add to each of its next kernel - 1
#: outputs (the next output first, without the bias), each [B or 1, 1, H, W, C].
ConvState = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cache:
    """State of all temporal layers after ``num_frames`` frames.

    Attributes:
        conv: conv state of each temporal convolution; with it a denoising step of the next frame
            applies one tap of the kernel instead of all.
        suffix: keys and values of the candidates' frames for each temporal attention, or None.
        prefix: keys and values of the shared history (batch 1) for each temporal attention, or
            None.
        num_frames: number of cached frames, prefix and suffix together.
    """

    conv: tuple[ConvState, ...]
    suffix: tuple[KeyValue | None, ...]
    prefix: tuple[KeyValue | None, ...]
    num_frames: int

    def as_prefix(self) -> Cache:
        """The same cache with all of its frames in the prefix.

        Raises:
            ValueError: the batch size is not 1.
        """
        if any(term.shape[0] != 1 for state in self.conv for term in state):
            raise ValueError("only a cache of batch 1 can become a prefix")
        merged = tuple(_join(a, b) for a, b in zip(self.prefix, self.suffix, strict=True))
        return Cache(self.conv, tuple(None for _ in self.suffix), merged, self.num_frames)

    def evict(self, index: int) -> Cache:
        """The cache without the keys and values of frame ``index`` (0 is the oldest).

        Conv states are unchanged: they depend on the newest frames only.
        """
        num_prefix = 0 if self.prefix[0] is None else self.prefix[0][0].shape[2]
        suffix, prefix = self.suffix, self.prefix
        if index < num_prefix:
            prefix = tuple(kv and _evict_frame(kv, index) for kv in prefix)
        else:
            suffix = tuple(kv and _evict_frame(kv, index - num_prefix) for kv in suffix)
        return Cache(self.conv, suffix, prefix, self.num_frames - 1)

    def select(self, indices: Tensor) -> Cache:
        """The cache of the candidates ``indices``; the shared parts are not copied."""
        conv = tuple(
            tuple(term if len(term) == 1 else term[indices] for term in state)
            for state in self.conv
        )
        suffix = tuple(kv and (kv[0][indices], kv[1][indices]) for kv in self.suffix)
        return Cache(conv, suffix, self.prefix, self.num_frames)

    def emptied(self) -> Cache:
        """An empty cache for frames of the same size: zero conv states, no keys and values."""
        conv = tuple(tuple(torch.zeros_like(term[:1]) for term in state) for state in self.conv)
        prefix = tuple(kv and (kv[0][:1, :, :0], kv[1][:1, :, :0]) for kv in self.prefix)
        return Cache(conv, tuple(None for _ in self.suffix), prefix, 0)

    def nbytes(self) -> int:
        """Memory of the cache in bytes, prefix and suffix together."""
        tensors = [term for state in self.conv for term in state]
        for pair in (*self.suffix, *self.prefix):
            tensors.extend(pair or ())
        return sum(t.numel() * t.element_size() for t in tensors)


def _join(a: KeyValue | None, b: KeyValue | None) -> KeyValue | None:
    if a is None or b is None:
        return a or b
    return torch.cat([a[0], b[0]], dim=2), torch.cat([a[1], b[1]], dim=2)


def _evict_frame(kv: KeyValue, index: int) -> KeyValue:
    key, value = (torch.cat([t[:, :, :index], t[:, :, index + 1 :]], dim=2) for t in kv)
    return key, value


class Attended(NamedTuple):
    """Keys and values that the queries of the newest frames attend to.

    Attributes:
        prefix: keys and values of the shared history (batch 1), visible to every query, or None.
        suffix: keys and values [B, N, Tk, d] of the frames after the prefix.
        mask: [Tq, Tk], True where a query attends to a suffix frame; None: everywhere.
    """

    prefix: KeyValue | None
    suffix: KeyValue
    mask: Tensor | None


@dataclass
class CachePass:
    """One forward pass: temporal layers read their state of the cache and append the new frames'.

    Attributes:
        cache: the cache before the pass; None starts a clip (zeros before the first frame, no
            earlier keys).
        num_uncached: number of newest frames that are not added to the returned cache, the
            unconditional branch included.
        unconditional: whether the last frame is the unconditional branch of the frame before it:
            both have the same position and the same past, and neither attends to the other.
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
        num_times, num_cached = x.shape[1] - self.unconditional, x.shape[1] - self.num_uncached
        if self.cache is None:
            zero = x.new_zeros(1, 1, *x.shape[2:4], len(weight))
            state: ConvState = (zero,) * (len(taps) - 1)
            for time in range(max(0, num_cached - len(state)), num_cached):
                state = _next_conv_state(state, x[:, time : time + 1], taps)
            self._conv.append(state)
            return weighted_sum(delayed(x, len(taps) - 1), weight, bias)
        y = F.linear(x, taps[-1], bias)
        state = tuple(term.to(x.dtype) for term in self.cache.conv[len(self._conv)])
        if not state:
            self._conv.append(state)
            return y
        cached, past = state, []
        for time in range(num_times):
            past.append(state[0].expand(x.shape[0], *state[0].shape[1:]))
            if time < max(num_cached, num_times - 1):
                state = _next_conv_state(state, x[:, time : time + 1], taps)
            if time < num_cached:
                cached = state
        self._conv.append(cached)
        if num_times == 1:  # broadcasts over the unconditional branch
            return y + past[0]
        return y + torch.cat(past + past[-1:] * self.unconditional, dim=1)

    def attention(self, key: Tensor, value: Tensor) -> Attended:
        """Keys and values that the newest frames attend to: the cached ones and their own."""
        index = len(self._suffix)
        suffix: KeyValue = (key, value)
        prefix = None
        if self.cache is not None:
            prefix = self.cache.prefix[index]
            joined = _join(self.cache.suffix[index], suffix)
            assert joined is not None
            suffix = joined
        stop = suffix[0].shape[2] - self.num_uncached
        self._suffix.append(
            (suffix[0][:, :, :stop], suffix[1][:, :, :stop]) if self.num_uncached else suffix
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
        """A new pass with the same settings, to compute the same frames again. Needs no cache."""
        assert self.cache is None
        return type(self)(None, self.num_uncached, self.unconditional)

    def finish(self, num_new_frames: int) -> Cache:
        """The cache after this pass over ``num_new_frames`` frames."""
        num_new_frames -= self.num_uncached
        before = self.cache.num_frames if self.cache else 0
        prefix = self.cache.prefix if self.cache else tuple(None for _ in self._suffix)
        return Cache(tuple(self._conv), tuple(self._suffix), prefix, before + num_new_frames)


def _next_conv_state(state: ConvState, frame: Tensor, taps: Sequence[Tensor]) -> ConvState:
    """The conv state after ``frame`` [B, 1, H, W, C]."""
    terms = [F.linear(frame, tap) for tap in reversed(taps[:-1])]
    return (*(old + new for old, new in zip(state[1:], terms, strict=False)), *terms[-1:])


def delayed(x: Tensor, num_past: int) -> list[Tensor]:
    """x [B, T, H, W, C] delayed by ``num_past``, ..., 1 and 0 frames, padded with zeros."""
    before = x.new_zeros(x.shape[0], num_past, *x.shape[2:])
    extended = torch.cat([before, x], dim=1)
    return [extended[:, i : i + x.shape[1]] for i in range(num_past + 1)]


def weighted_sum(inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """bias + sum_i weight[:, i] inputs[i], weight [C_out, len(inputs), C]."""
    return F.linear(torch.cat(inputs, dim=-1), weight.flatten(1), bias)
