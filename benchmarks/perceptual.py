"""Does the perceptual distance follow how far the camera has moved? Beside PSNR and SSIM.

    python benchmarks/perceptual.py

Pairs of views 1 to 8 steps apart in the held-out episodes of the worlds that settings are chosen
on (collected in runs/KIND/tune where they are missing). Printed is Spearman's rank correlation with
the displacement, of which a radian counts as a metre, and a bootstrap 95 % interval over pairs.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import spearmanr

from training.evaluation.perceptual import SIZE, perceptual_distance
from training.evaluation.world_sets import set_episodes
from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.geometry import planar, relative_motion
from v2w_core.images import resize_frames
from v2w_core.metrics.image import psnr, ssim
from v2w_core.spec import ObservationSpec

PAIRS_AN_EPISODE, MOST_STEPS, NUM_RESAMPLES = 25, 8, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--world", default="rooms", help="rooms or maze (default: %(default)s)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    first, second, moved = [], [], []
    for path in list_episodes(set_episodes(args.world, "tune")):
        episode = read_episode(path)
        frames = resize_frames(episode.frames(), ObservationSpec(SIZE, SIZE))
        start = rng.integers(0, len(episode) - MOST_STEPS, PAIRS_AN_EPISODE)
        end = start + rng.integers(1, MOST_STEPS + 1, PAIRS_AN_EPISODE)
        poses = planar(episode.poses)
        first.append(frames[start])
        second.append(frames[end])
        moved.append(relative_motion(poses[start], poses[end]))
    a, b, motion = (np.concatenate(parts) for parts in (first, second, moved))
    away = np.hypot(motion[:, 0], motion[:, 1]) + np.abs(motion[:, 2])
    scores = {"ViewPairs": perceptual_distance(a, b), "PSNR": -psnr(a, b), "SSIM": -ssim(a, b)}
    for name, score in scores.items():
        samples = [rng.integers(0, len(away), len(away)) for _ in range(NUM_RESAMPLES)]
        found = [spearmanr(score[index], away[index])[0] for index in samples]
        low, high = np.percentile(found, (2.5, 97.5))
        print(f"{name:>10} {spearmanr(score, away)[0]:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
