"""Makes docs/images/way_*.png: the path of a drive with a right heading, and with one that is off.

python docs/recording_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from v2w_core.data.bags.poses import integrate_twist
from v2w_core.media.pictures import write_png
from v2w_core.media.way import draw_way

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    seconds = np.arange(600) * 0.05
    turning = 0.5 * np.sin(0.45 * seconds) + 0.08
    speed = np.column_stack([np.full(600, 0.6), np.zeros(600), turning])
    poses = integrate_twist(seconds, speed, held=False)
    write_png(IMAGES / "way_right.png", draw_way(poses))
    poses[:, 3] -= np.pi / 2
    write_png(IMAGES / "way_sideways.png", draw_way(poses))


if __name__ == "__main__":
    main()
