"""The header of a safetensors file: what is in it, read and checked before any of its tensors.

The file is the measure of a checkpoint: a configuration that asks for a larger model than the file
has weights for is refused while the model is built, before its memory is touched.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from v2w_core.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
#: Largest header [bytes]; that of a model of 1.4 billion parameters has 0.3 MB.
MAX_HEADER = 8 << 20
#: Bytes of a number, by the name of its type in the header.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
          "BOOL": 1}  # fmt: skip


def weights_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file; the tensors are not read.

    Raises:
        CheckpointError: no such file, a header that is damaged or longer than :data:`MAX_HEADER`,
            a type that no weights have, or tensors that do not fill the rest of the file exactly.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError("checkpoint", f"a folder with {file.name}", str(file.parent))
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                rule = f"a complete safetensors file with a header of at most {MAX_HEADER} bytes; "
                raise _damaged(file, f"a header of {length} bytes in a file of {size}", rule)
            header: Any = json.loads(stream.read(length))
        return _checked(file, header, size - 8 - length)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(file, str(error)) from error


def _checked(file: Path, header: Any, size: int) -> dict[str, tuple[int, ...]]:
    if not isinstance(header, dict):
        raise _damaged(file, "a header that is no mapping")
    shapes, spans = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
            sound = all(type(n) is int and 0 <= n <= size for n in numbers) and len(shape) <= 8
            sound = sound and math.prod(shape) * _BYTES[kind] == end - begin
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise _damaged(file, f"{name}: {entry}")
        shapes[name] = tuple(shape)
        spans.append((begin, end))
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise _damaged(file, f"tensors that overlap or leave a gap at byte {place}")
        place = end
    if place != size:
        raise _damaged(file, f"{place} bytes of tensors in the header, {size} in the file")
    return shapes


def _damaged(
    file: Path, found: str, rule: str = "a complete safetensors file; "
) -> CheckpointError:
    return CheckpointError(str(file), f"{rule}it is damaged or truncated", found)


def require_fit(path: str | os.PathLike[str], found: Shapes, expected: Shapes) -> None:
    """Raises CheckpointError unless names and shapes are those of the model."""
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [name for name in found if name in expected and found[name] != expected[name]]
    if missing or unknown or wrong:
        raise CheckpointError(
            str(path),
            f"weights that fit config.yaml; missing {missing[:3]}, unknown {unknown[:3]}, "
            f"of another shape {wrong[:3]}",
            f"{len(missing)} missing, {len(unknown)} unknown, {len(wrong)} misshapen",
        )


@contextmanager
def no_larger_than(path: str | os.PathLike[str], shapes: Shapes) -> Iterator[None]:
    """What this thread builds in the block may not be much larger than the weights file.

    PyTorch registers a parameter before it is filled, so that its memory is not touched yet. There
    is room for twice the file's weights: :func:`require_fit` names those that are missing. What
    goes wrong in the block is sizes of config.yaml that do not go together.

    Raises:
        CheckpointError: a model with far more tensors or numbers than the file has.
    """
    numbers = sum(math.prod(shape) for shape in shapes.values())
    room = [2 * len(shapes) + 100, 2 * numbers + 1_000_000]
    thread = threading.get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if threading.get_ident() != thread or parameter is None:
            return
        room[0] -= 1
        room[1] -= parameter.numel()
        if min(room) < 0:
            kind = f"a {type(module).__name__} of shape {list(parameter.shape)} too many"
            rule = f"no larger than the model whose weights are in {Path(path).name}"
            raise CheckpointError("config.yaml: sizes", rule, kind)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        rule = "sizes of which a model can be built"
        raise CheckpointError("config.yaml: sizes", rule, str(error)) from error
    finally:
        hook.remove()
