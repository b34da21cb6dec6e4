"""ONNX Runtime's sessions: on the wanted provider, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from v2w_core.backends.base import BackendOptions
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Dynamics

#: Execution providers by the model's device.
PROVIDERS = {"cpu": ("CPUExecutionProvider",), "cuda": ("CUDAExecutionProvider",)}
#: Float32 means float32: the provider's default rounds it to TF32.
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


def providers(model: Dynamics, options: BackendOptions) -> tuple[str, ...]:
    """The wanted execution providers, first choice first."""
    if options.providers is not None:
        return options.providers
    return PROVIDERS[model.device.type]


def load(graph: Path, wanted: tuple[str, ...], num_threads: int) -> Any:
    """An onnxruntime.InferenceSession that really runs on the first of the wanted providers.

    Raises:
        V2WError: MODEL_ERROR; the graph cannot be loaded, or the provider was replaced (which
            ONNX Runtime does with no more than a line on stderr).
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    settings.log_severity_level = 3
    # between runs, its threads leave the cores to PyTorch and to the other graphs
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    field = f"back end onnx, {graph.name}"
    try:
        how = [(name, PROVIDER_OPTIONS.get(name, {})) for name in wanted]
        session = onnxruntime.InferenceSession(str(graph), settings, providers=how)
    except Exception as error:  # its exceptions have no common base class of their own
        raise V2WError(
            field, "a graph that can be loaded", str(error), code="MODEL_ERROR"
        ) from error
    running = session.get_providers()
    if running[0] != wanted[0]:
        rule = f"runs on {wanted[0]}; this machine cannot load it"
        raise V2WError(field, rule, ", ".join(running), code="MODEL_ERROR")
    return session
