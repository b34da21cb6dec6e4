"""Writes a safetensors file tensor by tensor, so that a model need not fit into memory twice."""

from __future__ import annotations

import json
import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


@dataclass(frozen=True)
class Entry:
    """A tensor to be: its shape and type, and what makes it when its turn comes."""

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
    """Write all entries, in order of their names; the file appears whole or not at all.

    Args:
        track: wraps the names as they are written, for a progress bar.
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
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)))
            file.write(encoded)
            for name in track(names):
                entry = entries[name]
                tensor = entry.make().detach().to(entry.dtype).contiguous()
                assert tuple(tensor.shape) == entry.shape, name
                file.write(tensor.flatten().view(torch.uint8).numpy().data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
