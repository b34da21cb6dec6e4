"""Training tasks: the autoencoder, and the world model on its latents."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.dataset import Clips, draw_windows, to_images
from v2w_core.diffusion.objective import ObjectiveConfig
from v2w_core.diffusion.training_loss import Trained, training_loss
from v2w_core.metrics.image import psnr
from v2w_core.progress import progress
from v2w_core.world_model import WorldModel


class AutoencoderTask:
    """Autoencoder with the mean squared error of the reconstruction plus a small KL term."""

    name = "autoencoder"

    def __init__(
        self, model: WorldModel, train: Clips, val: Clips, batch_size: int, kl_weight: float
    ) -> None:
        self.model = model
        self.module = model.autoencoder
        self.train, self.val = train, val
        self.batch_size = batch_size
        self.kl_weight = kl_weight

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(self.train.frames), (self.batch_size,), generator=generator)
        images = to_images(self.train.frames[chosen.numpy()]).to(self.model.device)
        mean, log_variance = self.module.posterior(images)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        sample = mean + (0.5 * log_variance).exp() * noise
        reconstruction = F.mse_loss(self.module.reconstruct(sample).float(), images)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).float().mean()
        loss = reconstruction + self.kl_weight * kl
        return loss, {"mse": float(reconstruction.detach()), "kl": float(kl.detach())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        chosen = np.linspace(0, len(self.val.frames) - 1, 256).astype(int)
        frames = self.val.frames[np.unique(chosen)]
        decoded = self.model.decode(self.model.encode(frames))
        return {"psnr": float(np.mean(psnr(decoded, frames)))}

    @torch.no_grad()
    def fix_normalisation(self) -> None:
        """Sets the normalisation of the latents to their mean and standard deviation."""
        ae = self.module
        chosen = np.linspace(0, len(self.train.frames) - 1, 2048).astype(int)
        frames = self.train.frames[np.unique(chosen)]
        parts = [
            ae.posterior(to_images(frames[i : i + 64]).to(self.model.device))[0]
            for i in range(0, len(frames), 64)
        ]
        mean = torch.cat(parts)
        ae.latent_mean.copy_(mean.mean(dim=(0, 2, 3)))
        ae.latent_std.copy_(mean.std(dim=(0, 2, 3)).clamp(min=1e-4))


class WorldModelTask:
    """World model on latents that are encoded once; the loss is ``training_loss``."""

    name = "world model"

    def __init__(
        self,
        model: WorldModel,
        train: Clips,
        val: Clips,
        batch_size: int,
        objective: ObjectiveConfig,
        encoded: EncodedClips | None = None,
    ) -> None:
        self.model = model
        self.module = model.unet
        self.batch_size = batch_size
        self.objective = objective
        self.window = model.config.num_frames
        self.train_starts = train.window_starts(self.window)
        normalise = model.config.action.normalise
        self.train_actions = torch.from_numpy(normalise(train.actions))
        self.train_motion = torch.from_numpy(normalise(measured_actions(train)))
        self.trained = Trained(model.unet, model.schedule, model.condition, model.motion_head)
        self.encoded = encoded or EncodedClips(model, train)
        self.val = val
        self.val_starts = val.window_starts(self.window)

    def loss(self, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, float]]:
        index = draw_windows(self.train_starts, self.batch_size, self.window, generator)
        loss = training_loss(
            self.trained,
            self.encoded.latents[index].to(self.model.device),
            self.train_actions[index].to(self.model.device),
            self.objective,
            generator,
            progress,
            motion=self.train_motion[index].to(self.model.device),
        )
        return loss, {}

    @torch.no_grad()
    def validate(self, num_windows: int = 32) -> dict[str, float]:
        """PSNR (dB) of rollouts under the recorded and under another window's actions, and of
        repeating the last history frame; with a motion head its mean errors in the first step.
        """
        chosen = np.linspace(0, len(self.val_starts) - 1, num_windows).astype(int)
        starts = self.val_starts[np.unique(chosen)]
        history = self.model.config.num_history
        right, other, copy, motion = [], [], [], []
        measured = measured_actions(self.val)
        for i, start in enumerate(starts):
            stop = start + self.window
            frames, actions = self.val.frames[start:stop], self.val.actions[start : stop - 1]
            wrong_start = starts[(i + len(starts) // 2) % len(starts)]
            wrong = self.val.actions[wrong_start : wrong_start + self.window - 1]
            session = self.model.start(frames[:history], actions[: history - 1])
            candidates = np.stack([actions[history - 1 :], wrong[history - 1 :]])
            rollouts = session.imagine(candidates, bounds=False)
            imagined = rollouts.frames()
            if self.model.motion_head is not None:
                followed = measured[start + history - 1][self.model.motion_head.columns]
                motion.append(rollouts.motion[0, 0] - followed)
            truth = frames[history:]
            right.append(np.mean(psnr(imagined[0], truth)))
            other.append(np.mean(psnr(imagined[1], truth)))
            repeated = np.broadcast_to(frames[history - 1], truth.shape)
            copy.append(np.mean(psnr(np.ascontiguousarray(repeated), truth)))
        figures = {
            "psnr": float(np.mean(right)),
            "psnr_other_actions": float(np.mean(other)),
            "psnr_copy": float(np.mean(copy)),
        }
        if motion:
            dx, dy, dyaw = np.array(motion).T
            figures["motion_m"] = float(np.mean(np.hypot(dx, dy)))
            figures["motion_rad"] = float(np.mean(np.abs(dyaw)))
        return figures


def measured_actions(clips: Clips) -> NDArray[np.float32]:
    """Actions [N, A] as :attr:`Clips.actions`, but with the displacements that were measured."""
    if clips.motion is None:
        return clips.actions
    measured = clips.actions.copy()
    measured[:, list(clips.action_spec.planar_indices())] = clips.motion
    return measured


class EncodedClips:
    """Latents of all frames of clips, encoded on first use."""

    def __init__(self, model: WorldModel, clips: Clips) -> None:
        self.model = model
        self.clips = clips

    @cached_property
    def latents(self) -> Tensor:
        """Latents [N, C, h, w] on the CPU."""
        return encode_all(self.model, self.clips.frames)


def encode_all(model: WorldModel, frames: NDArray[np.uint8], chunk: int = 512) -> Tensor:
    """Latents [N, C, h, w] of all frames on the CPU; shows a progress bar."""
    starts = progress(
        range(0, len(frames), chunk), desc="encoding frames", unit=f" x{chunk}", transient=True
    )
    return torch.cat([model.encode(frames[i : i + chunk]).cpu() for i in starts])
