"""Pictures of a rollout: frames with step, score and the action that leads to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_core.images import ImageArray
from v2w_core.media.pictures import action_bars, contact_sheet, label_strip
from v2w_core.spec import ActionSpec


@dataclass(frozen=True)
class RolloutPicture:
    """A rollout to be drawn. Frames are RGB uint8 of one size.

    Attributes:
        history: [num_history, h, w, 3], newest last.
        imagined: [horizon, h, w, 3].
        actions: [horizon, A], physical units.
        history_actions: [num_history - 1, A], physical units.
        action_spec: the action space.
        recorded: [horizon, h, w, 3], frames of the camera, or None if there are none.
        psnr: [horizon] PSNR in dB against the recorded frames, or None.
        title: text at the top of the sheet and of every video frame.
    """

    history: ImageArray
    imagined: ImageArray
    actions: NDArray[np.float32]
    history_actions: NDArray[np.float32]
    action_spec: ActionSpec
    recorded: ImageArray | None = None
    psnr: NDArray[np.float64] | None = None
    title: str = ""

    def _score(self, step: int) -> str:
        return "" if self.psnr is None else f"  {self.psnr[step]:.1f} dB"

    def _bars(self, width: int, action: NDArray[np.float32] | None) -> ImageArray:
        spec = self.action_spec
        if action is None:
            return np.full((16 * spec.dim, width, 3), 255, dtype=np.uint8)
        return action_bars(width, action, spec.names, spec.low, spec.high)

    def sheet(self, *, min_height: int = 112) -> ImageArray:
        """A contact sheet: rows of history, recorded and imagined frames with action bars."""
        past = [None, *self.history_actions]
        newest = len(self.history) - 1
        first = [
            self._tile(frame, f"{index - newest:d}", self._bars_of(action), min_height)
            for index, (frame, action) in enumerate(zip(self.history, past, strict=True))
        ]
        steps = range(len(self.imagined))
        rows = [
            np.stack(first),
            np.stack([
                self._tile(self.imagined[i], f"+{i + 1}{self._score(i)}",
                           self._bars_of(self.actions[i]), min_height)
                for i in steps
            ]),
        ]  # fmt: skip
        labels = ["history (0 is now); below each frame: the action that leads to it", "imagined"]
        if self.recorded is not None:
            tiles = [self._tile(self.recorded[i], f"+{i + 1}", None, min_height) for i in steps]
            rows.insert(1, np.stack(tiles))
            labels.insert(1, "recorded")
        if self.title:
            labels[0] = f"{self.title}: {labels[0]}"
        return contact_sheet(rows, labels, min_height=1)

    def _bars_of(self, action: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return np.full(self.action_spec.dim, np.nan, np.float32) if action is None else action

    def _tile(
        self, frame: ImageArray, label: str, action: NDArray[np.float32] | None, min_height: int
    ) -> ImageArray:
        large = enlarge(frame, min_height)
        parts = [label_strip(large.shape[1], label), large]
        if action is not None:
            parts.append(self._bars(large.shape[1], None if np.isnan(action).any() else action))
        return np.concatenate(parts, axis=0)

    def video_frames(self, *, min_height: int = 240) -> Iterator[ImageArray]:
        """Frames of a video: history, then imagined frames beside the recorded ones, if any.

        All have the same size, for rollouts of any horizon.
        """
        newest = len(self.history) - 1
        for index, frame in enumerate(self.history):
            action = self.history_actions[index - 1] if index else None
            yield self._panel(frame, frame, f"history {index - newest:d}", "history", action,
                              min_height)  # fmt: skip
        for step, frame in enumerate(self.imagined):
            truth = None if self.recorded is None else self.recorded[step]
            label = f"imagined +{step + 1}{self._score(step)}"
            yield self._panel(truth, frame, f"recorded +{step + 1}", label, self.actions[step],
                              min_height)  # fmt: skip

    def _panel(
        self,
        left: ImageArray | None,
        right: ImageArray,
        left_label: str,
        right_label: str,
        action: NDArray[np.float32] | None,
        min_height: int,
    ) -> ImageArray:
        pairs = [(right, right_label)]
        if left is not None and self.recorded is not None:
            pairs.insert(0, (left, left_label))
        columns = []
        for image, label in pairs:
            large = enlarge(image, min_height)
            columns.append(np.concatenate([label_strip(large.shape[1], label), large], axis=0))
        body = np.concatenate(columns, axis=1)
        parts = [body, self._bars(body.shape[1], action)]
        if self.title:
            parts.insert(0, label_strip(body.shape[1], self.title))
        return np.concatenate(parts, axis=0)


def enlarge(frame: ImageArray, min_height: int) -> ImageArray:
    """The frame [h, w, 3], enlarged by an integer factor to at least ``min_height``."""
    factor = max(1, -(-min_height // frame.shape[0]))
    large: ImageArray = np.repeat(np.repeat(frame, factor, axis=0), factor, axis=1)
    return large


def best_median_worst(scores: Sequence[float]) -> dict[str, int]:
    """Indices of the best, the median and the worst score (higher is better).

    Fewer than three scores give fewer entries.
    """
    order = np.argsort(np.asarray(scores, dtype=float))
    picks = {"best": int(order[-1]), "median": int(order[len(order) // 2]), "worst": int(order[0])}
    seen: dict[int, str] = {}
    for name, index in picks.items():
        seen.setdefault(index, name)
    return {name: index for index, name in seen.items()}
