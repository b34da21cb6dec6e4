"""How much memory a rollout may take, how much a candidate takes, and so how many go at once."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from v2w_core.errors import V2WError
from v2w_core.models.temporal_cache import Cache
from v2w_core.rollout.interfaces import Dynamics

#: Shares of the memory that is free which a rollout may take: a GPU's is ours, while on a CPU
#: other processes and the disk cache live beside us.
GPU_SHARE, CPU_SHARE = 0.8, 0.5
#: More candidates at once than this are no faster on a CPU (benchmarks/memory.py).
MOST_ON_CPU = 64
MIB = 2**20


def micro_batch_size(
    model: Dynamics,
    num_candidates: int,
    num_suffix: int,
    *,
    guided: bool,
    wanted: int | None = None,
    max_batch_size: int | None = None,
) -> int:
    """How many of the candidates to compute at once, in parts of nearly the same size.

    Args:
        num_suffix: most frames that a candidate has in the cache beside the history.
        wanted: the number itself, whatever the budget says; None: the budget decides.
        max_batch_size: candidates that the back end takes; None: any number.

    Raises:
        V2WError: MODEL_ERROR; not even one fits into the budget.
    """
    if wanted is not None:
        return wanted if max_batch_size is None else min(wanted, max_batch_size)
    budget = model.memory_budget
    if budget is None:
        budget = device_budget(model.device)
    needed = candidate_bytes(model, num_suffix, guided=guided)
    fits = budget // needed
    if fits == 0:
        rule = f"at least {math.ceil(needed / MIB)} MiB, what one candidate needs"
        raise V2WError("memory budget", rule, f"{budget / MIB:.1f} MiB", code="MODEL_ERROR")
    if model.device.type == "cpu":
        fits = min(fits, MOST_ON_CPU)
    if max_batch_size is not None:
        fits = min(fits, max_batch_size)
    num_parts = math.ceil(num_candidates / fits)
    return math.ceil(num_candidates / num_parts)


def device_budget(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that a rollout may take on this device now.

    Args:
        root: where /proc and /sys are, on systems that have them.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(GPU_SHARE * (free + cached))
    left = [_available(root), *_left_by_cgroups(root)]
    return int(CPU_SHARE * max(0, min(left)))


def _available(root: Path) -> int:
    """MemAvailable of the machine; what psutil says where there is no /proc, as on macOS."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except FileNotFoundError:
        import psutil  # a dependency on such systems only

        return int(psutil.virtual_memory().available)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    raise OSError(f"{root}proc/meminfo has no MemAvailable")


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """What the limits of this process's control groups (version 1 or 2) leave.

    A container may see its own group as the root, whatever its path is called outside.
    """
    groups = root / "proc/self/cgroup"
    if not groups.exists():
        return
    for line in groups.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = "sys/fs/cgroup/memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = Path(path.lstrip("/"))
        for parent in (group, *group.parents):
            left = _left_by_cgroup(root / folder / parent, *names)
            if left is not None:
                yield left


def _left_by_cgroup(folder: Path, limit: str, usage: str, evictable: str) -> int | None:
    """Bytes up to the limit; file cache that can be dropped counts as free. None: no limit."""
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        used = int((folder / usage).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
    except OSError:
        return None
    if most == "max":
        return None
    numbers = dict(zip(stat[::2], stat[1::2], strict=True))
    return int(most) - used + int(numbers.get(evictable, 0))


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operators make while it is active.

    Attributes:
        peak: most bytes that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return out

    def note(self, tensor: Tensor) -> None:
        """Counts a tensor for as long as it is alive."""
        if tensor.is_mkldnn:  # a weight laid out ahead: it has no storage, and is no candidate's
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


#: What was counted, by model and (precision, suffix frames, guided).
_counted: weakref.WeakKeyDictionary[Dynamics, dict[tuple[torch.dtype, int, bool], int]] = (
    weakref.WeakKeyDictionary()
)


def candidate_bytes(model: Dynamics, num_suffix: int, *, guided: bool) -> int:
    """What each candidate adds to a rollout's peak memory.

    Counted, not guessed: the tensors of the last step of two candidates less those of one. What a
    kernel allocates inside itself is not seen.

    Args:
        num_suffix: most frames of a candidate beside the history, the one being denoised
            included.
    """
    counted = _counted.setdefault(model, {})
    key = (model.dtype, num_suffix, guided)
    if key not in counted:
        one, two = (_peak(model, batch, num_suffix, guided) for batch in (1, 2))
        counted[key] = two - one
    return counted[key]


@torch.inference_mode()
def _peak(model: Dynamics, batch: int, num_suffix: int, guided: bool) -> int:
    """Bytes of the step that denoises the last of a candidate's suffix frames."""
    config, like = model.config, model.tensor(())

    def frames(batch: int, time: int) -> tuple[Tensor, ...]:
        latents = like.new_zeros(batch, time, *config.input_shape)
        level = torch.zeros(batch, time, dtype=torch.long, device=like.device)
        actions = like.new_zeros(batch, time, config.action.dim)
        return latents, level, actions, level.bool()

    joining = config.sampling.imagined_history == "reencode" and num_suffix > 1
    past: Cache = model.unet(*frames(1, config.num_history))[1].as_prefix()
    if num_suffix - 1 - joining > 0:
        _, past = model.unet(*frames(batch, num_suffix - 1 - joining), cache=past)
    step = frames(batch, 1 + joining + guided)
    with LiveBytes() as live:
        for tensor in tree_leaves((past.suffix, step)):
            if tensor is not None:
                live.note(tensor)
        after = model.unet(*step, cache=past, num_uncached=int(joining), unconditional=guided)
    del after
    return live.peak
