"""traj_data.pkl: arrays come out, nothing else is ever called."""

from __future__ import annotations

import builtins
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from v2w_core.data.sources.safe_pickle import load_arrays
from v2w_core.errors import DataError


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_and_plain_containers(tmp_path: Path, protocol: int) -> None:
    content = {
        "position": np.arange(6.0).reshape(3, 2),
        "yaw": np.float32([0.1, 0.2, 0.3])[::-1],
        "fortran": np.asfortranarray(np.ones((2, 3))),
        "scalar": np.float64(2.5),
        "nested": {"names": ["a", ("b", 1)], "none": None},
    }
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = load_arrays(path)
    assert loaded.keys() == content.keys()
    for name in ("position", "yaw", "fortran"):
        np.testing.assert_array_equal(loaded[name], content[name])
    assert loaded["scalar"] == 2.5
    assert loaded["nested"] == content["nested"]


def test_numpy_1_calls_its_package_differently(tmp_path: Path) -> None:
    new = pickle.dumps({"yaw": np.ones(3)}, protocol=3)
    old = new.replace(b"numpy._core.", b"numpy.core.")
    for number, data in enumerate((new, old)):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(data)
        np.testing.assert_array_equal(load_arrays(path)["yaw"], np.ones(3))


class Calls:
    """Pickles to a call of ``function(*arguments)``."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {owned}", "posix.system"),
        (builtins.eval, "open('{owned}', 'w')", "builtins.eval"),
        (builtins.getattr, "x", "builtins.getattr"),
        (np.load, "{owned}", "numpy.load"),
        (np.save, "{owned}", "numpy.save"),
        (Path, "x", "pathlib.*Path"),
        (set, "x", "builtins.set"),
    ],
)
def test_anything_else_is_refused_by_name(
    tmp_path: Path, function: object, argument: str, named: str
) -> None:
    owned = tmp_path / "owned"
    path = tmp_path / "traj_data.pkl"
    bomb = {"yaw": np.ones(3), "position": Calls(function, argument.format(owned=owned))}
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(DataError, match=rf"traj_data.pkl.*nothing else.*{named}"):
        load_arrays(path)
    assert not owned.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"yaw": np.ones(30)})[:-40],
        pickle.dumps([1.0, 2.0]),
        pickle.dumps({"yaw": np.array([{}, 1], dtype=object)}),
        b"\x80\x04\x82\x01.",  # a name by its number in the extension registry
        b"\x80\x04\x8c\x01xQ.",  # a persistent id
    ],
)
def test_damaged_and_other_content(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "traj_data.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"traj_data\.pkl"):
        load_arrays(path)


BOMBS = {
    "an array of 64 GB": b"\x80\x03cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
    "begun with 16 GB": b"\x80\x03cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    b"(J\xff\xff\xff\x7ftC\x01dtR.",
    "a scalar of 2 GB": b"\x80\x03cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n"
    b"(X\x0b\x00\x00\x00V2000000000tRtR.",
    "remembered as number 2^31": b"\x80\x03}r\xff\xff\xff\x7f.",
    "many objects": b"\x80\x03" + b"]0" * 600_000 + b"}.",
    "deep": b"\x80\x03" + b"(" * 100_000 + b".",
    "a text of 2^62 bytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x3fa.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_claim_more_than_they_hold(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="pickle"):
        load_arrays(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
