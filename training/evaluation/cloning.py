"""Behaviour cloning: a small network that looks at a goal image and acts as the recordings did.

It is the baseline that a planner with a world model must beat: the same episodes, no imagination.
The goal of a training pair is a later frame of the same episode; the network learns the action that
was recorded on the way (Ghosh et al., "Learning to reach goals via iterated supervised learning",
ICLR 2021), and whether the robot is there already, which ends a drive.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from planners.goals import Arrival
from planners.mpc import Decision
from planners.observation import Observation
from training.dataset import Clips, EpisodeFiles, open_episodes, to_images
from training.evaluation.goals import REACHED_M, REACHED_RAD
from training.goal_distance import episode_of_frames, episode_poses
from v2w_core.files import replaced
from v2w_core.geometry import wrap_angle
from v2w_core.images import resize_frames
from v2w_core.progress import progress
from v2w_core.spec import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class CloningSettings:
    """Settings of the training; the defaults take some six minutes of one core.

    Attributes:
        size: side of the frames in pixels, a multiple of 16.
        channels: of the first convolution.
        most_steps: the goal is at most this many steps later.
        near_probability: share of pairs whose goal is at most 2 steps later, 0 included.
        max_episodes: at most this many are read, spread evenly over those that there are.
    """

    size: int = 64
    channels: int = 32
    most_steps: int = 20
    near_probability: float = 0.25
    num_steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 1e-3
    max_episodes: int = 300
    seed: int = 0


class ClonedPolicy(nn.Module):
    """The frame before, the newest frame and the goal image [B, 9, S, S] -> action and "there".

    The output [B, A + 1] is the action in normalised units and the logit of being at the goal.
    """

    def __init__(self, action_dim: int, settings: CloningSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = [9, *(settings.channels * factor for factor in (1, 2, 4, 4))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        flat = widths[-1] * (settings.size // 16) ** 2
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(flat, 256), nn.SiLU(), nn.Linear(256, action_dim + 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(images)
        return output


@dataclass(frozen=True)
class CloningController:
    """Drives as the policy says, and stops when it is more likely there than not.

    Attributes:
        goal: image [1, 3, S, S] in [-1, 1].
    """

    policy: ClonedPolicy
    spec: ActionSpec
    goal: Tensor

    @classmethod
    def to(
        cls, policy: ClonedPolicy, spec: ActionSpec, goal_image: NDArray[np.uint8]
    ) -> CloningController:
        """A controller that leads to what a goal image uint8 [H, W, 3] shows."""
        return cls(policy, spec, _images(policy, goal_image[None]))

    @torch.inference_mode()
    def decide(self, observation: Observation) -> Decision:
        """The next action [1, A]; none where it believes to have arrived."""
        seen = _images(self.policy, observation.frames[-2:])
        output = self.policy(torch.cat([seen[:1], seen[-1:], self.goal], dim=1))[0]
        there = float(output[-1].sigmoid())
        if there > 0.5:
            arrival = Arrival(True, 1.0 - there, "the view is the goal's, by what it has learned")
            return Decision(np.zeros((0, self.spec.dim), np.float32), arrival, None)
        action = self.spec.clip(self.spec.denormalise(output[None, :-1].numpy()))
        return Decision(action, Arrival(False, 1.0 - there), None)


def _images(policy: ClonedPolicy, frames: NDArray[np.uint8]) -> Tensor:
    size = policy.settings.size
    return to_images(resize_frames(frames, ObservationSpec(size, size)))


def train(clips: Clips, settings: CloningSettings) -> ClonedPolicy:
    """A policy trained on the clips, whose frames have the settings' size; same seed, same policy.

    The loss is the absolute error of the normalised action (none where the goal is the frame
    itself), plus the cross-entropy of being within 0.4 m and 20 degrees of the goal.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        policy = ClonedPolicy(clips.action_spec.dim, settings)
    actions = torch.from_numpy(clips.action_spec.normalise(clips.actions))
    poses = episode_poses(clips)
    first, last = episode_of_frames(clips.starts)
    usable = torch.nonzero((torch.arange(len(last)) > first) & (torch.arange(len(last)) < last))
    optimizer = torch.optim.AdamW(policy.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.num_steps
    )
    bar = progress(range(settings.num_steps), desc="behaviour cloning", unit="step")
    for _ in bar:
        now, goal = _pairs(usable[:, 0], last, settings, generator)
        parts = [to_images(clips.frames[index.numpy()]) for index in (now - 1, now, goal)]
        output = policy(torch.cat(parts, dim=1))
        moves = (goal > now).float()
        error = (output[:, :-1] - actions[now]).abs().mean(dim=1)
        there = _there(poses, now.numpy(), goal.numpy())
        entropy = functional.binary_cross_entropy_with_logits(output[:, -1], there)
        loss = (error * moves).sum() / moves.sum().clamp(min=1) + entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.note(f"loss {loss.item():.3f}")
    return policy.eval()


def _pairs(
    usable: Tensor, last: Tensor, settings: CloningSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices [B] of frames and of goals, which are later frames of the same episodes."""
    shape = (settings.batch_size,)
    now = usable[torch.randint(len(usable), shape, generator=generator)]
    near = torch.rand(shape, generator=generator) < settings.near_probability
    short = torch.randint(0, 3, shape, generator=generator)
    long = torch.randint(1, settings.most_steps + 1, shape, generator=generator)
    return now, torch.minimum(now + torch.where(near, short, long), last[now])


def _there(poses: NDArray[np.float64], now: NDArray[np.int64], goal: NDArray[np.int64]) -> Tensor:
    """1 for frames within the tolerances of their goals, float [B]."""
    away = poses[goal] - poses[now]
    metres, radians = np.hypot(away[:, 0], away[:, 1]), np.abs(wrap_angle(away[:, 2]))
    return torch.from_numpy((metres <= REACHED_M) & (radians <= REACHED_RAD)).float()


def trained_policy(
    path: Path, folders: Sequence[Path], spec: ActionSpec, settings: CloningSettings
) -> ClonedPolicy:
    """The policy in a file of weights; where it is not there, it is trained on the episodes.

    Weights that were trained with other settings or on other episodes are replaced.

    Raises:
        V2WError: the folders have no episodes, mixed ones, or of another action space.
    """
    files = open_episodes(list(folders), action_spec=spec)
    step = max(1, -(-len(files.episodes) // settings.max_episodes))
    files = EpisodeFiles(files.episodes[::step])
    names = [f"{episode.path.parent.name}/{episode.path.name}" for episode in files.episodes]
    about = json.dumps({"settings": asdict(settings), "episodes": names}, sort_keys=True)
    policy = ClonedPolicy(spec.dim, settings)
    if _about(path) == about:
        policy.load_state_dict(load_file(path))
        return policy.eval()
    policy = train(files.in_memory(ObservationSpec(settings.size, settings.size)), settings)
    with replaced(path) as temporary:
        save_file(policy.state_dict(), temporary, metadata={"about": about})
    return policy


def _about(path: Path) -> str | None:
    """What the weights in a file were trained with; None for no such file, or a damaged one."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("about")
    except (OSError, SafetensorError):
        return None
