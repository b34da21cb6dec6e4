"""A known world for planner tests: a planar robot whose "latents" are a picture of its pose."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2w_core.errors import Interrupted
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(
    names=("dx", "dy", "dyaw"),
    units=("m", "m", "rad"),
    low=(-0.1, -0.05, -0.4),
    high=(0.5, 0.05, 0.4),
    rate_hz=4.0,
)


def picture(poses: np.ndarray) -> Tensor:
    """Poses [..., 3] -> latents [..., 2, 8, 8]: a soft spot for the place, another for the yaw."""
    grid = np.linspace(-4.0, 4.0, 8)
    x, y, yaw = (poses[..., i, None, None] for i in range(3))
    place = np.exp(-((grid[:, None] - x) ** 2 + (grid[None, :] - y) ** 2) / 4.0)
    ahead_x, ahead_y = 2.5 * np.cos(yaw), 2.5 * np.sin(yaw)
    heading = np.exp(-((grid[:, None] - ahead_x) ** 2 + (grid[None, :] - ahead_y) ** 2) / 4.0)
    return torch.from_numpy(np.stack([place, heading], axis=-3)).float()


class ToyRollouts:
    def __init__(self, latents: Tensor, poses: np.ndarray) -> None:
        self.latents, self.poses = latents, poses
        self.frames_imagined = latents.shape[0] * latents.shape[1]

    def frames(self, indices: Any = None) -> np.ndarray:
        chosen = self.latents if indices is None else self.latents[indices]
        return to_frames(chosen)


def to_frames(latents: Tensor) -> np.ndarray:
    grey = (latents.mean(dim=-3) * 255).round().clamp(0, 255).numpy().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


class ToySession:
    """Imagines exactly and can be slow; notes every batch of candidates that it advances.

    Args:
        wall_x: where a wall stops the robot, which the session then knows; None: there is none.
    """

    def __init__(
        self, pose: Any = (0.0, 0.0, 0.0), seconds_per_candidate: float = 0.0,
        wall_x: float | None = None,
    ) -> None:  # fmt: skip
        self.pose = np.asarray(pose, dtype=float)
        self.seconds = seconds_per_candidate
        self.wall_x = wall_x
        self.predicts_motion = wall_x is not None
        self.calls: list[dict[str, Any]] = []

    def poses_after(self, actions: np.ndarray, start: Any) -> np.ndarray:
        """Poses [K, n, 3] under actions [K, n, 3]; those beyond the wall slide along it."""
        poses = integrate_actions(actions, start)[:, 1:]
        if self.wall_x is not None:
            poses[..., 0] = np.minimum(poses[..., 0], self.wall_x)
        return poses

    def latents_after(self, actions: np.ndarray) -> Tensor:
        """What is imagined [K, n, 2, 8, 8] under actions [K, n, 3]."""
        return picture(self.poses_after(actions, self.pose))

    def imagine(self, candidates: np.ndarray, **settings: Any) -> ToyRollouts:
        return self.rollout(candidates, **settings).advance(candidates.shape[1])

    def rollout(
        self, candidates: np.ndarray, *, interrupt: Any = None, **settings: Any
    ) -> ToyRollout:
        self.calls.append({"num_candidates": len(candidates), **settings, "horizon": 0})
        return ToyRollout(self, candidates, interrupt)


class ToyRollout:
    def __init__(self, session: ToySession, candidates: np.ndarray, interrupt: Any) -> None:
        self.session, self.candidates, self.interrupt = session, candidates, interrupt
        self.call = session.calls[-1]
        self.num_frames = self.frames_imagined = 0

    def advance(self, num_frames: int) -> ToyRollouts:
        for _ in range(num_frames):
            if self.interrupt is not None and self.interrupt():
                raise Interrupted
            time.sleep(self.session.seconds * len(self.candidates) / self.candidates.shape[1])
        self.num_frames += num_frames
        self.call["horizon"] = self.num_frames
        self.frames_imagined += len(self.candidates) * num_frames
        begun = self.candidates[:, : self.num_frames]
        poses = self.session.poses_after(begun, (0.0, 0.0, 0.0))
        rollouts = ToyRollouts(self.session.latents_after(begun), poses)
        rollouts.frames_imagined = self.frames_imagined
        return rollouts

    def select(self, indices: Any) -> None:
        self.candidates = self.candidates[indices]
        self.call = {**self.call, "num_candidates": len(self.candidates)}
        self.session.calls.append(self.call)


class ToyModel:
    """Frames carry the pose in their first pixels' place: ``frame_of`` and ``pose_of`` invert."""

    goal_distance = None

    def __init__(self) -> None:
        self.config = SimpleNamespace(action=SPEC)
        self.sessions: list[ToySession] = []

    @staticmethod
    def frame_of(pose: Any) -> np.ndarray:
        raw = np.frombuffer(np.asarray(pose, dtype=np.float64).tobytes(), dtype=np.uint8)
        return np.ascontiguousarray(raw.reshape(4, 2, 3))

    @staticmethod
    def pose_of(frame: np.ndarray) -> np.ndarray:
        return np.frombuffer(np.ascontiguousarray(frame).tobytes(), dtype=np.float64)

    def start(self, frames: np.ndarray, actions: np.ndarray, *, seed: int = 0) -> ToySession:
        self.sessions.append(ToySession(self.pose_of(frames[-1])))
        return self.sessions[-1]

    def encode(self, frames: np.ndarray) -> Tensor:
        return picture(np.stack([self.pose_of(frame) for frame in frames]))

    def decode(self, latents: Tensor) -> np.ndarray:
        return to_frames(latents)
