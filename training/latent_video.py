"""Episodes as latents: encoded once by a frozen autoencoder, kept in a file for later runs."""

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
    """All frames of a folder of episodes, one episode after the other.

    Attributes:
        latents: [N, C, h, w] normalised, on the CPU.
        actions: [N, A] normalised; actions[i] leads from frame i to i + 1 (zero at an episode's
            end). Video without labels is a matter of not looking at them.
        starts: first frame of each episode, and N at the end.
    """

    latents: Tensor
    actions: Tensor
    starts: NDArray[np.int64]

    @property
    def num_episodes(self) -> int:
        return len(self.starts) - 1

    def window_starts(self, window: int, episodes: slice = slice(None)) -> NDArray[np.int64]:
        """Frames at which ``window`` frames of one of these episodes begin.

        Raises:
            DataError: no such episode is long enough.
        """
        chosen = range(self.num_episodes)[episodes]
        if not chosen:
            raise DataError("episodes", "at least one in every part of the data", 0)
        return window_starts(self.starts[chosen.start : chosen.stop + 1], window)


def encode_episodes(
    model: WorldModel, folder: str | pathlib.Path, file: pathlib.Path
) -> LatentVideo:
    """The folder's episodes as latents, from ``file`` if it is there; else encoded and kept there.

    Raises:
        DataError: no episodes, or a file that is damaged. V2WError: other actions.
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
        rule = "a complete file of latents; delete it, it is made again"
        raise DataError(str(file), rule, str(error)) from error
    return LatentVideo(stored["latents"], stored["actions"], stored["starts"].numpy())
