"""The cache of a static step: slots of fixed shapes, in buckets of batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from v2w_core.backends.base import DTYPES
from v2w_core.backends.torch_step.static_step import Slots, StepVariant, empty_slots, slots_like
from v2w_core.errors import V2WError
from v2w_core.models.temporal_cache import Cache

BUCKETS = (1, 8, 32, 64)


#: Velocity, new keys and values, new sums; of the arguments of :meth:`StaticStep.forward`.
StepFunction = Callable[..., tuple[Tensor, list[Tensor], list[Tensor]]]


def bucket_of(batch_size: int) -> int:
    """The padded size. Raises V2WError above the largest bucket."""
    for size in BUCKETS:
        if batch_size <= size:
            return size
    raise V2WError("batch", f"at most {BUCKETS[-1]} candidates at once", batch_size)


@dataclass(frozen=True)
class StaticCacheView:
    """The frames that a batch has seen: slots in use, the oldest frame first.

    Attributes:
        rollout: which one of the back end's rollouts this is.
        prefix, suffix: slots of the history and of the candidates' frames.
        num_joined: frames that joined since the rollout began, those forgotten since included.
    """

    rollout: int
    batch_size: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...] = ()
    num_joined: int = 0


@dataclass
class Bucket:
    """One padded batch size.

    Attributes:
        slots: its past.
        new_sums: the sums after a step that keeps. They become the past's when a step goes on
            from there: until then, the same step may be repeated (denoising does).
        runs: by variant of step, what runs it.
        num_joined: frames that joined the sums since the rollout began.
    """

    slots: Slots
    new_sums: list[Tensor]
    runs: dict[StepVariant, SlotRun] = field(default_factory=dict)
    num_joined: int = 0

    def go_on(self, past: StaticCacheView) -> None:
        """The sums are those of this past."""
        if past.num_joined == self.num_joined + 1:
            for place, value in zip(self.slots.sums, self.new_sums, strict=True):
                place.copy_(value)
            self.num_joined += 1
        if past.num_joined != self.num_joined:
            rule = "only the newest past of a back end goes on"
            raise V2WError("rollout", rule, f"{past.num_joined} of {self.num_joined} frames")


class SlotRun:
    """Steps of one variant on one bucket, all in the same memory each time.

    Args:
        step: the function, on the device of the slots.
        given: latents, level, actions, mask as of the first step; their shapes.
        captured: one CUDA graph of everything, the writing included.
    """

    def __init__(
        self,
        step: StepFunction,
        variant: StepVariant,
        bucket: Bucket,
        given: list[Tensor],
        *,
        captured: bool,
    ) -> None:
        self._step = step
        self._kind = variant
        self._slots = slots = bucket.slots
        self._new_sums = bucket.new_sums
        device, size = given[0].device, _batch_size(slots)
        self._given = [torch.zeros(size, *t.shape[1:], dtype=t.dtype, device=device) for t in given]
        num_slots = sum(kinds[0].shape[2] for kinds in (slots.prefix, slots.suffix) if kinds)
        self._seen = torch.zeros(num_slots, dtype=torch.bool, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._captured = captured
        self._graph: torch.cuda.CUDAGraph | None = None
        self._v: Tensor | None = None

    def __call__(self, given: list[Tensor], seen: Tensor, slot: int) -> Tensor:
        """Velocity of the given batch (which the bucket may exceed); keeps into ``slot``."""
        for place, value in zip(self._given, given, strict=True):
            place[: len(value)].copy_(value)
        self._seen.copy_(seen)
        self._slot.fill_(slot)
        if not self._captured:
            self._v = self._run()
        else:
            self._graph = self._graph or self._record()
            self._graph.replay()
        assert self._v is not None
        return self._v[: len(given[0])].clone()

    def _run(self) -> Tensor:
        slots = self._slots
        v, new, sums = self._step(*self._given, self._seen, slots.prefix, slots.suffix, slots.sums)
        if self._kind.keep:
            for place, value in zip(slots.suffix, new, strict=True):
                place.index_copy_(2, self._slot, value)
            for place, value in zip(self._new_sums, sums, strict=True):
                place.copy_(value)
        return v

    def _record(self) -> torch.cuda.CUDAGraph:
        """Compiles and tries the step on another stream, as CUDA asks for, and then records it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._v = self._run()
        return graph


