"""Small data sets in the layouts of RT-1, RECON and CS:GO, with pictures that show their number."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np

from v2w_core.data.csgo_actions import CsgoAction, encode
from v2w_core.data.domains import RT1_FIELDS


def picture(number: int, height: int, width: int) -> np.ndarray:
    """RGB: the left half red, the right half green and brighter with the number (< 50)."""
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    frame[:, : width // 2] = (200, 0, 0)
    frame[:, width // 2 :, 1] = 10 + 4 * number
    return frame


def shown(frame: np.ndarray) -> int:
    """The number that a picture shows."""
    return round((float(frame[4:-4, -frame.shape[1] // 3 : -4, 1].mean()) - 10) / 4)


def recon_poses(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [T, 2] (m) on a circle, and yaws [T] (rad, unwrapped, past pi)."""
    yaw = 2.6 + 0.2 * np.arange(num_frames)
    return np.stack([np.sin(yaw), -np.cos(yaw)], axis=1) * 2.0, yaw


def jpeg(frame: np.ndarray) -> np.ndarray:
    return cv2.imencode(".jpg", frame[..., ::-1])[1].reshape(-1)


def write_recon_hdf5(path: Path, num_frames: int = 8, *, void: bool = False) -> Path:
    position, yaw = recon_poses(num_frames)
    frames = [jpeg(picture(i, 48, 64)) for i in range(num_frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if void:  # fixed-length bytes, padded with zeros
            longest = max(map(len, frames))
            padded = [np.pad(frame, (0, longest - len(frame))) for frame in frames]
            data = np.stack(padded).view(f"V{longest}").reshape(-1)
            file.create_dataset("images/rgb_left", data=data)
        else:
            kind = h5py.vlen_dtype(np.uint8)
            images = file.create_dataset("images/rgb_left", (num_frames,), dtype=kind)
            for index, frame in enumerate(frames):
                images[index] = frame
        file["jackal/position"] = np.pad(position, ((0, 0), (0, 1)), constant_values=0.25)
        file["jackal/yaw"] = yaw
        file["commands/linear_velocity"] = np.zeros(num_frames)
    return path


def write_recon_folder(path: Path, num_frames: int = 8) -> Path:
    position, yaw = recon_poses(num_frames)
    path.mkdir(parents=True)
    for index in range(num_frames):
        (path / f"{index}.jpg").write_bytes(jpeg(picture(index, 48, 64)).tobytes())
    (path / "traj_data.pkl").write_bytes(pickle.dumps({"position": position, "yaw": yaw}))
    return path


def csgo_actions(num_frames: int) -> list[CsgoAction]:
    return [
        CsgoAction(frozenset({"w"} if i % 2 else {"a", "fire"}), i % 23, i % 15)
        for i in range(num_frames)
    ]


def write_csgo(path: Path, num_frames: int = 12, size: tuple[int, int] = (150, 280)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for index, row in enumerate(encode(csgo_actions(num_frames))):
            file[f"frame_{index}_x"] = picture(index, *size)[..., ::-1]
            file[f"frame_{index}_y"] = row.astype(np.float64)
    return path


def rt1_action(step: int) -> dict[str, np.ndarray]:
    """Entry j of the joined vector is (100 step + j) / 1000, terminate_episode's are 0 or 1."""
    action: dict[str, np.ndarray] = {}
    column = 0
    for key, (names, _, _) in RT1_FIELDS.items():
        values = (100 * step + column + np.arange(len(names))) / 1000
        action[key] = values.astype(np.float32)
        column += len(names)
    action["terminate_episode"] = np.array([0, 1, 0], np.int32)
    # The data set lists them in an order of its own.
    return dict(sorted(action.items(), key=lambda item: item[0][::-1]))


def rt1_steps(num_steps: int = 6, size: tuple[int, int] = (256, 320)) -> list[dict]:
    return [
        {
            "action": rt1_action(index),
            "observation": {
                "image": picture(index, *size),
                "natural_language_instruction": b"pick the can",
                "natural_language_embedding": np.zeros(512, np.float32),
            },
            "is_first": np.bool_(index == 0),
            "is_last": np.bool_(index == num_steps - 1),
            "reward": np.float32(0),
        }
        for index in range(num_steps)
    ]


def flat_steps(num_steps: int = 5, scale: float = 1.0, *, dark: bool = False) -> list[dict]:
    """Bridge's layout: several cameras, of which image_1 may be missing (black)."""
    return [
        {
            "action": (scale * (index + np.arange(7) / 10)).astype(np.float32),
            "observation": {
                "image_0": picture(index, 64, 64),
                "image_1": np.zeros((64, 64, 3), np.uint8) if dark else picture(index, 64, 64),
                "state": np.zeros(7, np.float32),
            },
        }
        for index in range(num_steps)
    ]


class RecordedSteps:
    """What a tf.data.Dataset of steps looks like from outside."""

    def __init__(self, steps: list[dict]) -> None:
        self.steps = steps

    def as_numpy_iterator(self) -> Iterator[dict]:
        return iter(self.steps)
