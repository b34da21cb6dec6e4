"""What PyTorch's devices say when they fail, and float32 without short cuts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from v2w_core.errors import DeviceError, V2WError

#: What messages of a CUDA device that is gone or broken have in common, whoever raises them.
DEVICE_ERRORS = ("cuda error", "cuda failure", "cudaerror", "cuda driver error", "nvml")


#: What messages of memory that is used up have in common: PyTorch's on a GPU ("out of memory") and
#: on a CPU ("can't allocate memory"), the system's, ONNX Runtime's, TensorRT's, cuBLAS', C++'s.
OUT_OF_MEMORY = (
    "out of memory", "outofmemory", "can't allocate memory", "cannot allocate memory",
    "failed to allocate", "status_alloc_failed", "bad_alloc", "bad allocation",
)  # fmt: skip


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was used up, whoever says so: the error itself, or one that it wraps.

    The device still works then; less at once may fit.
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
    """Float32 means float32: no convolution or product of a GPU is rounded to TF32.

    Args:
        fixed_shapes: it is worth trying which of cuDNN's algorithms is the fastest.
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
    """Turns errors of a GPU that is gone or broken into a :class:`DeviceError`.

    Rollouts are inside one already; it is for what else computes on the device (decoding, costs).
    Out of memory is none of them: the device still works. Nor is an error of who asked, whose
    message quotes what was asked for.
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
        rule = "the device answers; it is gone or broken, load the model again on another"
        raise DeviceError(what, rule, str(error), code="MODEL_ERROR") from error
