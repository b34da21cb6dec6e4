"""The cache as inputs and outputs of a step's graph (:mod:`step_graph`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from v2w_core.models.temporal import TemporalConv
from v2w_core.models.temporal_cache import Cache

NOT_SEEN = -1e4  # added to a score: nothing is left after the softmax, in any precision


@dataclass(frozen=True)
class GraphCache:
    """The cache of earlier frames, by the names of the graph's inputs.

    A step writes the keys and values of the frame that joins into the next free slot of the
    buffers, so that nothing is copied; of two steps from the same past, the later one counts.

    Attributes:
        prefix: keys and values of the history [n, 1, N, d].
        sums: conv states, the bias included, [B * pixels, C].
        buffers: keys and values of the candidates' frames [capacity, B, N, d].
        first, num_suffix: slots in use; those before the first belong to evicted frames.
    """

    prefix: dict[str, Tensor]
    sums: dict[str, Tensor]
    buffers: dict[str, Tensor]
    first: int = 0
    num_suffix: int = 0

    @classmethod
    def start(
        cls, prefix: dict[str, Tensor], sums: dict[str, Tensor], capacity: int, batch_size: int
    ) -> GraphCache:
        """The cache of candidates that share a history; see the functions below.

        Args:
            capacity: frames beside the history that there is room for.
        """
        buffers = {}
        for name, value in prefix.items():
            shape = (capacity, batch_size, *value.shape[2:])
            buffers[name.removeprefix("prefix_")] = value.new_empty(shape)
        repeated = {name: value.repeat(batch_size, 1) for name, value in sums.items()}
        return cls(prefix, repeated, buffers)

    @property
    def batch_size(self) -> int:
        return next(iter(self.buffers.values())).shape[1]

    @property
    def suffix(self) -> dict[str, Tensor]:
        used = slice(self.first, self.first + self.num_suffix)
        return {name: buffer[used] for name, buffer in self.buffers.items()}

    @property
    def next_slot(self) -> dict[str, Tensor]:
        free = self.first + self.num_suffix
        return {name: buffer[free] for name, buffer in self.buffers.items()}

    def joined(self, sums: dict[str, Tensor]) -> GraphCache:
        """After a step that kept: the next slot is in use."""
        return replace(self, sums=sums, num_suffix=self.num_suffix + 1)

    def with_room(self) -> GraphCache:
        """With a free slot: where all are used, the frames still seen move to the front of new
        buffers, twice as many as they are."""
        capacity = len(next(iter(self.buffers.values())))
        if self.first + self.num_suffix < capacity:
            return self
        buffers = {}
        for name, value in self.suffix.items():
            buffers[name] = value.new_empty(2 * max(1, self.num_suffix), *value.shape[1:])
            buffers[name][: self.num_suffix] = value
        return replace(self, buffers=buffers, first=0)

    def evict(self, index: int) -> GraphCache:
        """Without keys and values of frame ``index``, 0 is the oldest."""
        num_prefix = len(next(iter(self.prefix.values())))
        if index >= num_prefix:
            assert index == num_prefix and self.num_suffix > 0
            return replace(self, first=self.first + 1, num_suffix=self.num_suffix - 1)
        prefix = {
            name: torch.cat([value[:index], value[index + 1 :]])
            for name, value in self.prefix.items()
        }
        return replace(self, prefix=prefix)


@dataclass(frozen=True)
class PaddedGraphCache:
    """The same in fixed shapes, of which only the batch is open: a graph with ``num_slots``.

    Attributes:
        history, buffers: see :class:`GraphCache`; padded to the graph's slots. What is not seen
            is finite all the same.
        sums: see :class:`GraphCache`.
        seen_prefix, seen_suffix: slots that are seen, the oldest frame first.
    """

    history: dict[str, Tensor]
    sums: dict[str, Tensor]
    buffers: dict[str, Tensor]
    seen_prefix: tuple[int, ...]
    seen_suffix: tuple[int, ...] = ()

    @classmethod
    def of(cls, past: GraphCache, num_slots: int) -> PaddedGraphCache:
        """The padded form of a cache that holds the history only."""
        num_prefix = len(next(iter(past.prefix.values())))
        history, buffers = {}, {}
        for name, value in past.prefix.items():
            history[name] = value.new_zeros(num_slots, *value.shape[1:])
            history[name][:num_prefix] = value
        for name, value in past.buffers.items():
            buffers[name] = value.new_zeros(num_slots, *value.shape[1:])
        return cls(history, past.sums, buffers, tuple(range(num_prefix)))

    @property
    def prefix(self) -> dict[str, Tensor]:
        some = next(iter(self.history.values()))
        seen = torch.full((2, len(some)), NOT_SEEN)
        seen[0, list(self.seen_prefix)] = 0.0
        seen[1, list(self.seen_suffix)] = 0.0
        return {**self.history, "seen": seen.view(1, -1).to(some)}

    @property
    def batch_size(self) -> int:
        return next(iter(self.buffers.values())).shape[1]

    @property
    def suffix(self) -> dict[str, Tensor]:
        return self.buffers

    @property
    def next_slot(self) -> dict[str, Tensor]:
        return {name: buffer[self._free] for name, buffer in self.buffers.items()}

    def joined(self, sums: dict[str, Tensor]) -> PaddedGraphCache:
        """See :class:`GraphCache`."""
        return replace(self, sums=sums, seen_suffix=(*self.seen_suffix, self._free))

    @property
    def _free(self) -> int:
        num_slots = len(next(iter(self.buffers.values())))
        return next(slot for slot in range(num_slots) if slot not in self.seen_suffix)

    def with_room(self) -> PaddedGraphCache:
        """Itself: the window has no more frames than slots."""
        return self

    def evict(self, index: int) -> PaddedGraphCache:
        """See :class:`GraphCache`."""
        slots = [*self.seen_prefix, *self.seen_suffix]
        del slots[index]
        num_prefix = len(self.seen_prefix) - (index < len(self.seen_prefix))
        return replace(
            self, seen_prefix=tuple(slots[:num_prefix]), seen_suffix=tuple(slots[num_prefix:])
        )


def selected(
    lanes: Sequence[GraphCache | PaddedGraphCache], indices: Tensor
) -> GraphCache | PaddedGraphCache:
    """One past of some of the candidates of a batch that is cut into lanes."""

    def rows(name: str) -> Tensor:
        values = [lane.sums[name].unflatten(0, (lane.batch_size, -1)) for lane in lanes]
        return torch.cat(values)[indices].flatten(0, 1)

    def slots(name: str) -> Tensor:
        return torch.cat([lane.buffers[name] for lane in lanes], dim=1)[:, indices]

    sums = {name: rows(name) for name in lanes[0].sums}
    buffers = {name: slots(name) for name in lanes[0].buffers}
    return replace(lanes[0], sums=sums, buffers=buffers)


def prefix_part(history: Cache, dtype: torch.dtype) -> dict[str, Tensor]:
    """Keys and values of the history, [n, 1, N, d]."""
    prefix = {}
    for index, pair in enumerate(history.prefix):
        assert pair is not None
        for name, value in zip(("key", "value"), pair, strict=True):
            prefix[f"prefix_{name}_{index}"] = value.to(dtype).permute(2, 0, 1, 3).contiguous()
    return prefix


def conv_states(unet: nn.Module, history: Cache, dtype: torch.dtype) -> dict[str, Tensor]:
    """The history's conv states, the bias included, [pixels, C]."""
    convs = [m for m in unet.modules() if isinstance(m, TemporalConv)]
    sums = {}
    for index, (conv, added) in enumerate(zip(convs, history.conv, strict=True)):
        assert conv.bias is not None
        for j, value in enumerate(added):
            sums[f"conv_{index}_{j}"] = (value + conv.bias).flatten(0, 3).to(dtype)
    return sums
