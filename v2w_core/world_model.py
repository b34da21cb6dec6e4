"""WorldModel: load, save, encode, start a session. The one class that other packages use."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from v2w_core.backends.base import Backend, BackendOptions
from v2w_core.backends.eager import Eager
from v2w_core.backends.registry import make_backend
from v2w_core.checkpoint import (
    load_config,
    load_weights,
    not_finite,
    save_checkpoint,
    sized_by_weights,
)
from v2w_core.config import WorldModelConfig
from v2w_core.device import device_errors
from v2w_core.diffusion.schedule import NoiseSchedule
from v2w_core.errors import DeviceError, V2WError
from v2w_core.images import resize_frames
from v2w_core.models.attention import Context
from v2w_core.models.autoencoder import Autoencoder
from v2w_core.models.goal_distance import GoalDistance
from v2w_core.models.image_context.image_context import ImageContext, frame_tokens
from v2w_core.models.motion_head import MotionHead
from v2w_core.models.unet import UNet
from v2w_core.models.warped_previous import WarpedPrevious
from v2w_core.rollout.session import Session
from v2w_core.rollout.window_session import WindowSession
from v2w_core.spec import FloatArray

UInt8Array = NDArray[np.uint8]


class WorldModel(nn.Module):
    """A causal, action-guided world model: autoencoder, U-Net and noise schedule.

    Attributes:
        backend: computes the rollouts of sessions started from here on.
        memory_budget: bytes that a rollout's candidates may take; None: a share of what the device
            has free when a rollout begins.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.unet = UNet(config.unet)
        self.schedule = NoiseSchedule(config.diffusion)
        learned = config.goal_distance
        self.goal_distance = GoalDistance(config.latent_shape, learned) if learned else None
        self.image_context = ImageContext(config.context) if config.context else None
        self.condition = (
            WarpedPrevious(config.condition, config.observation, config.action)
            if config.condition
            else None
        )
        self.motion_head = MotionHead(config.action) if config.motion_head else None
        self.backend: Backend = Eager(self.unet)
        self.checkpoint: pathlib.Path | None = None  # where the weights can be read again
        self.memory_budget: int | None = None

    @classmethod
    def build(cls, config: WorldModelConfig, seed: int = 0) -> WorldModel:
        """An untrained model with weights drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config).eval()

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        device: str = "cpu",
        backend: str = "eager",
        precision: str = "fp32",
    ) -> WorldModel:
        """The model in a checkpoint folder (model.safetensors, config.yaml).

        Args:
            path: the folder.
            device: of PyTorch.
            backend, precision: what computes rollouts; see :meth:`use_backend`.

        Raises:
            CheckpointError: no such folder, a truncated file, a newer format version, or weights
                that do not fit the configuration.
            V2WError: MODEL_ERROR; no such device or back end here.
        """
        folder = pathlib.Path(path)
        config = load_config(folder)
        with sized_by_weights(folder):
            model = cls(config)
        model.load_state_dict(load_weights(folder, model.state_dict()))
        model.checkpoint = folder
        model.eval().on_device(device).use_backend(backend, BackendOptions(precision))
        return model

    def on_device(self, device: str) -> WorldModel:
        """The model itself, moved. Raises V2WError for a device that is not there."""
        try:
            return self.to(device)
        except (RuntimeError, AssertionError) as error:
            raise V2WError("device", "a device of this machine: cpu, or cuda where there is a GPU",
                           f"{device}: {error}", code="MODEL_ERROR") from error  # fmt: skip

    def use_backend(self, name: str, options: BackendOptions | None = None) -> Backend:
        """Rollouts of sessions started from here on are computed by this back end.

        Call it when weights and device are final. A back end is built once; later calls, also in
        other processes, find it in the user's cache.

        Args:
            name: one of :data:`v2w_core.backends.names.BACKENDS`, or "auto": the fastest that can
                be built here (a line in the log says why each faster one was passed over).

        Raises:
            V2WError: unknown name, or MODEL_ERROR when a named back end cannot serve the model.
        """
        self.backend = make_backend(self, name, options)
        return self.backend

    def save_pretrained(
        self, path: str | os.PathLike[str], card: str = "", *, half: bool = False
    ) -> pathlib.Path:
        """Write the checkpoint folder; the folder appears whole or not at all.

        Args:
            path: the folder; an earlier checkpoint there is replaced.
            card: Markdown of the model card.
            half: store parameters in float16 (half the size; loaded as float32). Buffers, which
                are statistics and constants, stay as they are.
        """
        state = dict(self.state_dict())
        if half:
            parameters = {name for name, _ in self.named_parameters()}
            state = {k: v.half() if k in parameters else v for k, v in state.items()}
        return save_checkpoint(path, state, self.config, card or "# v2w world model\n")

    @property
    def device(self) -> torch.device:
        return self.autoencoder.latent_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of latents and actions."""
        return self.autoencoder.latent_mean.dtype

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def tensor(self, array: ArrayLike) -> Tensor:
        """Float tensor of the model's precision on the model's device."""
        return torch.from_numpy(np.array(array, np.float32)).to(self.device, self.dtype)

    def preprocess(self, frames: ArrayLike) -> UInt8Array:
        """RGB frames uint8 [T, H, W, 3] of any size -> uint8 [T, h, w, 3] of the model's size."""
        array = np.asarray(frames)
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            rule = "RGB frames uint8 [T, H, W, 3]"
            raise V2WError("frames", rule, f"{array.dtype} {list(array.shape)}")
        observation = self.config.observation
        if array.shape[1:3] == (observation.height, observation.width):
            return array
        return resize_frames(array, observation)

    @torch.inference_mode()
    def encode(self, frames: ArrayLike, batch_size: int = 64) -> Tensor:
        """RGB frames uint8 [T, H, W, 3] -> normalised latents [T, C, h, w]."""
        array = self.preprocess(frames)
        parts = []
        for start in range(0, len(array), batch_size):
            images = self.tensor(array[start : start + batch_size]).permute(0, 3, 1, 2)
            parts.append(self.autoencoder.encode(images / 127.5 - 1.0))
        return torch.cat(parts)

    @torch.inference_mode()
    def decode(self, latents: Tensor, batch_size: int = 64) -> UInt8Array:
        """Normalised latents [..., C, h, w] -> RGB frames uint8 [..., H, W, 3]."""
        lead = latents.shape[:-3]
        flat = latents.reshape(-1, *latents.shape[-3:])
        parts = []
        for start in range(0, len(flat), batch_size):
            images = self.autoencoder.decode(flat[start : start + batch_size])
            pixels = ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
            parts.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
        stacked: UInt8Array = np.concatenate(parts)
        return stacked.reshape(*lead, *stacked.shape[1:])

    def frame_context(self, tokens: Tensor | None, num_frames: int) -> Context | None:
        """Each frame's context from ``image_context``'s tokens [B, L, D]; None for None."""
        context = self.config.context
        if tokens is None or context is None:
            return None
        numbers = {"num_text": context.num_text, "per_frame": context.resampler.num_queries}
        by_length = self.config.compat.tokens_by_length
        return frame_tokens(tokens, num_frames, by_length=by_length, **numbers)

    def start(
        self, frames: ArrayLike, actions: ArrayLike, *, seed: int = 0
    ) -> Session | WindowSession:
        """Encode a history and be ready to imagine.

        Args:
            frames: RGB uint8 [T, H, W, 3], newest last, T >= num_history; the newest
                ``num_history`` are used.
            actions: [T - 1, A] physical units, actions[i] leads from frame i to i + 1. Recorded
                actions may lie outside the bounds.
            seed: of the history's noise and, by default, of rollouts.

        Raises:
            V2WError: too few frames, or actions that do not fit them; the model is plain video
                diffusion, which no action guides.
        """
        if not self.config.action_guided:
            rule = "a causal model with actions; make one of it (v2w_core.transfer) and fine-tune"
            raise V2WError("model", rule, "video diffusion without actions", code="MODEL_ERROR")
        array = np.asarray(frames)
        needed = self.config.num_history
        if array.ndim != 4 or len(array) < needed:
            rule = f"at least {needed} frames [T, H, W, 3]"
            raise V2WError("history", rule, list(array.shape), code="HISTORY_UNAVAILABLE")
        spec = self.config.action
        checked: FloatArray = np.zeros((0, spec.dim), np.float32)
        if len(array) > 1:
            checked = spec.validate(
                actions, horizon=len(array) - 1, field="history actions", bounds=False
            )
        newest = self.preprocess(array[-needed:])
        kept = self.tensor(spec.normalise(checked[len(checked) - (needed - 1) :]))
        if not self.config.cacheable:
            return WindowSession(self, newest, kept, seed)
        return Session(self, self.encode(newest), kept, seed)


