"""A robot with a camera in a generated world: a gymnasium environment over ViZDoom.

Actions are planar displacements in the body frame (dx, dy in metres, dyaw in radians) at 4 Hz.
Within a step a deadbeat controller chooses thrusts, so that in free space the real displacement
equals the command to about a millimetre for any initial velocity; at a wall the robot slides or
stops. x is east, y north, yaw counter-clockwise from east (REP 103).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.envs.doom_engine import (
    ANGLE_STEPS,
    FRICTION,
    MAX_THRUST,
    STOP_SPEED,
    THRUST_TO_SPEED,
    DoomEngine,
)
from training.envs.paths import Paths
from training.envs.top_down import TopDownMap, draw_top_down
from training.envs.world import UNITS_PER_M, World
from training.envs.worlds import build_world
from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec

#: Nominal tics per second, and tics in a 4 Hz step.
TIC_HZ = 36
STEP_TICS = 9
RADIANS_PER_STEP = 2.0 * math.pi / ANGLE_STEPS

ACTION_SPEC = ActionSpec(
    names=("dx", "dy", "dyaw"),
    units=("m", "m", "rad"),
    low=(-0.25, -0.25, -0.5),
    high=(0.5, 0.25, 0.5),
    rate_hz=TIC_HZ / STEP_TICS,
)

#: Difference of real and commanded displacement from which a step counts as one with contact.
CONTACT_M = 0.02

Pose = tuple[float, float, float]
Observation = dict[str, Any]


class DoomMazeEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """First-person navigation in a building. It is deterministic, and episodes never end.

    Observations: ``image`` uint8 [height, width, 3] RGB, ``pose`` float64 [3] (x m, y m, yaw rad).

    Args:
        world_seed: seed of the world; the same seed gives the same map and textures.
        image_size: (height, width) in pixels; the field of view is 90 degrees, meant for 4:3.
        world_name: "maze", the small one of 10 m x 8 m, or "rooms", buildings of 16 m x 16 m.

    Attributes:
        world: where the robot is.
        paths: shortest ways and distances in it.

    Raises:
        V2WError: there is no such world, or ViZDoom does not start.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        world_seed: int = 0,
        image_size: tuple[int, int] = (120, 160),
        *,
        world_name: str = "maze",
    ) -> None:
        self.render_mode = "rgb_array"
        self.action_spec = ACTION_SPEC
        world = build_world(world_name, int(world_seed))
        self._engine = DoomEngine(world.textmap, image_size)
        self._turn_left_over = 0.0
        self._set_world(world)
        self.action_space = gymnasium.spaces.Box(
            np.array(ACTION_SPEC.low, np.float32), np.array(ACTION_SPEC.high, np.float32)
        )

    def _set_world(self, world: World) -> None:
        self.world, self.paths = world, Paths(world)
        box = gymnasium.spaces.Box
        size = np.array([*world.size_m, math.pi])
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": box(0, 255, (*self._engine.image_size, 3), np.uint8),
                "pose": box(np.array([0.0, 0.0, -math.pi]), size, dtype=np.float64),
            }
        )

    def enter(self, world_seed: int, world_name: str | None = None) -> None:
        """Moves the robot into another world, somewhere; ``reset`` or ``teleport`` says where.

        It takes some 20 ms, as the engine goes on and only loads another map.

        Args:
            world_seed: seed of the world.
            world_name: kind of world; None: the same as now.

        Raises:
            V2WError: there is no such world.
        """
        world = build_world(world_name or self.world.name, int(world_seed))
        self._engine.enter(world.textmap)
        self._turn_left_over = 0.0
        self._set_world(world)

    @property
    def pose(self) -> Pose:
        """Current pose of the robot (x m, y m, yaw rad in [-pi, pi))."""
        engine = self._engine
        yaw = (engine.angle + ANGLE_STEPS // 2) % ANGLE_STEPS - ANGLE_STEPS // 2
        return engine.x / UNITS_PER_M, engine.y / UNITS_PER_M, yaw * RADIANS_PER_STEP

    def is_free(self, x: float, y: float) -> bool:
        """Whether the robot (a square of 1 m) fits at (x, y) in metres."""
        return self.world.is_free(x, y)

    def sample_free_pose(self, rng: np.random.Generator) -> Pose:
        """A random pose (x m, y m, yaw rad) in free space."""
        return (*self.world.sample_free(rng), float(rng.uniform(-math.pi, math.pi)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Places the robot at rest at ``options["pose"]`` or at a random free pose."""
        super().reset(seed=seed)
        pose = (options or {}).get("pose")
        if pose is None:
            pose = self.sample_free_pose(self.np_random)
        still = np.zeros(3, np.float32)
        return self.teleport(*pose), {"command": still, "motion": still.copy(), "contact": False}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """A step of 0.25 s with the displacement ``action`` [3] (dx m, dy m, dyaw rad).

        ``info["command"]`` is ``action`` as float32, ``info["motion"]`` the displacement that
        odometry reports, both in the body frame at the start of the step; ``info["contact"]`` says
        whether a wall or an object changed the motion.

        Raises:
            V2WError: ``action`` is not three finite numbers within the bounds of ``ACTION_SPEC``.
        """
        command = ACTION_SPEC.validate(np.asarray(action)[None], horizon=1, field="action")[0]
        before = self.pose
        self._move(command)
        motion = _relative(before, self.pose)
        off = math.hypot(motion[0] - command[0], motion[1] - command[1])
        info = {
            "command": command,
            "motion": np.array(motion, np.float32),
            "contact": off > CONTACT_M,
        }
        return self._observe(), 0.0, False, False, info

    def shortest_path_m(self, start: ArrayLike, goal: ArrayLike) -> float:
        """Length in metres of the shortest way between two poses; see :meth:`Paths.path`."""
        return self.paths.distance(start, goal)

    def straight_line_blocked(self, start: ArrayLike, goal: ArrayLike) -> bool:
        """Whether a wall or an object is on the straight line between two poses."""
        return self.paths.straight_line_blocked(start, goal)

    def drive(self, vx: float, vy: float, wz: float, num_tics: int) -> Observation:
        """Applies a velocity command for ``num_tics`` tics of 1/36 s.

        Args:
            vx, vy: linear velocity in the body frame (forward, left) in m/s.
            wz: angular velocity in rad/s, counter-clockwise.
            num_tics: duration, at least 1.
        """
        if not all(math.isfinite(value) for value in (vx, vy, wz)) or num_tics < 1:
            raise V2WError("drive", "finite velocities and at least 1 tic", (vx, vy, wz, num_tics))
        engine = self._engine
        velocity, angle = engine.velocity, engine.angle
        scale = UNITS_PER_M / TIC_HZ
        for left in range(num_tics, 0, -1):
            wanted = wz / TIC_HZ / RADIANS_PER_STEP + self._turn_left_over
            turn = round(wanted)
            self._turn_left_over = wanted - turn
            angle += turn
            target = _rotate(vx * scale, vy * scale, angle * RADIANS_PER_STEP)
            velocity, _ = self._tic(velocity, target, angle, turn, observe=left == 1)
        return self._observe()

    def teleport(self, x: float, y: float, yaw: float) -> Observation:
        """Places the robot at rest at (x m, y m, yaw rad); the same pose gives the same image.

        Raises:
            V2WError: the robot does not fit there.
        """
        self._jump(float(x), float(y), float(yaw))
        return self._observe()

    def simulate(
        self, pose: Pose, candidates: ArrayLike, *, frames: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
        """Simulates every candidate from ``pose`` at rest, then returns to the current pose.

        Args:
            pose: start pose of all candidates (x m, y m, yaw rad).
            candidates: [K, horizon, 3], displacements within the bounds.
            frames: whether to return the images.

        Returns:
            poses float64 [K, horizon + 1, 3], and frames uint8 [K, horizon, height, width, 3] or
            None. The robot is then at rest at the pose that it had before the call.
        """
        actions = ACTION_SPEC.validate(candidates, field="candidates")
        if actions.ndim != 3:
            raise V2WError("candidates", "shape [K, horizon, 3]", list(actions.shape))
        home = self.pose
        num, horizon = actions.shape[:2]
        poses = np.empty((num, horizon + 1, 3))
        shape = (num, horizon, *self._engine.image_size, 3)
        images = np.empty(shape, np.uint8) if frames else None
        for k in range(num):
            self._jump(*pose)
            poses[k, 0] = self.pose
            for h in range(horizon):
                self._move(actions[k, h])
                poses[k, h + 1] = self.pose
                if images is not None:
                    images[k, h] = self._engine.frame()
        self._jump(*home, check=False)
        return poses, images

    def top_down_map(self, pixels_per_m: float = 48.0) -> TopDownMap:
        """A picture of the world from above, with the transform from metres to pixels."""
        return draw_top_down(self.world, pixels_per_m)

    def render(self) -> NDArray[np.uint8]:
        """The camera image."""
        return self._engine.frame()

    def close(self) -> None:
        """Stops the engine. May be called more than once."""
        self._engine.close()

    def _observe(self) -> Observation:
        return {"image": self._engine.frame(), "pose": np.array(self.pose)}

    def _move(self, command: NDArray[np.float32]) -> None:
        """Nine tics along a straight line in the world frame while the body turns evenly.

        Velocities within the step follow the motion law, which is exact in free space. The engine
        is observed at the end only, because each observation renders an image.
        """
        engine = self._engine
        velocity, angle = engine.velocity, engine.angle
        dx, dy, dyaw = (float(value) for value in command)
        rest = _rotate(dx * UNITS_PER_M, dy * UNITS_PER_M, angle * RADIANS_PER_STEP)
        turn_total = dyaw / RADIANS_PER_STEP
        fastest = 1.5 * math.hypot(*rest) / STEP_TICS + 0.1
        done = 0
        for index in range(STEP_TICS):
            left = STEP_TICS - index
            turn = round(turn_total * (index + 1) / STEP_TICS) - done
            done += turn
            angle += turn
            target = (rest[0] / left, rest[1] / left)
            speed = math.hypot(*target)
            if speed > fastest:
                target = (target[0] * fastest / speed, target[1] * fastest / speed)
            velocity, moved = self._tic(velocity, target, angle, turn, observe=left == 1)
            rest = (rest[0] - moved[0], rest[1] - moved[1])
        self._turn_left_over = 0.0

    def _tic(
        self,
        velocity: tuple[float, float],
        target: tuple[float, float],
        angle: int,
        turn: int,
        *,
        observe: bool,
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """A tic towards the world-frame velocity ``target``.

        Returns:
            velocity and displacement after the tic, as predicted for free space.
        """
        yaw = angle * RADIANS_PER_STEP
        ahead, aside = _rotate(target[0] - velocity[0], target[1] - velocity[1], -yaw)
        forward, left = _thrust(ahead), _thrust(aside)
        self._engine.tic(forward, left, turn, observe=observe)
        gain = _rotate(forward * THRUST_TO_SPEED, left * THRUST_TO_SPEED, yaw)
        moved = (velocity[0] + gain[0], velocity[1] + gain[1])
        if forward == left == 0 and abs(moved[0]) < STOP_SPEED and abs(moved[1]) < STOP_SPEED:
            return (0.0, 0.0), moved
        return (moved[0] * FRICTION, moved[1] * FRICTION), moved

    def _brake(self) -> None:
        """Runs a few tics until the robot is exactly at rest."""
        engine = self._engine
        for _ in range(60):
            if engine.velocity == (0.0, 0.0):
                return
            if math.hypot(*engine.velocity) < STOP_SPEED:
                engine.tic(0, 0, 0)
            else:
                self._tic(engine.velocity, (0.0, 0.0), engine.angle, 0, observe=True)

    def _jump(self, x: float, y: float, yaw: float, *, check: bool = True) -> None:
        if not all(math.isfinite(value) for value in (x, y, yaw)):
            raise V2WError("pose", "finite x, y and yaw", (x, y, yaw))
        # touching a wall is allowed, as the robot can drive there
        if check and not self.world.is_free(x, y, margin_m=-0.002):
            raise V2WError("pose", "a free place, half a metre from every wall", (x, y))
        engine = self._engine
        self._brake()
        ux, uy = x * UNITS_PER_M, y * UNITS_PER_M
        engine.warp(round(ux), round(uy))  # the engine warps to whole units only
        turn = round(yaw / RADIANS_PER_STEP) - engine.angle
        half = ANGLE_STEPS // 2
        engine.tic(0, 0, (turn + half) % ANGLE_STEPS - half)
        offset = (ux - engine.x, uy - engine.y)
        if max(abs(offset[0]), abs(offset[1])) > 1.0 / 64.0:  # one thrust for the remainder
            velocity, _ = self._tic((0.0, 0.0), offset, engine.angle, 0, observe=False)
            self._tic(velocity, (0.0, 0.0), engine.angle, 0, observe=True)
        self._brake()
        self._turn_left_over = 0.0


def _thrust(speed: float) -> int:
    return max(-MAX_THRUST, min(MAX_THRUST, round(speed / THRUST_TO_SPEED)))


def _rotate(x: float, y: float, angle: float) -> tuple[float, float]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine - y * sine, x * sine + y * cosine


def _relative(before: Pose, after: Pose) -> Pose:
    """Displacement from ``before`` to ``after`` in the body frame of ``before``."""
    dx, dy = _rotate(after[0] - before[0], after[1] - before[1], -before[2])
    return dx, dy, (after[2] - before[2] + math.pi) % (2.0 * math.pi) - math.pi
