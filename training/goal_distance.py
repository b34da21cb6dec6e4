"""Training of the goal distance on recorded and imagined views with poses from odometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.batch_rollout import imagine_latents
from training.dataset import Clips, draw_windows
from training.tasks import EncodedClips
from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions
from v2w_core.progress import progress
from v2w_core.world_model import WorldModel


@dataclass(frozen=True)
class PairsConfig:
    """Distribution of the training pairs.

    Attributes:
        num_windows: number of training windows whose horizon is imagined.
        imagined: share of the pairs with an imagined view; goals are always recorded.
        near_frames: standard deviation of the distance between view and goal in frames, for half
            of the pairs; the goals of the others are uniform over the episode.
        noise: maximum standard deviation of the noise added to views.
    """

    num_windows: int = 4000
    imagined: float = 0.75
    near_frames: float = 6.0
    noise: float = 0.3


class GoalDistanceTask:
    """Task with a smooth L1 loss on the logarithm of the distance; needs a trained world model."""

    name = "goal distance"

    def __init__(
        self,
        model: WorldModel,
        train: Clips,
        val: Clips,
        batch_size: int,
        pairs: PairsConfig,
        encoded: EncodedClips | None = None,
    ) -> None:
        if model.goal_distance is None:
            raise V2WError("stages: goal_distance", "a planar action space (dx, dy, dyaw)",
                           model.config.action.names)  # fmt: skip
        self.model = model
        self.module = model.goal_distance
        self.batch_size = batch_size
        self.pairs = pairs
        self._encoded = encoded or EncodedClips(model, train), EncodedClips(model, val)

    @cached_property
    def train(self) -> Views:
        """Training views, imagined on first use, as a finished stage does not need them."""
        return Views(self._encoded[0], self.pairs.num_windows, seed=0)

    @cached_property
    def val(self) -> Views:
        return Views(self._encoded[1], max(self.pairs.num_windows // 16, 8), seed=1)

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        views, goals, distance = self.train.draw(self.batch_size, self.pairs, generator)
        noise = torch.randn(views.shape, generator=generator)
        spread = self.pairs.noise * torch.rand(len(views), 1, 1, 1, generator=generator)
        device = self.model.device
        found = self.module((views + spread * noise).to(device), goals.to(device))
        return F.smooth_l1_loss(found, distance.to(device), beta=0.3), {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute error and rank correlation on imagined held-out views, and for reference
        the rank correlation of the squared difference of latents."""
        generator = torch.Generator().manual_seed(0)
        only_imagined = PairsConfig(imagined=1.0, near_frames=self.pairs.near_frames)
        views, goals, distance = self.val.draw(2048, only_imagined, generator)
        found = self.module(views.to(self.model.device), goals.to(self.model.device)).cpu()
        difference = (views - goals).square().mean(dim=(1, 2, 3))
        return {
            "absolute_error": float((found - distance).abs().mean()),
            "rank_correlation": rank_correlation(found, distance),
            "rank_correlation_latents": rank_correlation(difference, distance),
        }


class Views:
    """Recorded and imagined views (latents) with their poses."""

    def __init__(self, encoded: EncodedClips, num_windows: int, seed: int) -> None:
        model, clips = encoded.model, encoded.clips
        self.config = model.config
        self.latents = encoded.latents
        self.poses = torch.from_numpy(episode_poses(clips)).float()
        self.first, self.last = episode_of_frames(clips.starts)
        starts = clips.window_starts(model.config.num_frames)
        generator = torch.Generator().manual_seed(seed)
        index = draw_windows(starts, num_windows, model.config.num_frames, generator)
        actions = torch.from_numpy(model.config.action.normalise(clips.actions))
        self.imagined, self.imagined_at = imagine_windows(model, self.latents, actions, index, seed)

    def draw(
        self, count: int, pairs: PairsConfig, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random views and goals [count, C, h, w], and the distances [count] of their poses."""
        recorded = torch.randint(len(self.latents), (count,), generator=generator)
        chosen = torch.randint(len(self.imagined), (count,), generator=generator)
        is_imagined = torch.rand(count, generator=generator) < pairs.imagined
        at = torch.where(is_imagined, self.imagined_at[chosen], recorded)
        views = torch.where(
            is_imagined[:, None, None, None], self.imagined[chosen], self.latents[recorded]
        )
        first, last = self.first[at], self.last[at]
        near = at + (torch.randn(count, generator=generator) * pairs.near_frames).round().long()
        anywhere = first + (torch.rand(count, generator=generator) * (last - first + 1)).long()
        is_near = torch.rand(count, generator=generator) < 0.5
        goal = torch.where(is_near, near, anywhere).clamp(min=first, max=last)
        difference = self.poses[goal] - self.poses[at]
        turn = torch.remainder(difference[:, 2] + torch.pi, 2 * torch.pi) - torch.pi
        assert self.config.goal_distance is not None
        distance = self.config.goal_distance.between(difference[:, :2].norm(dim=1), turn)
        return views, self.latents[goal], distance


def episode_poses(clips: Clips) -> NDArray[np.float64]:
    """Poses [N, 3] of all frames; each episode starts at (0, 0, 0)."""
    motion = clips.motion
    if motion is None:
        motion = clips.actions[:, list(clips.action_spec.planar_indices())]
    spans = zip(clips.starts[:-1], clips.starts[1:], strict=True)
    return np.concatenate([integrate_actions(motion[a : b - 1], (0.0, 0.0, 0.0)) for a, b in spans])


def episode_of_frames(starts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Indices of the first and the last frame [N] of each frame's episode."""
    lengths = np.diff(starts)
    first, last = np.repeat(starts[:-1], lengths), np.repeat(starts[1:] - 1, lengths)
    return torch.from_numpy(first), torch.from_numpy(last)


@torch.no_grad()
def imagine_windows(
    model: WorldModel, latents: Tensor, actions: Tensor, index: Tensor, seed: int, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Imagines the horizon of each window under the recorded actions.

    Args:
        model: the world model.
        latents: [N, C, h, w], latents of all frames, on the CPU.
        actions: [N, A], normalised actions of all frames, on the CPU.
        index: [W, num_frames], frame indices of the windows.
        seed: seed of the noise.
        chunk: number of windows computed at once.

    Returns:
        latents [W * horizon, C, h, w], and their frame indices [W * horizon].
    """
    history = model.config.num_history
    generator = torch.Generator().manual_seed(seed)
    views = [
        imagine_latents(model, latents[window][:, :history], actions[window], generator)
        for window in progress(
            index.split(chunk), desc="imagining", unit=f" x{chunk}", transient=True
        )
    ]
    return torch.cat(views).flatten(0, 1), index[:, history:].flatten()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])
