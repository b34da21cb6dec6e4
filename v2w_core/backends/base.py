"""What computes a model's denoising steps: one small interface, several back ends.

A rollout asks a back end for one thing: the velocity of the newest frame of every candidate, given
what the frames before it left behind (:meth:`Stepper.step`). Guidance asks for a second velocity
of the same frame in the same step. The history is always encoded by the PyTorch network; it is one
pass of batch 1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from v2w_core.backends.names import AUTO, BACKENDS, CHAIN
from v2w_core.errors import DeviceError, V2WError

if TYPE_CHECKING:
    from v2w_core.models.temporal_cache import Cache
    from v2w_core.world_model import WorldModel

#: What messages of a CUDA device that is gone or broken have in common, whoever raises them.
DEVICE_ERRORS = ("cuda error", "cuda failure", "cudaerror", "cuda driver error", "nvml")
#: What messages of memory that is used up have in common: PyTorch's on a GPU ("out of memory") and
#: on a CPU ("can't allocate memory"), the system's, ONNX Runtime's, TensorRT's, cuBLAS', C++'s.
OUT_OF_MEMORY = (
    "out of memory", "outofmemory", "can't allocate memory", "cannot allocate memory",
    "failed to allocate", "status_alloc_failed", "bad_alloc", "bad allocation",
)  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendOptions:
    """How a back end is built.

    Attributes:
        precision: of the arithmetic, one of :data:`names.PRECISIONS`; each back end says which of
            them it knows. Latents go in and come out in float32.
        providers: ONNX Runtime's execution providers, first choice first; None: that of the
            model's device. None is ever replaced silently by another.
        engines: folder of built engines; None: $V2W_ENGINES or ~/.cache/v2w/engines.
    """

    precision: str = "fp32"
    providers: tuple[str, ...] | None = None
    engines: Path | None = None


class Stepper(Protocol):
    """Computes steps of one model.

    The past is whatever it keeps of earlier frames; rollouts only hand it on.

    Attributes:
        most_at_once: candidates in a batch; None: any number.
    """

    name: str
    most_at_once: int | None

    def rolling_out(self) -> AbstractContextManager[None]:
        """Around the steps of a rollout: keeps PyTorch out of the way of the back end's threads."""

    def begin(self, history: Cache, batch_size: int, num_own: int) -> Any:
        """The past of candidates that have the history in common and imagined nothing yet.

        Args:
            history: may be of no frames (:meth:`Cache.emptied`).
            batch_size: number of candidates.
            num_own: frames that will join the past; there is room for them from the beginning.
        """

    def step(
        self,
        latents: Tensor,
        level: Tensor,
        actions: Tensor,
        mask: Tensor,
        past: Any,
        *,
        keep: bool = True,
        guided: bool = False,
    ) -> tuple[Tensor, Any]:
        """Velocity of the newest frame.

        Args:
            latents: [B, T, C, H, W] of the newest frame (T 1), or of a finished frame and the
                newest (T 2).
            level, actions, mask: [B, T], [B, T, A], [B, T]; see :meth:`UNet.forward`.
            past: of :meth:`begin` or of an earlier step.
            keep: False: the past afterwards is not needed.
            guided: also the velocity of the newest frame when its action is masked.

        Returns:
            v [B, 1, C, H, W] (guided: [B, 2, C, H, W], the second without the newest action), and
            the past with the first of the T frames added (unchanged when ``keep`` is False).
        """

    def forget(self, past: Any, index: int) -> Any:
        """The past without what attention sees of its frame ``index``, 0 is the oldest.

        Frames are only ever forgotten from one index on: those before it stay to the end, and
        belong to the history that :meth:`begin` was given.
        """

    def select(self, past: Any, indices: Tensor) -> Any:
        """The past of some of the candidates, ``indices`` [K'] ascending; the whole one ends."""


def with_sibling(latents: Tensor, level: Tensor, actions: Tensor, mask: Tensor) -> list[Tensor]:
    """A step's frames [B, T, ...] and the newest once more, its action masked [B, T + 1, ...]."""
    newest = (latents[:, -1:], level[:, -1:], actions[:, -1:], torch.zeros_like(mask[:, -1:]))
    given = (latents, level, actions, mask)
    return [torch.cat(pair, dim=1) for pair in zip(given, newest, strict=True)]


