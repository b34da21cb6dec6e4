"""Which of an episode's two records a model takes as its actions: this is the one place.

A model with a motion head is told commands, what the robot was asked to do, and predicts the
displacement that follows. Models without one have learned displacements: where a wall was in the
way, the command would tell them of motion that never happened. Where a recording has no commands,
the displacement stands for both (see :mod:`v2w_core.data.episode`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from v2w_core.config import WorldModelConfig
    from v2w_core.data.episode import Episode


def takes_commands(config: WorldModelConfig) -> bool:
    """Whether the model's actions are commands; otherwise they are displacements."""
    return config.motion_head


def episode_actions(config: WorldModelConfig, episode: Episode) -> NDArray[np.float32]:
    """An episode's actions as the model takes them, float32 [T-1, A] in physical units."""
    if takes_commands(config) or episode.motion is None or not episode.has_commands:
        return episode.actions
    actions = episode.actions.copy()
    actions[:, list(episode.action_spec.planar_indices())] = episode.motion
    return actions


def step_action(config: WorldModelConfig | None, info: dict[str, Any]) -> NDArray[np.float32]:
    """A step of the simulator as the model takes it, float32 [3]; None, of no model: the command.

    Args:
        config: of the model.
        info: of ``DoomMazeEnv.step``.
    """
    told = config is None or takes_commands(config)
    action: NDArray[np.float32] = info["command" if told else "motion"]
    return action
