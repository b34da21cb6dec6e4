"""Safe loading of pickles of NumPy arrays in plain containers: no other code is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.errors import DataError

# The functions that NumPy refers to in its pickles; their modules' names depend on its version.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _package in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _RECONSTRUCT
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _SCALAR
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
            content = _ArrayUnpickler(stream).load()
    except DataError as error:
        raise DataError(f"{path}: {error.field}", error.rule, error.value) from error
    except Exception as error:  # a damaged pickle fails in any way it likes
        rule = "a complete pickle; this one is damaged or truncated"
        raise DataError(str(path), rule, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or any(_holds_objects(item) for item in content.values()):
        raise DataError(str(path), "a dict of arrays of numbers", type(content).__name__)
    return content


def _holds_objects(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.hasobject
