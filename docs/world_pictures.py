"""Makes docs/images/worlds.jpg: three buildings from above, and what the camera sees in each.

python docs/world_pictures.py
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.envs.doom import DoomMazeEnv, Pose
from v2w_core.files import replaced
from v2w_core.images import encode_image
from v2w_core.media.pictures import contact_sheet

IMAGES = Path(__file__).parent / "images"
SEEDS = (0, 1, 2)
#: Width and height of the maps, and number and height of the views below each.
SIDE, NUM_VIEWS = 480, 3


def views_of(env: DoomMazeEnv, seed: int) -> list[Pose]:
    """Random places, 4 m apart, from which the robot could drive 2.5 m ahead."""
    rng = np.random.default_rng(seed)
    found: list[Pose] = []
    while len(found) < NUM_VIEWS:
        x, y, yaw = env.sample_free_pose(rng)
        if any(math.dist(pose[:2], (x, y)) < 4.0 for pose in found):
            continue
        ahead = x + 2.5 * np.cos(yaw), y + 2.5 * np.sin(yaw)
        if env.is_free(*ahead) and not env.straight_line_blocked((x, y), ahead):
            found.append((x, y, yaw))
    return found


def column(env: DoomMazeEnv, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The map [SIDE, SIDE, 3] with numbered arrows, and the views side by side."""
    env.enter(seed, "rooms")
    top = env.top_down_map(SIDE / env.world.size_m[0])
    image = np.ascontiguousarray(top.image)
    views = []
    for number, pose in enumerate(views_of(env, seed), start=1):
        x, y, yaw = pose
        tip = x + 1.2 * np.cos(yaw), y + 1.2 * np.sin(yaw)
        at, to = (tuple(map(int, p)) for p in np.round(top.to_pixels([(x, y), tip])))
        cv2.arrowedLine(image, at, to, (255, 255, 255), 6, cv2.LINE_AA, tipLength=0.4)
        cv2.arrowedLine(image, at, to, (20, 20, 20), 3, cv2.LINE_AA, tipLength=0.4)
        cv2.circle(image, at, 10, (20, 20, 20), -1, cv2.LINE_AA)
        place = at[0] - 4, at[1] + 5
        cv2.putText(image, str(number), place, 0, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        views.append(env.teleport(*pose)["image"])
    return image, np.concatenate(views, axis=1)


def main() -> None:
    env = DoomMazeEnv(0, (120, 160), world_name="rooms")
    try:
        columns = [column(env, seed) for seed in SEEDS]
    finally:
        env.close()
    rows = [np.stack([item[part] for item in columns]) for part in range(2)]
    seeds = ", ".join(str(seed) for seed in SEEDS)
    labels = [f"worlds of seeds {seeds} from above", "what the camera sees at 1, 2 and 3"]
    with replaced(IMAGES / "worlds.jpg") as path:
        path.write_bytes(encode_image(contact_sheet(rows, labels), quality=88))


if __name__ == "__main__":
    main()
