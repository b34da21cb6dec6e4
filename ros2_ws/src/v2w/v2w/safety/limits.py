"""Limits of speed and acceleration: of every command, and of what is planned. Knows no ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from v2w_core.spec import ActionSpec

Twist = tuple[float, float, float]
STOP: Twist = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Limits:
    """What a robot may be told: m/s, rad/s, m/s^2, rad/s^2.

    Attributes:
        holonomic: it can drive sideways. One that cannot never gets a sideways velocity.
    """

    max_linear_velocity: float = 0.5
    max_angular_velocity: float = 1.0
    max_linear_acceleration: float = 2.5
    max_linear_deceleration: float = 2.5
    max_angular_acceleration: float = 5.0
    max_angular_deceleration: float = 5.0
    holonomic: bool = True

    def limited(self, twist: Twist, previous: Twist = STOP, passed_s: float = math.inf) -> Twist:
        """The command to send instead of ``twist`` [m/s, m/s, rad/s]; a stop is never delayed.

        Args:
            previous: the command before, and ``passed_s`` [s] the time since then.

        Raises:
            ValueError: a command that is not finite.
        """
        if not all(math.isfinite(value) for value in twist):
            raise ValueError(f"a command of {twist}")
        if tuple(twist) == STOP:
            return STOP
        vx, vy, wz = self._within_speed(twist)
        px, py, pw = previous
        step = math.hypot(vx - px, vy - py)
        faster = math.hypot(vx, vy) >= math.hypot(px, py)
        rate = self.max_linear_acceleration if faster else self.max_linear_deceleration
        share = 1.0 if step <= rate * passed_s else rate * passed_s / step
        faster = abs(wz) >= abs(pw)
        rate = self.max_angular_acceleration if faster else self.max_angular_deceleration
        turn = max(-rate * passed_s, min(rate * passed_s, wz - pw))
        # Limits that were lowered meanwhile hold at once.
        return self._within_speed((px + share * (vx - px), py + share * (vy - py), pw + turn))

    def _within_speed(self, twist: Twist) -> Twist:
        """The same arc, driven no faster than allowed."""
        vx, vy, wz = twist
        if not self.holonomic:
            vy = 0.0
        speed, turn = math.hypot(vx, vy), abs(wz)
        if not (math.isfinite(speed) and math.isfinite(turn)):
            raise ValueError(f"a command of {twist}")
        share = 1.0
        if speed > self.max_linear_velocity:
            share = self.max_linear_velocity / speed
        if turn > self.max_angular_velocity:
            share = min(share, self.max_angular_velocity / turn)
        return vx * share, vy * share, wz * share

    def bounds(self, spec: ActionSpec) -> ActionSpec:
        """The action space of plans that the limits leave as they are.

        Args:
            spec: the model's, of displacements dx, dy [m] and dyaw [rad]; it is never widened.
        """
        x, y, yaw = spec.planar_indices()
        reach = np.maximum(np.abs(spec.low), np.abs(spec.high))
        longest = float(np.hypot(reach[x], reach[y]) if self.holonomic else reach[x])
        share = np.ones(spec.dim)
        share[[x, y]] = min(1.0, self.max_linear_velocity * spec.dt_s / longest)
        share[yaw] = min(1.0, self.max_angular_velocity * spec.dt_s / float(reach[yaw]))
        if not self.holonomic:
            share[y] = 1.0  # as far as arcs lead sideways
        low, high = (
            tuple(float(v) for v in share * np.asarray(bound)) for bound in (spec.low, spec.high)
        )
        return replace(spec, low=low, high=high)

    def drivable(self, spec: ActionSpec, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Displacements [..., A] that the base can make; those of one that goes sideways stay.

        One that cannot drives arcs: on an arc of angle dyaw, dy = dx tan(dyaw / 2).
        """
        if self.holonomic:
            return actions
        x, y, yaw = spec.planar_indices()
        arcs = np.array(actions)
        aside = arcs[..., x] * np.tan(arcs[..., yaw] / 2.0)
        room = np.where(aside > 0.0, spec.high[y], -spec.low[y])
        share = np.minimum(1.0, np.maximum(room, 0.0) / np.maximum(np.abs(aside), 1e-9))
        arcs[..., x] *= share
        arcs[..., y] = aside * share
        return arcs