def fall_back_to_cpu(model: WorldModel) -> WorldModel:
    """The same model on the CPU, for callers that go on after a :class:`DeviceError`.

    Its back end is eager; call ``use_backend("auto")`` on it for a faster one when there is time.
    Weights come from the checkpoint that the model was loaded from. A model of none gives those on
    the device, as long as that answers, and with numbers. The model that was given must not be used
    any more.

    Raises:
        V2WError: MODEL_ERROR; the checkpoint cannot be read any more, or there is none and the
            device does not answer, or answers with what are no weights.
    """

    if model.checkpoint is not None:
        again = WorldModel.from_pretrained(model.checkpoint)
    else:
        again = WorldModel(model.config)
        again.load_state_dict(_weights_on_device(model))
        again.eval()
    again.memory_budget = model.memory_budget
    return again


def _weights_on_device(model: WorldModel) -> dict[str, Tensor]:
    """The weights, copied to the CPU."""
    rule = "a model that was loaded from a checkpoint; its weights are lost with the device"
    try:
        with device_errors("weights"):
            weights = {name: value.cpu() for name, value in model.state_dict().items()}
    except DeviceError as error:
        raise V2WError("model", rule, code="MODEL_ERROR") from error
    bad = not_finite(weights)
    if bad is not None:
        raise V2WError("model", rule, f"NaN or infinity in {bad}", code="MODEL_ERROR")
    return weights
