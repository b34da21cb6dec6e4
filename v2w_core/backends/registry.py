"""Back ends by name: found, probed and built."""

from __future__ import annotations

import logging
from importlib import import_module

from v2w_core.backends.base import Backend, BackendOptions
from v2w_core.backends.names import AUTO, BACKENDS, CHAIN
from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Dynamics

log = logging.getLogger(__name__)


def backend_class(name: str) -> type[Backend]:
    """Raises V2WError for a name that is none."""
    if name not in BACKENDS:
        raise V2WError("backend", f"one of {', '.join((AUTO, *BACKENDS))}", name)
    module, _, attribute = BACKENDS[name].partition(":")
    found: type[Backend] = getattr(import_module(module), attribute)
    return found


def make_backend(
    model: Dynamics, name: str = AUTO, options: BackendOptions | None = None
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


def _build(model: Dynamics, name: str, options: BackendOptions) -> Backend:
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
