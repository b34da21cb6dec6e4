"""Common to all tests."""

from __future__ import annotations

import os
import signal

import pytest

# The models of the tests are tiny. More OpenMP workers than free cores wait for each other by
# spinning: beside another load the same tests take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that
# they start would ignore it too; the tests of interrupts need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: marker -> fixtures that a test asks for, and names that its file or its code uses.
ASKED_FOR = {
    "engines": {"engines", "rtx", "converters"},
    "sim": {"DoomMazeEnv"},
    "trained": {"default_checkpoint"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what a test needs, so that ``make check`` can leave it out; tests/ros marks its own."""
    for item in items:
        if isinstance(item, pytest.Function):
            used = {*item.fixturenames, *vars(item.module), *item.function.__code__.co_names}
            for marker, names in ASKED_FOR.items():
                if used & names:
                    item.add_marker(marker)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Whatever the environment, and a test before, said about PyTorch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """A folder for ONNX Runtime's engines of the tests of one file."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def timed_briefly():
    """Engines are tried on two candidates only."""
    from v2w_core.backends import parity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "BATCH_SIZES", (2,))
        yield
