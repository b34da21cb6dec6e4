"""Exploration: smooth random driving that covers the maze and the whole range of actions.

The robot switches between modes (cruise, curve, turn on the spot, sideways, backwards, stop,
anything) every few steps; within a mode the action follows an Ornstein-Uhlenbeck process around the
mode's mean. Near walls it usually turns to the freer side, but not always, as a world model must
also learn from collisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.envs.doom import ACTION_SPEC, DoomMazeEnv


@dataclass(frozen=True)
class Mode:
    """A mode of driving.

    Attributes:
        share: relative frequency.
        mean, spread: mean and standard deviation of the action (dx m, dy m, dyaw rad).
        steps: minimum and maximum duration.
        mirrored: whether dy and dyaw change their sign with probability 1/2.
    """

    share: float
    mean: tuple[float, float, float]
    spread: tuple[float, float, float]
    steps: tuple[int, int]
    mirrored: bool = False


MODES: dict[str, Mode] = {
    "cruise": Mode(0.30, (0.36, 0.0, 0.0), (0.10, 0.05, 0.12), (4, 12)),
    "curve": Mode(0.20, (0.28, 0.0, 0.25), (0.12, 0.07, 0.12), (3, 9), mirrored=True),
    "turn": Mode(0.12, (0.02, 0.0, 0.40), (0.05, 0.05, 0.12), (2, 7), mirrored=True),
    "sideways": Mode(0.08, (0.05, 0.20, 0.0), (0.12, 0.06, 0.12), (2, 5), mirrored=True),
    "backwards": Mode(0.08, (-0.18, 0.0, 0.0), (0.08, 0.06, 0.20), (2, 5)),
    "stop": Mode(0.10, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1, 6)),
    "anything": Mode(0.18, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1, 4)),
}

#: Autocorrelation of the action's deviation from the mean, from one step to the next.
MEMORY = 0.7
#: Distance at which the robot detects walls, and the probability that it avoids them.
LOOK_M = 0.6
CARE = 0.8


class Explorer:
    """Chooses the actions of an exploring robot; deterministic for a state of the generator.

    Args:
        env: the environment, which is read but never stepped.
        rng: random generator.
    """

    def __init__(self, env: DoomMazeEnv, rng: np.random.Generator) -> None:
        self._env = env
        self._rng = rng
        self._low = np.array(ACTION_SPEC.low)
        self._high = np.array(ACTION_SPEC.high)
        self._deviation = np.zeros(3)
        self._steps_left = 0
        self._choose("cruise")

    def act(self) -> NDArray[np.float32]:
        """The next action [3], within the bounds."""
        rng = self._rng
        if self._steps_left <= 0:
            names = list(MODES)
            shares = np.array([MODES[name].share for name in names])
            self._choose(str(rng.choice(names, p=shares / shares.sum())))
        self._steps_left -= 1
        noise = rng.normal(size=3) * self._spread * math.sqrt(1.0 - MEMORY**2)
        self._deviation = MEMORY * self._deviation + noise
        action = np.clip(self._mean + self._deviation, self._low, self._high)
        if self._blocked(action) and rng.random() < CARE:
            self._avoid()
            action = np.clip(self._mean + self._deviation, self._low, self._high)
        return action.astype(np.float32)

    def _choose(self, name: str) -> None:
        mode, rng = MODES[name], self._rng
        self._mean = np.array(mode.mean)
        self._spread = np.array(mode.spread)
        if name == "anything":  # like a planner's candidates, corners of the bounds included
            self._mean = rng.uniform(1.3 * self._low, 1.3 * self._high)
        elif mode.mirrored and rng.random() < 0.5:
            self._mean[1:] *= -1.0
        self._steps_left = int(rng.integers(mode.steps[0], mode.steps[1] + 1))

    def _blocked(self, action: NDArray[np.float64]) -> bool:
        """Whether continuing with ``action`` hits a wall within the next steps."""
        distance = math.hypot(action[0], action[1])
        if distance < 0.05:
            return False
        reach = max(LOOK_M, distance) if action[0] > 0.1 else distance
        return not self._free(math.atan2(action[1], action[0]), reach)

    def _free(self, direction: float, distance: float) -> bool:
        x, y, yaw = self._env.pose
        cosine, sine = math.cos(yaw + direction), math.sin(yaw + direction)
        steps = np.linspace(0.0, distance, 3)[1:]
        return all(self._env.is_free(x + s * cosine, y + s * sine) for s in steps)

    def _avoid(self) -> None:
        """Starts a turn of a few steps towards a side without a wall."""
        sides = [sign for sign in (-1.0, 1.0) if self._free(sign * 1.0, LOOK_M)]
        sign = float(self._rng.choice(sides or [-1.0, 1.0]))
        self._mean = np.array([self._rng.uniform(-0.05, 0.15), 0.0, sign * 0.36])
        self._spread = np.array([0.05, 0.05, 0.10])
        self._deviation *= 0.0
        self._steps_left = int(self._rng.integers(2, 6))
