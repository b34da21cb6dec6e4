"""Device utilities: classification of device errors, and exact float32 arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from v2w_core.errors import DeviceError, V2WError

#: Phrases in the messages of a lost or broken CUDA device, from any library.
DEVICE_ERRORS = ("cuda error", "cuda failure", "cudaerror", "cuda driver error", "nvml")


#: Phrases in out-of-memory messages: PyTorch's on a GPU ("out of memory") and on a CPU ("can't
#: allocate memory"), the system's, ONNX Runtime's, TensorRT's, cuBLAS', C++'s.
OUT_OF_MEMORY = (
    "out of memory", "outofmemory", "can't allocate memory", "cannot allocate memory",
    "failed to allocate", "status_alloc_failed", "bad_alloc", "bad allocation",
)  # fmt: skip


def out_of_memory(error: BaseException | None) -> bool:
    """Whether the error, or one in its chain of causes, is an out-of-memory error.

    The device still works after one, and a smaller batch may fit.
    """
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        text = str(error).lower()
        if any(words in text for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


@contextmanager
def exact_float32(*, fixed_shapes: bool = False) -> Iterator[None]:
    """Disables TF32 in the convolutions and matrix products of a GPU.

    Args:
        fixed_shapes: whether shapes repeat, so that benchmarking cuDNN's algorithms pays off.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=fixed_shapes, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """Turns errors of a lost or broken GPU into a :class:`DeviceError`.

    Rollouts have it already; it is for other computations on the device (decoding, costs).
    Out-of-memory errors are left alone, because the device still works, and so are errors about
    the caller's input, whose messages may quote any text.

    Args:
        what: ``field`` of the DeviceError.
    """
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:
        if isinstance(error, V2WError) and error.code != "MODEL_ERROR":
            raise
        text = str(error).lower()
        lost = isinstance(error, getattr(torch, "AcceleratorError", DeviceError))
        lost = lost or any(words in text for words in DEVICE_ERRORS)
        if not lost or out_of_memory(error):
            raise
        rule = "a working device; it is lost or broken, load the model again on another one"
        raise DeviceError(what, rule, str(error), code="MODEL_ERROR") from error
