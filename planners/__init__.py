"""Choosing actions with a world model: ``from planners import MPC, ImageGoal, Planner``.

Reading order: ``protocols`` (what a model must offer), ``bounds``, ``optimizers.base`` and
``optimizers.cem`` (sample and update under init / ask / tell), ``costs.base`` and one cost,
``scoring`` and ``screening`` (chunks, deadline), ``planner`` (one plan), ``goals`` and ``mpc`` (the
closed loop). The names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planners.goals import ImageGoal, PoseGoal
    from planners.mpc import MPC
    from planners.observation import Observation
    from planners.planner import Planner
    from planners.settings import ImaginationSettings

_MODULES = {
    "MPC": "planners.mpc",
    "ImageGoal": "planners.goals",
    "ImaginationSettings": "planners.settings",
    "Observation": "planners.observation",
    "Planner": "planners.planner",
    "PoseGoal": "planners.goals",
}

__all__ = ["MPC", "ImageGoal", "ImaginationSettings", "Observation", "Planner", "PoseGoal"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'planners' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
