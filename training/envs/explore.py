"""Exploration: smooth random driving that covers the world and the whole range of actions.

The robot switches between modes (cruise, curve, turn on the spot, sideways, backwards, stop,
anything) every few steps; within a mode the action follows an Ornstein-Uhlenbeck process around the
mode's mean. Near walls it usually turns to the freer side, but not always, as a world model must
also learn from collisions. In a building it also travels: it heads for a random free place along
the shortest way, so that it gets through doors and sees all rooms.
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
#: The mode that only buildings have; its mean is chosen at every step.
TRAVEL = Mode(0.18, (0.0, 0.0, 0.0), (0.08, 0.05, 0.10), (12, 40))
#: How far ahead on the way it looks, and how near the place it is there.
AHEAD_M, THERE_M = 1.5, 0.6
#: Worlds up to this size are seen whole by a robot that turns and cruises at random.
SMALL_M2 = 100.0

#: Autocorrelation of the action's deviation from the mean, from one step to the next.
MEMORY = 0.7
#: Distance at which the robot detects walls, and the probability that it avoids them.
LOOK_M = 0.6
CARE, CARE_IN_BUILDINGS = 0.8, 0.65


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
        self._goal: tuple[float, float] | None = None
        self._modes, self._care = dict(MODES), CARE
        if math.prod(env.world.size_m) > SMALL_M2:
            self._modes["travel"], self._care = TRAVEL, CARE_IN_BUILDINGS
        self._choose("cruise")

    def act(self) -> NDArray[np.float32]:
        """The next action [3], within the bounds."""
        rng = self._rng
        if self._steps_left <= 0:
            names = list(self._modes)
            shares = np.array([self._modes[name].share for name in names])
            self._choose(str(rng.choice(names, p=shares / shares.sum())))
        self._steps_left -= 1
        if self._goal is not None:
            self._travel(self._goal)
        noise = rng.normal(size=3) * self._spread * math.sqrt(1.0 - MEMORY**2)
        self._deviation = MEMORY * self._deviation + noise
        action = np.clip(self._mean + self._deviation, self._low, self._high)
        if self._goal is None and self._blocked(action) and rng.random() < self._care:
            self._avoid()
            action = np.clip(self._mean + self._deviation, self._low, self._high)
        return action.astype(np.float32)

    def _choose(self, name: str) -> None:
        mode, rng = self._modes[name], self._rng
        self._goal = self._env.world.sample_free(rng) if name == "travel" else None
        self._mean = np.array(mode.mean)
        self._spread = np.array(mode.spread)
        if name == "anything":  # like a planner's candidates, corners of the bounds included
            self._mean = rng.uniform(1.3 * self._low, 1.3 * self._high)
        elif mode.mirrored and rng.random() < 0.5:
            self._mean[1:] *= -1.0
        self._steps_left = int(rng.integers(mode.steps[0], mode.steps[1] + 1))

    def _travel(self, goal: tuple[float, float]) -> None:
        """Sets the mean so that the robot turns to the way and drives along it."""
        x, y, yaw = self._env.pose
        if math.hypot(goal[0] - x, goal[1] - y) < THERE_M:
            self._steps_left = 0
        place = self._env.paths.ahead((x, y), goal, AHEAD_M)
        away = math.hypot(place[0] - x, place[1] - y)
        turn = math.remainder(math.atan2(place[1] - y, place[0] - x) - yaw, 2.0 * math.pi)
        speed = min(away, 0.42) * max(math.cos(turn), 0.0) ** 2
        aside = 0.5 * away * math.sin(turn) if abs(turn) < 1.0 else 0.0
        self._mean = np.array([speed, np.clip(aside, -0.15, 0.15), np.clip(turn, -0.45, 0.45)])

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
