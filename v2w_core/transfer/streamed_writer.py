"""Writing of checkpoints tensor by tensor, so that a model need not fit into memory twice."""

from __future__ import annotations

import ctypes
import json
import mmap
import pathlib
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from v2w_core.errors import CheckpointError
from v2w_core.files import replaced, replaced_folder

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


#: Linux's MADV_PAGEOUT. No data is lost: pages of a mapped file are read again when needed.
_PAGEOUT = 21


def release(mapped: Tensor) -> None:
    """Frees the pages of a memory-mapped tensor (advice to the kernel, on Linux only)."""
    if sys.platform == "linux":
        start = mapped.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        size = mapped.data_ptr() + mapped.nbytes - start
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _PAGEOUT)


@contextmanager
def new_folder(dest: pathlib.Path) -> Iterator[pathlib.Path]:
    """Context manager of a temporary folder that is renamed to ``dest`` if the block succeeds.

    Raises:
        CheckpointError: ``dest`` exists or cannot be created.
    """
    if dest.exists():
        raise CheckpointError("dest", "a folder that does not exist yet", str(dest))
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(replaced_folder(dest))
        except OSError as error:
            raise CheckpointError("dest", "a folder that can be made", str(error)) from error
        yield temporary


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its shape and type, and a function that computes it when needed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


def write_safetensors(
    path: pathlib.Path,
    entries: Mapping[str, Entry],
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> None:
    """Writes all entries, sorted by name; the file is replaced atomically.

    Args:
        path: the target file.
        entries: the tensors by name.
        track: wraps the names as they are written, e.g. in a progress bar.
    """
    names = sorted(entries)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        entry = entries[name]
        end = offset + entry.nbytes
        header[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with replaced(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for name in track(names):
            entry = entries[name]
            tensor = entry.make().detach().to(entry.dtype).contiguous()
            assert tuple(tensor.shape) == entry.shape, name
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
