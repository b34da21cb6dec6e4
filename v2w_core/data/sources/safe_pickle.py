"""Safe loading of pickles of NumPy arrays in plain containers: no other code is executed."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.errors import DataError

# The functions that NumPy refers to in its pickles; their modules' names depend on its version.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]

#: Largest pickle [bytes], and largest number of its instructions: an array is a few of them.
MAX_BYTES, MAX_STEPS = 256 << 20, 1_000_000


class _ArrayType:
    """Stands for np.ndarray, which a pickle may name, and not call with a size of its choice."""


def _empty_array(kind: object, shape: object, *_: object) -> np.ndarray[Any, Any]:
    """What NumPy begins every array with, before the pickle's bytes are set."""
    if kind is not _ArrayType or shape != (0,):
        raise DataError("pickle", "arrays with their bytes", f"an array of shape {shape!r:.40}")
    empty: np.ndarray[Any, Any] = _RECONSTRUCT(np.ndarray, (0,), b"b")  # type: ignore[operator]
    return empty


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    if dtype.hasobject or len(data) != dtype.itemsize:
        raise DataError("pickle", "numbers with their bytes", str(dtype))
    return _SCALAR(dtype, data)  # type: ignore[operator]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): np.dtype,
}
for _package in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _empty_array
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_package}.numeric", "_frombuffer"] = _FROM_BUFFER


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            rule = "a pickle of NumPy arrays and plain containers, nothing else"
            raise DataError("pickle", rule, f"{module}.{name}")
        return _ALLOWED[module, name]


def load_arrays(path: Path) -> dict[str, Any]:
    """The dict in a pickle of NumPy arrays, numbers, strings and plain containers.

    Raises:
        DataError: the pickle refers to anything else (which is not called), is damaged, or holds no
            dict.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        _check_steps(data)
        content = _ArrayUnpickler(io.BytesIO(data)).load()
    except DataError as error:
        raise DataError(f"{path}: {error.field}", error.rule, error.value) from error
    except Exception as error:  # a damaged pickle fails in any way it likes
        rule = "a complete pickle; this one is damaged or truncated"
        raise DataError(str(path), rule, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or any(_holds_objects(item) for item in content.values()):
        raise DataError(str(path), "a dict of arrays of numbers", type(content).__name__)
    return content


def _check_steps(data: bytes) -> None:
    """Raises DataError for too large a pickle, or one that numbers what it remembers absurdly.

    Python makes room for as many remembered objects as the largest number says, without asking.
    """
    if len(data) > MAX_BYTES:
        raise DataError("pickle", f"at most {MAX_BYTES} bytes", "more")
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        remembers = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if number > MAX_STEPS or (remembers and int(argument or 0) > MAX_STEPS):
            raise DataError("pickle", f"at most {MAX_STEPS} objects", f"{opcode.name} {argument}")


def _holds_objects(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.hasobject
