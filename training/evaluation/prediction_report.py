"""The table and the picture of ``v2w evaluate prediction``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.prediction_scores import STEP_SCORES, Prediction


def print_table(result: dict[str, Any]) -> None:
    """Prints the scores per step ahead, their means, and what is known of the motion."""
    where = f"; {result['world']}, {result['worlds']} worlds" if result["worlds"] else ""
    print(f"{result['num_windows']} windows of {result['num_episodes']} episodes{where}, "
          f"{result['num_history']} frames given; PSNR in dB")  # fmt: skip
    print(f"{'step':>6} {'recorded':>9} {'copy':>9} {'other':>9} {'SSIM':>7} {'gap':>7} "
          f"{'view':>7} {'copy':>7} {'other':>7}")  # fmt: skip
    form = "{:>6} {:>9.2f} {:>9.2f} {:>9.2f} {:>7.3f} {:>7.2f} {:>7.3f} {:>7.3f} {:>7.3f}"
    for step in range(result["horizon"]):
        values = [result[f"{name}_per_step"][step] for name in STEP_SCORES]
        print(form.format(step + 1, *values))
    print(form.format("mean", *(result[name] for name in STEP_SCORES)))
    ends = zip(*(result[f"{name}_ci"] for name in STEP_SCORES), strict=True)
    if result["num_windows"] > 1:
        for label, values in zip(("from", "to"), ends, strict=True):
            print(form.format(label, *values))
    above = result["psnr"] - result["psnr_copy"], result["psnr"] - result["psnr_other_actions"]
    print(f"recorded is {above[0]:+.2f} dB beside copy, {above[1]:+.2f} dB beside other; view: the "
          "distance that ViewPairs sees; from and to: the mean's 95 % interval")  # fmt: skip
    if result["motion_m"] is not None:
        print(
            f"motion one step ahead is {_centimetres(result, 'motion_m')} and "
            f"{_degrees(result, 'motion_rad')} off odometry; the command is "
            f"{_centimetres(result, 'command_m')} and {_degrees(result, 'command_rad')} off"
        )
    if result["blocked_auroc"] is not None:
        low, high = (math.nan if end is None else end for end in result["blocked_auroc_ci"])
        print(f"blocked or not ({result['num_blocked']} are): AUROC {result['blocked_auroc']:.3f} "
              f"[{low:.3f}, {high:.3f}]")  # fmt: skip


def _centimetres(result: dict[str, Any], name: str) -> str:
    return _shown(result, name, 100.0, "cm")


def _degrees(result: dict[str, Any], name: str) -> str:
    return _shown(result, name, 180.0 / math.pi, "degrees")


def _shown(result: dict[str, Any], name: str, scale: float, unit: str) -> str:
    low, high = (math.nan if end is None else scale * end for end in result[f"{name}_ci"])
    return f"{scale * result[name]:.1f} [{low:.1f}, {high:.1f}] {unit}"


def picture(predictions: Sequence[Prediction]) -> NDArray[np.uint8]:
    """A contact sheet of the best, the median and the worst window."""
    from v2w_core.media.pictures import contact_sheet
    from v2w_core.media.rollout_sheet import best_median_worst

    scores = [float(item.psnr.mean()) for item in predictions]
    rows, labels = [], []
    for name, index in best_median_worst(scores).items():
        item = predictions[index]
        rows += [
            np.concatenate([item.case.history, item.case.recorded]),
            np.concatenate([item.case.history, item.imagined[0]]),
            np.concatenate([item.case.history, item.imagined[1]]),
        ]
        other = item.psnr_other_actions.mean()
        given = len(item.case.history)
        labels += [
            f"{name} ({item.case.name}): {given} frames given, then recorded",
            f"imagined under the recorded actions: {item.psnr.mean():.1f} dB "
            f"(copy {item.psnr_copy.mean():.1f} dB)",
            f"imagined under another episode's actions: {other:.1f} dB",
        ]
    return contact_sheet(rows, labels)
