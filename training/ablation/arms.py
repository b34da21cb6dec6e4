"""Arms of the transfer ablation: their initial weights and their fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.dataset import draw_windows
from training.latent_video import LatentVideo
from v2w_core.config import WorldModelConfig
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.diffusion.training_loss import Trained, training_loss
from v2w_core.models.conditioning import shift_actions
from v2w_core.transfer.causal_transfer import causal_model
from v2w_core.transfer.weight_transfer import TransferMode
from v2w_core.world_model import WorldModel

#: Action dropout of the guided arms (Vid2World section 4.2); the other arms have none.
ACTION_DROPOUT = 0.2


@dataclass(frozen=True)
class Arm:
    """A way to obtain a causal, action-conditioned model.

    Attributes:
        transfer: transfer mode of the temporal kernels; None: trained from scratch.
        guided: whether it is trained with action dropout and sampled with action guidance.
    """

    transfer: TransferMode | None
    guided: bool

    @property
    def name(self) -> str:
        return f"{self.transfer or 'scratch'}{'_guided' if self.guided else ''}"

    @property
    def title(self) -> str:
        return f"{self.transfer or 'from scratch'}{', guided' if self.guided else ''}"

    @property
    def objective(self) -> ObjectiveConfig:
        """Diffusion forcing as in the paper, with independent noise levels for all frames."""
        return ObjectiveConfig(
            past_probability=0.0,
            blind_probability=0.0,
            action_dropout=ACTION_DROPOUT if self.guided else 0.0,
            weighting="velocity",
        )


ARMS = (
    Arm("shift", False),
    Arm("masked", False),
    Arm("extrapolative", False),
    Arm("shift", True),
    Arm("masked", True),
    Arm("extrapolative", True),
    Arm(None, True),
)


def build_arm(arm: Arm, base: WorldModel, config: WorldModelConfig, seed: int) -> WorldModel:
    """The causal model before fine-tuning.

    Args:
        arm: the arm.
        base: the non-causal model without actions, whose autoencoder all arms use.
        config: configuration of the causal model.
        seed: seed of the new layers: the action layers, or all layers from scratch.
    """
    if arm.transfer is not None:
        return causal_model(base, config, arm.transfer, seed).to(base.device)
    model = WorldModel.build(config, seed)
    model.autoencoder.load_state_dict(base.autoencoder.state_dict())
    return model.to(base.device)


@dataclass(frozen=True)
class Windows:
    """Held-out clips with the recorded actions and with another episode's.

    Attributes:
        latents: [W, T, C, h, w].
        actions, other_actions: [W, T, A] normalised; actions[:, t] leads from frame t to t + 1.
            The history's actions are the recorded ones in both.
        frames: [W, T], indices of the frames in the video.
    """

    latents: Tensor
    actions: Tensor
    other_actions: Tensor
    frames: Tensor

    @classmethod
    def evenly_spaced(
        cls,
        video: LatentVideo,
        starts: NDArray[np.int64],
        count: int,
        config: WorldModelConfig,
        offset: float = 0.0,
    ) -> Windows:
        """``count`` evenly spaced windows, all shifted by ``offset`` (0 to 1) of their spacing."""
        at = ((torch.arange(count) + offset) * len(starts) / count).long()
        frames = torch.from_numpy(starts)[at][:, None] + torch.arange(config.num_frames)[None]
        actions = video.actions[frames]
        other = actions.roll(count // 2, dims=0)  # half the episodes away
        other[:, : config.num_history - 1] = actions[:, : config.num_history - 1]
        return cls(video.latents[frames], actions, other, frames)


class FineTuningTask:
    """Fine-tuning of an arm with diffusion forcing, validated by the error of the next frame."""

    name = "world model"

    def __init__(
        self,
        model: WorldModel,
        arm: Arm,
        train: LatentVideo,
        starts: NDArray[np.int64],
        batch_size: int,
        held_out: Windows,
    ) -> None:
        self.model = model
        self.module: nn.Module = model.unet
        self.objective = arm.objective
        self.train, self.starts = train, starts
        self.batch_size = batch_size
        self.held_out = held_out

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        model, window = self.model, self.model.config.num_frames
        index = draw_windows(self.starts, self.batch_size, window, generator)
        latents = self.train.latents[index].to(model.device)
        actions = self.train.actions[index].to(model.device)
        loss = training_loss(
            Trained(model.unet, model.schedule),
            latents,
            actions,
            self.objective,
            generator,
            progress,
        )
        return loss, {}

    def validate(self) -> dict[str, float]:
        windows = self.held_out
        right = next_frame_error(self.model, windows.latents, windows.actions)
        other = next_frame_error(self.model, windows.latents, windows.other_actions)
        return {"error": right, "action_gap": other - right}


@torch.no_grad()
def next_frame_error(model: WorldModel, latents: Tensor, actions: Tensor, chunk: int = 32) -> float:
    """Mean squared error of next frames' latents, predicted in one step and without guidance.

    Every frame after the first ``num_history`` is predicted from the recorded frames before it at
    the history noise level. The noise is the same in every call.

    Args:
        model: the causal model.
        latents, actions: as in :class:`Windows`.
        chunk: number of windows computed at once.
    """
    schedule, device = model.schedule, model.device
    history = model.config.num_history
    generator = torch.Generator().manual_seed(0)
    errors = []
    for part, acts in zip(latents.split(chunk), actions.split(chunk), strict=True):
        clean, aligned = part.to(device), shift_actions(acts.to(device))
        past_noise, noise = (
            torch.randn(part.shape, generator=generator).to(device) for _ in range(2)
        )
        low = torch.full(part.shape[:2], model.config.sampling.history_level, device=device)
        high = torch.full_like(low, schedule.num_levels - 1)
        action_mask = torch.ones_like(low, dtype=torch.bool)
        action_mask[:, 0] = False
        past = schedule.add_noise(clean, past_noise, low)
        _, velocity = model.unet.forward_teacher_forced(
            past, low, noise, high, aligned, action_mask
        )
        predicted, _ = schedule.from_velocity(noise, velocity, high)
        errors.append((predicted - clean)[:, history:].square().mean(dim=(1, 2, 3, 4)).cpu())
    return float(torch.cat(errors).mean())
