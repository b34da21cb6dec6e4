"""Causal, action-guided world models: ``from v2w_core import WorldModel, ActionSpec``.

The names are imported when they are first used, so that ``import v2w_core`` alone stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2w_core.checkpoint import default_checkpoint
    from v2w_core.config import WorldModelConfig
    from v2w_core.errors import V2WError
    from v2w_core.spec import ActionSpec, ObservationSpec
    from v2w_core.world_model import WorldModel

_MODULES = {
    "ActionSpec": "v2w_core.spec",
    "ObservationSpec": "v2w_core.spec",
    "V2WError": "v2w_core.errors",
    "WorldModel": "v2w_core.world_model",
    "WorldModelConfig": "v2w_core.config",
    "default_checkpoint": "v2w_core.checkpoint",
}

__all__ = [
    "ActionSpec",
    "ObservationSpec",
    "V2WError",
    "WorldModel",
    "WorldModelConfig",
    "default_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'v2w_core' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
