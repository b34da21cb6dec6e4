"""Episodes as latents, encoded once by a frozen autoencoder and cached in a file."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.dataset import load_clips, window_starts
from training.tasks import encode_all
from v2w_core.errors import DataError
from v2w_core.files import replaced
from v2w_core.world_model import WorldModel


@dataclass(frozen=True)
class LatentVideo:
    """Latents of all episodes of a folder, concatenated.

    Attributes:
        latents: [N, C, h, w] normalised, on the CPU.
        actions: [N, A] normalised; actions[i] leads from frame i to i + 1 (zero at an episode's
            end).
        starts: index of the first frame of each episode, and N at the end.
    """

    latents: Tensor
    actions: Tensor
    starts: NDArray[np.int64]

    @property
    def num_episodes(self) -> int:
        return len(self.starts) - 1

    def window_starts(self, window: int, episodes: slice = slice(None)) -> NDArray[np.int64]:
        """Indices of the first frames of all windows within the chosen episodes.

        Raises:
            DataError: no chosen episode is long enough.
        """
        chosen = range(self.num_episodes)[episodes]
        if not chosen:
            raise DataError("episodes", "at least one in every part of the data", 0)
        return window_starts(self.starts[chosen.start : chosen.stop + 1], window)


def encode_episodes(
    model: WorldModel, folder: str | pathlib.Path, file: pathlib.Path
) -> LatentVideo:
    """Latents of the folder's episodes, read from ``file`` or encoded and written to it.

    Raises:
        DataError: the folder has no episodes, or ``file`` is damaged.
        V2WError: the action space is not the model's.
    """
    if not file.is_file():
        clips = load_clips(folder, model.config.observation, action_spec=model.config.action)
        tensors = {
            "latents": encode_all(model, clips.frames).contiguous(),
            "actions": torch.from_numpy(model.config.action.normalise(clips.actions)),
            "starts": torch.from_numpy(clips.starts),
        }
        with replaced(file) as temporary:
            save_file(tensors, temporary)
    try:
        stored = load_file(file)
    except (SafetensorError, OSError) as error:
        rule = "a complete file of latents; delete it to encode the episodes again"
        raise DataError(str(file), rule, str(error)) from error
    return LatentVideo(stored["latents"], stored["actions"], stored["starts"].numpy())
