"""How different two views look to a small network that knows how a robot's camera moves.

The network (v2w calls it ViewPairs) was trained to tell from two views of an episode how the robot
moved from one to the other, in simulated worlds that no figure is reported on. It shares nothing
with the world models that it judges. Its features are compared layer by layer as in LPIPS (Zhang et
al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, without
learned weights). On views that no training has seen it follows better than PSNR how far the camera
has moved: ``python benchmarks/perceptual.py``.

    python -m training.evaluation.perceptual      trains it again and replaces the weights
"""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.dataset import Clips, open_episodes, to_images
from training.goal_distance import episode_of_frames, episode_poses
from v2w_core.files import replaced
from v2w_core.geometry import relative_motion
from v2w_core.images import resize_frames
from v2w_core.progress import progress
from v2w_core.spec import ObservationSpec

WEIGHTS = Path(__file__).with_name("view_pairs.safetensors")
SIZE = 64
WIDTHS = (3, 16, 32, 64, 64)
#: Two views of a pair are at most this many steps apart.
MOST_STEPS = 8
#: Units of the displacement that is learned [m, m, rad].
SCALE = (1.0, 1.0, 0.5)
#: Of the training, some five minutes of one core.
NUM_STEPS, BATCH_SIZE, LEARNING_RATE = 4000, 64, 2e-3


class ViewEncoder(nn.Module):
    """Features of views [B, 3, 64, 64] in [-1, 1] after each of four convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU())
            for before, after in itertools.pairwise(WIDTHS)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of 32x32, 16x16, 8x8 and 4x4 cells."""
        found = []
        for layer in self.layers:
            images = layer(images)
            found.append(images)
        return found


@lru_cache(maxsize=1)
def shipped_encoder() -> ViewEncoder:
    """The encoder with the weights that v2w ships."""
    encoder = ViewEncoder()
    encoder.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return encoder.eval()


@torch.inference_mode()
def perceptual_distance(
    first: NDArray[np.uint8], second: NDArray[np.uint8], encoder: ViewEncoder | None = None
) -> NDArray[np.float64]:
    """Distance of views uint8 [N, H, W, 3] in pairs, float64 [N]; 0 for the same, lower is better.

    In each layer the features of each cell have length 1; the distance is the mean over layers of
    the mean over cells of their squared difference (0 to 4).

    Args:
        encoder: None: the shipped one.
    """
    encoder = encoder or shipped_encoder()
    observation = ObservationSpec(SIZE, SIZE)
    features = [encoder(to_images(resize_frames(views, observation))) for views in (first, second)]
    total = torch.zeros(len(first), dtype=torch.float64)
    for a, b in zip(*features, strict=True):
        unit = functional.normalize(a.double(), dim=1) - functional.normalize(b.double(), dim=1)
        total += unit.square().sum(dim=1).mean(dim=(1, 2))
    return (total / len(encoder.layers)).numpy()


def train(clips: Clips, num_steps: int = NUM_STEPS, seed: int = 0) -> ViewEncoder:
    """An encoder that was trained on pairs of views of 64x64; the same seed gives the same one.

    The displacement between two views of an episode, at most 8 steps apart in either direction, is
    regressed from both views' features (smooth L1); the regression is thrown away.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ViewEncoder()
        cells = WIDTHS[-1] * (SIZE // 16) ** 2
        head = nn.Sequential(nn.Linear(2 * cells, 128), nn.SiLU(), nn.Linear(128, len(SCALE)))
    poses = episode_poses(clips)
    first, last = episode_of_frames(clips.starts)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, num_steps)
    bar = progress(range(num_steps), desc="view pairs", unit="step")
    for _ in bar:
        now = torch.randint(len(poses), (BATCH_SIZE,), generator=generator)
        ahead = torch.randint(-MOST_STEPS, MOST_STEPS + 1, (BATCH_SIZE,), generator=generator)
        other = torch.minimum(torch.maximum(now + ahead, first[now]), last[now])
        pairs = [encoder(to_images(clips.frames[i.numpy()]))[-1].flatten(1) for i in (now, other)]
        moves = relative_motion(poses[now.numpy()], poses[other.numpy()])
        wanted = torch.from_numpy(moves / SCALE).float()
        loss = functional.smooth_l1_loss(head(torch.cat(pairs, dim=1)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.note(f"loss {loss.item():.4f}")
    return encoder.eval()


def main() -> None:
    """Trains the network on episodes of buildings and mazes, which are collected if need be."""
    from training.evaluation.world_sets import view_pair_episodes

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file (default: %(default)s)")
    args = parser.parse_args()
    files = open_episodes(view_pair_episodes())
    encoder = train(files.in_memory(ObservationSpec(SIZE, SIZE)))
    half = {name: value.half() for name, value in encoder.state_dict().items()}
    with replaced(args.out) as temporary:
        save_file(half, temporary, metadata={"about": "ViewPairs, see perceptual.py"})
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
