"""A tiny untrained checkpoint and short episodes for tests of the commands that imagine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import cv2
import numpy as np

from v2w_core.data.episode import write_episode
from v2w_core.geometry import integrate_actions
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel

SPEC = tiny_config().action


def save_checkpoint(folder: Path) -> Path:
    return WorldModel.build(tiny_config()).save_pretrained(folder)


def save_episode(path: Path, num_frames: int = 16, seed: int = 0, rate_hz: float = 4.0) -> Path:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(SPEC.low, SPEC.high, (num_frames - 1, 3)).astype(np.float32)
    poses = integrate_actions(actions)
    frames = rng.integers(0, 255, (num_frames, 6, 8, 3), dtype=np.uint8)
    return write_episode(
        path,
        frames=frames.repeat(8, axis=1).repeat(8, axis=2),
        actions=actions,
        poses=np.insert(poses, 2, 0.0, axis=1),
        stamps_ns=np.arange(num_frames) * round(1e9 / rate_hz),
        action_spec=dataclasses.replace(SPEC, rate_hz=rate_hz),
        source="test",
        image_format="png",
    )


def video(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def is_picture(path: Path) -> bool:
    return cv2.imread(str(path)) is not None


def files(folder: Path) -> list[str]:
    """Names of all files below, hidden and temporary ones too."""
    return sorted(str(i.relative_to(folder)) for i in folder.rglob("*") if i.is_file())