class Backend(Stepper, Protocol):
    """One way to compute steps: can it, build it, use it, what is it."""

    @classmethod
    def probe(cls, model: WorldModel, options: BackendOptions) -> str | None:
        """Why it cannot serve this model on this machine; None when it can. Quick."""

    @classmethod
    def build(cls, model: WorldModel, options: BackendOptions) -> Backend:
        """Ready for steps.

        Raises:
            V2WError: MODEL_ERROR; it cannot be built, or differs from eager float32 by more than
                the tolerance of its precision.
        """

    def warm_up(self, batch_size: int) -> None:
        """Steps of this batch size take no longer than later ones from here on."""

    def info(self) -> dict[str, Any]:
        """What it is, as plain data for reports."""


def backend_class(name: str) -> type[Backend]:
    """Raises V2WError for a name that is none."""
    if name not in BACKENDS:
        raise V2WError("backend", f"one of {', '.join((AUTO, *BACKENDS))}", name)
    module, _, attribute = BACKENDS[name].partition(":")
    found: type[Backend] = getattr(import_module(module), attribute)
    return found


def make_backend(
    model: WorldModel, name: str = AUTO, options: BackendOptions | None = None
) -> Backend:
    """The back end of this name, or with "auto" the first of the chain that can be built.

    Raises:
        V2WError: unknown name, or MODEL_ERROR when a named back end cannot serve the model. A
            named one is never replaced by another.
    """
    options = options or BackendOptions()
    if name != AUTO:
        return _build(model, name, options)
    for candidate in CHAIN[:-1]:
        try:
            return _build(model, candidate, options)
        except V2WError as error:
            log.warning("back end %s passed over: %s", candidate, error)
    return _build(model, CHAIN[-1], options)


def _build(model: WorldModel, name: str, options: BackendOptions) -> Backend:
    try:
        kind = backend_class(name)
        reason = kind.probe(model, options)
        if reason is None:
            return kind.build(model, options)
        raise V2WError(f"back end {name}", reason, code="MODEL_ERROR")
    except V2WError:
        raise
    except Exception as error:  # compilers raise all there is, and so do packages that are broken
        rule, what = "cannot be built here", f"{type(error).__name__}: {error}"
        raise V2WError(f"back end {name}", rule, what, code="MODEL_ERROR") from error


def unknown_precision(options: BackendOptions, known: Iterable[str]) -> str | None:
    """Part of a probe: why the precision cannot be had, or None."""
    if options.precision in known:
        return None
    return f"knows the precisions {', '.join(known)}, not {options.precision}"


def not_cacheable(model: WorldModel) -> str | None:
    """Part of a probe: why steps cannot be computed one by one, or None."""
    if model.config.action_guided and model.config.cacheable:
        return None
    return "needs a causal model with actions and statistics of each frame alone"


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


def fall_back_to_cpu(model: WorldModel) -> WorldModel:
    """The same model on the CPU, for callers that go on after a :class:`DeviceError`.

    Its back end is eager; call ``use_backend("auto")`` on it for a faster one when there is time.
    Weights come from the checkpoint that the model was loaded from. A model of none gives those on
    the device, as long as that answers, and with numbers. The model that was given must not be used
    any more.

    Raises:
        V2WError: MODEL_ERROR; the checkpoint cannot be read any more, or there is none and the
            device does not answer, or answers with what are no weights.
    """
    from v2w_core.world_model import WorldModel

    if model.checkpoint is not None:
        again = WorldModel.from_pretrained(model.checkpoint)
    else:
        again = WorldModel(model.config)
        again.load_state_dict(_weights_on_device(model))
        again.eval()
    again.memory_budget = model.memory_budget
    return again


def _weights_on_device(model: WorldModel) -> dict[str, Tensor]:
    """The weights, copied to the CPU."""
    rule = "a model that was loaded from a checkpoint; its weights are lost with the device"
    try:
        with device_errors("weights"):
            weights = {name: value.cpu() for name, value in model.state_dict().items()}
    except DeviceError as error:
        raise V2WError("model", rule, code="MODEL_ERROR") from error
    bad = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise V2WError("model", rule, f"NaN or infinity in {bad[0]}", code="MODEL_ERROR")
    return weights