class StaticCachePool:
    """Slots of all buckets, and the steps on them.

    Args:
        num_slots: frames that the past can hold: the window's.
        make_step: the function of a variant and a padded batch size.
        captured: steps are CUDA graphs.
    """

    def __init__(
        self,
        num_slots: int,
        precision: str,
        make_step: Callable[[StepVariant, int], StepFunction],
        *,
        captured: bool,
    ) -> None:
        self._num_slots = num_slots
        self._dtype = DTYPES[precision]
        self._make_step = make_step
        self._captured = captured
        self._rollout = 0
        self._buckets: dict[int, Bucket] = {}
        self._prefix: list[Tensor] | None = None

    def start(self, history: Cache, batch_size: int) -> StaticCacheView:
        """The past of a new rollout; the one before ends."""
        if history.num_frames > self._num_slots:
            raise V2WError("history", f"at most {self._num_slots} frames", history.num_frames)
        bucket = self._bucket(history, batch_size)
        slots, bucket.num_joined = bucket.slots, 0
        pairs = [value for pair in history.prefix for value in pair or ()]
        for place, value in zip(slots.prefix, pairs, strict=True):
            place.zero_()
            place[:, :, : value.shape[2]].copy_(value)
        for place in slots.suffix:
            place.zero_()  # what is not seen must be finite all the same
        values = [added for sums in history.conv for added in sums]
        for place, value in zip(slots.sums, values, strict=True):
            place.copy_(value.expand_as(place))
        self._rollout += 1
        length = pairs[0].shape[2] if pairs else 0
        return StaticCacheView(self._rollout, batch_size, tuple(range(length)))

    def step(
        self, given: list[Tensor], past: StaticCacheView, *, keep: bool, guided: bool
    ) -> tuple[Tensor, StaticCacheView]:
        """See :meth:`StepBackend.step`; ``given``: latents, noise levels, actions, masks."""
        self._check(past)
        variant = StepVariant(given[0].shape[1], keep, guided)
        bucket = self._buckets[bucket_of(past.batch_size)]
        if variant not in bucket.runs:
            step = self._make_step(variant, bucket_of(past.batch_size))
            bucket.runs[variant] = SlotRun(step, variant, bucket, given, captured=self._captured)
        bucket.go_on(past)
        free = next(slot for slot in range(self._num_slots) if slot not in past.suffix)
        seen = torch.zeros(2, self._num_slots, dtype=torch.bool)
        seen[0, list(past.prefix)] = True
        seen[1, list(past.suffix)] = True
        v = bucket.runs[variant](given, seen.flatten(), free)
        if keep:
            past = replace(past, suffix=(*past.suffix, free), num_joined=past.num_joined + 1)
        return v, past

    def evict(self, past: StaticCacheView, index: int) -> StaticCacheView:
        """See :meth:`StepBackend.evict`."""
        slots = [*past.prefix, *past.suffix]
        del slots[index]
        num_prefix = len(past.prefix) - (index < len(past.prefix))
        return replace(past, prefix=tuple(slots[:num_prefix]), suffix=tuple(slots[num_prefix:]))

    def select(self, past: StaticCacheView, indices: Tensor) -> StaticCacheView:
        """See :meth:`StepBackend.select`."""
        self._check(past)
        source = self._buckets[bucket_of(past.batch_size)]
        source.go_on(past)
        size = bucket_of(len(indices))
        if size not in self._buckets:
            self._add_bucket(size, slots_like(source.slots, size))
        target = self._buckets[size]
        before, after = ([*b.slots.suffix, *b.slots.sums] for b in (source, target))
        for value, place in zip(before, after, strict=True):
            chosen = value[indices]  # the places may be the same
            place.zero_()
            place[: len(indices)].copy_(chosen)
        target.num_joined = past.num_joined
        self._rollout += 1
        return replace(past, rollout=self._rollout, batch_size=len(indices))

    def _check(self, past: StaticCacheView) -> None:
        if past.rollout != self._rollout:
            raise V2WError("rollout", "only the newest one of a back end goes on", past.rollout)

    def _bucket(self, history: Cache, batch_size: int) -> Bucket:
        size = bucket_of(batch_size)
        if size not in self._buckets:
            self._add_bucket(size, empty_slots(history, self._num_slots, size, self._dtype))
        return self._buckets[size]

    def _add_bucket(self, size: int, slots: Slots) -> None:
        self._prefix = self._prefix or slots.prefix
        new_sums = [torch.empty_like(added) for added in slots.sums]
        self._buckets[size] = Bucket(replace(slots, prefix=self._prefix), new_sums)


def _batch_size(slots: Slots) -> int:
    return len((slots.suffix or slots.sums)[0])
