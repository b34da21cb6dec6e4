"""Scores of imagined futures against what was recorded, and their means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2w_core.metrics.intervals import auroc, bootstrap_auroc, bootstrap_mean

if TYPE_CHECKING:
    from v2w_core.rollout.result import Rollouts

Float64Array = NDArray[np.float64]
SCORES = ("psnr", "psnr_copy", "psnr_other_actions")
#: All scores that are means over windows and steps, each a property of :class:`Prediction`.
STEP_SCORES = (
    *SCORES, "ssim", "action_gap", "perceptual", "perceptual_copy", "perceptual_other_actions",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A recorded window, with another episode's actions for comparison.

    Attributes:
        name: episode and frame, for captions.
        history: uint8 [num_history, h, w, 3] at the model's size.
        recorded: uint8 [horizon, h, w, 3], the frames after the history.
        history_actions: [num_history - 1, A].
        actions, other_actions: [horizon, A], recorded and from another episode.
        motion: [horizon, 3], the displacements that odometry reports after each frame (dx m, dy m,
            dyaw rad in the body frame); None where the episode has no commands beside them.
        contact: bool [horizon], steps in which something was touched; None: unknown.
    """

    name: str
    history: NDArray[np.uint8]
    recorded: NDArray[np.uint8]
    history_actions: NDArray[np.float32]
    actions: NDArray[np.float32]
    other_actions: NDArray[np.float32]
    motion: NDArray[np.float32] | None = None
    contact: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Prediction:
    """Rollouts of a case and their scores per step.

    Attributes:
        case: the window.
        imagined: uint8 [2, horizon, h, w, 3], under the recorded and under the other actions.
        psnr, ssim: [horizon], of the rollout under the recorded actions.
        psnr_copy: [horizon], of repeating the last history frame.
        psnr_other_actions: [horizon], of the rollout under the other actions.
        perceptual, perceptual_copy, perceptual_other_actions: [horizon], the same by
            ``perceptual_distance``; lower is better.
        motion_m, motion_rad: [horizon], distance and absolute yaw error of the predicted
            displacement to that of odometry; None where one of them is not known.
        command_m, command_rad: the same of the command, taken at its word.
        shortfall_m: [horizon], how far the predicted displacement is from the commanded one.
    """

    case: Case
    imagined: NDArray[np.uint8]
    psnr: Float64Array
    psnr_copy: Float64Array
    psnr_other_actions: Float64Array
    ssim: Float64Array
    perceptual: Float64Array
    perceptual_copy: Float64Array
    perceptual_other_actions: Float64Array
    motion_m: Float64Array | None = None
    motion_rad: Float64Array | None = None
    command_m: Float64Array | None = None
    command_rad: Float64Array | None = None
    shortfall_m: Float64Array | None = None

    @property
    def action_gap(self) -> Float64Array:
        """PSNR under the recorded actions less that under the other actions, dB [horizon]."""
        return self.psnr - self.psnr_other_actions

    @classmethod
    def of(
        cls, case: Case, imagined: NDArray[np.uint8], rollouts: Rollouts | None = None
    ) -> Prediction:
        """The scores of a case.

        Args:
            imagined: uint8 [2, horizon, h, w, 3].
            rollouts: where the model predicts its motion; the first of them is under the recorded
                actions.
        """
        from training.evaluation.perceptual import perceptual_distance
        from v2w_core.metrics.image import ssim
        from v2w_core.metrics.steps import psnr_copy, psnr_limited

        motion: dict[str, Float64Array] = {}
        if rollouts is not None and case.motion is not None:
            columns = list(rollouts.model.config.action.planar_indices())
            commands = np.asarray(case.actions, np.float64)[:, columns]
            predicted = rollouts.motion[0]
            off, word = predicted - case.motion, commands - case.motion
            short = predicted - commands
            motion = {
                "motion_m": _metres(off), "motion_rad": np.abs(off[:, 2]),
                "command_m": _metres(word), "command_rad": np.abs(word[:, 2]),
                "shortfall_m": _metres(short),
            }  # fmt: skip
        copy = np.broadcast_to(case.history[-1], case.recorded.shape)
        views = [perceptual_distance(v, case.recorded) for v in (imagined[0], copy, imagined[1])]
        return cls(
            case=case,
            imagined=imagined,
            psnr=psnr_limited(imagined[0], case.recorded),
            psnr_copy=psnr_copy(case.history[-1], case.recorded),
            psnr_other_actions=psnr_limited(imagined[1], case.recorded),
            ssim=ssim(imagined[0], case.recorded),
            perceptual=views[0],
            perceptual_copy=views[1],
            perceptual_other_actions=views[2],
            **motion,
        )


def _metres(off: Float64Array) -> Float64Array:
    return np.hypot(off[:, 0], off[:, 1])


def summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The results as JSON values: means over all windows, per step and in total.

    A bootstrap 95 % interval over windows stands under each name and ``_ci``. Windows of one
    episode may overlap, so that it says how much other windows of these episodes would differ.

    ``motion_m``, ``motion_rad`` and ``blocked_auroc`` are one step ahead; None where the model does
    not predict its motion, or the episodes have no commands (for the last: no contact).
    """
    result: dict[str, Any] = {
        "num_windows": len(predictions),
        "horizon": len(predictions[0].case.actions),
        "num_history": len(predictions[0].case.history),
    }
    for name in STEP_SCORES:
        table = np.stack([getattr(item, name) for item in predictions])
        result |= _with_intervals(name, table.mean(axis=1))
        result |= _with_intervals(f"{name}_per_step", table)
    for name in ("motion_m", "motion_rad", "command_m", "command_rad"):
        rows = [getattr(item, name) for item in predictions]
        known = all(row is not None for row in rows)
        table = np.stack(rows) if known else np.full((len(rows), result["horizon"]), np.nan)
        result |= _with_intervals(name, table[:, 0])
        result |= _with_intervals(f"{name}_per_step", table) if known else {}
    return result | blocked(predictions)


def blocked(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """How well the predicted shortfall tells steps with contact from others, one step ahead."""
    known = [p for p in predictions if p.shortfall_m is not None and p.case.contact is not None]
    names = ("blocked_auroc", "blocked_auroc_ci")
    if len(known) < len(predictions):
        return dict.fromkeys(names)
    scores = np.array([item.shortfall_m[0] for item in known if item.shortfall_m is not None])
    labels = np.array([item.case.contact[0] for item in known if item.case.contact is not None])
    low, high = bootstrap_auroc(scores, labels)
    found = [_number(auroc(scores, labels)), [_number(low), _number(high)]]
    return dict(zip(names, found, strict=True)) | {"num_blocked": int(labels.sum())}


def _with_intervals(name: str, table: Float64Array) -> dict[str, Any]:
    """Mean over the windows [N] or [N, horizon], and its interval as a pair or a list of pairs."""
    low, high = bootstrap_mean(table)
    if table.ndim == 1:
        return {name: _number(table.mean()), f"{name}_ci": [_number(low), _number(high)]}
    pairs = [[_number(a), _number(b)] for a, b in zip(low, high, strict=True)]
    return {name: [_number(v) for v in table.mean(axis=0)], f"{name}_ci": pairs}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
