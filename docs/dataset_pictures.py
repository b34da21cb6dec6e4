"""Makes docs/images/data_*.jpg: a made-up episode of each domain, and what its model sees of it.

    python docs/dataset_pictures.py

The frames are the maze simulator's (RECON, CS:GO) or drawn (RT-1); nothing of the real data sets.
They go through the layouts' real converters.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import h5py
import numpy as np

from training.envs.doom import DoomMazeEnv
from v2w_core.data.convert import convert
from v2w_core.data.csgo_actions import MOUSE_X_STILL, CsgoAction, decode, encode
from v2w_core.data.domains import CSGO_OBSERVATION, RECON_OBSERVATION, RT1_FIELDS, RT1_OBSERVATION
from v2w_core.data.episode import Episode, read_episode
from v2w_core.data.sources.csgo import open_csgo
from v2w_core.data.sources.recon import open_recon
from v2w_core.data.sources.recording import RecordingSet
from v2w_core.data.sources.rlds import open_episodes
from v2w_core.files import replaced
from v2w_core.images import encode_image, resize_frames
from v2w_core.media.pictures import contact_sheet
from v2w_core.spec import ObservationSpec

IMAGES = Path(__file__).parent / "images"
NUM_FRAMES, SHOWN = 13, (0, 4, 8, 12)
START = (3.71, 1.27, 0.2)


def drive(size: tuple[int, int], step: tuple[float, float, float]) -> tuple[list, list]:
    """Frames [H, W, 3] and poses (x, y, yaw) of the same step again and again."""
    env = DoomMazeEnv(3, size)
    observation, _ = env.reset(options={"pose": START})
    seen = [observation, *(env.step(step)[0] for _ in range(NUM_FRAMES - 1))]
    env.close()
    return [item["image"].copy() for item in seen], [item["pose"] for item in seen]


def recon(folder: Path) -> RecordingSet:
    frames, poses = drive((480, 640), (0.15, 0.0, 0.09))
    with h5py.File(folder / "jackal.hdf5", "w") as file:
        kind = h5py.vlen_dtype(np.uint8)
        images = file.create_dataset("images/rgb_left", (len(frames),), dtype=kind)
        for index, frame in enumerate(frames):
            images[index] = np.frombuffer(encode_image(frame), np.uint8)
        file["jackal/position"] = np.pad(np.array(poses)[:, :2], ((0, 0), (0, 1)))
        file["jackal/yaw"] = np.array(poses)[:, 2]
    return open_recon(folder / "jackal.hdf5")


def csgo(folder: Path) -> RecordingSet:
    frames, _ = drive((210, 280), (0.1, 0.0, 0.06))
    action = CsgoAction(frozenset({"w"}), mouse_x=MOUSE_X_STILL - 3)
    with h5py.File(folder / "csgo.hdf5", "w") as file:
        for index, row in enumerate(encode([action] * len(frames))):
            file[f"frame_{index}_x"] = frames[index][30:180, :, ::-1]
            file[f"frame_{index}_y"] = row
    return open_csgo(folder / "csgo.hdf5")


def table_top(reach: float) -> np.ndarray:
    """A drawn arm over a table; reach from 0 to 1 moves it to the can."""
    image = np.full((256, 320, 3), (196, 190, 180), np.uint8)
    cv2.rectangle(image, (0, 120), (320, 256), (150, 112, 74), -1)
    cv2.rectangle(image, (60, 150), (90, 185), (60, 110, 190), -1)
    cv2.circle(image, (130, 200), 14, (220, 170, 40), -1, cv2.LINE_AA)
    cv2.rectangle(image, (226, 158), (250, 204), (190, 40, 40), -1)
    cv2.ellipse(image, (238, 158), (12, 5), 0, 0, 360, (215, 215, 215), -1, cv2.LINE_AA)
    hand = np.array([150 + 88 * reach, 60 + 74 * reach])
    elbow = np.array([210.0, 20.0 + 10 * reach])
    for start, end in (((300, -10), elbow), (elbow, hand)):
        line = tuple(int(v) for v in start), tuple(int(v) for v in end)
        cv2.line(image, *line, (70, 70, 76), 20, cv2.LINE_AA)
    for side in (-1, 1):
        finger = hand + np.array([side * (16 - 5 * reach), 30])
        line = tuple(int(v) for v in hand), tuple(int(v) for v in finger)
        cv2.line(image, *line, (35, 35, 40), 7, cv2.LINE_AA)
    return image


def rt1(_: Path) -> RecordingSet:
    still = {key: np.zeros(len(names), np.float32) for key, (names, _, _) in RT1_FIELDS.items()}
    action = {**still, "world_vector": np.float32([0.05, 0.0, -0.04])}
    steps = [
        {"observation": {"image": table_top(index / (NUM_FRAMES - 1))}, "action": action}
        for index in range(NUM_FRAMES)
    ]
    return open_episodes([steps], 1, name="drawn", split="train")


def picture(name: str, episode: Episode, observation: ObservationSpec, action: str) -> None:
    recorded = episode.frames()[list(SHOWN)]
    prepared = resize_frames(recorded, observation)
    height = 160
    rows = []
    for frames in (recorded, prepared):
        width = round(frames.shape[2] * height / frames.shape[1])
        rows.append(resize_frames(frames, ObservationSpec(height, width)))
    size = f"{recorded.shape[1]}x{recorded.shape[2]}"
    numbers = ", ".join(str(index) for index in SHOWN)
    labels = [f"recorded, {size}, frames {numbers}", f"as the model sees them, 320x512; {action}"]
    with replaced(IMAGES / f"data_{name}.jpg") as path:
        path.write_bytes(encode_image(contact_sheet(rows, labels), quality=88))


def main() -> None:
    domains = {
        "rt1": (rt1, RT1_OBSERVATION),
        "recon": (recon, RECON_OBSERVATION),
        "csgo": (csgo, CSGO_OBSERVATION),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for domain, (make, observation) in domains.items():
            (path,) = convert(make(folder), folder, domain, image_format="png").paths
            episode = read_episode(path)
            if domain == "csgo":
                (first,) = decode(episode.actions[:1])
                action = f"{', '.join(sorted(first.held))} held, mouse_x bin {first.mouse_x}"
            else:
                row, spec = episode.actions[0], episode.action_spec
                moved = zip(spec.names, row, spec.units, strict=True)
                action = ", ".join(f"{n} {v:+.2f} {u}" for n, v, u in moved if abs(v) > 0.005)
            picture(domain, episode, observation, f"first action {action}")


if __name__ == "__main__":
    main()
