"""The ablation's results as a page: scores, orderings compared with the paper's, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.ablation.arms import ACTION_DROPOUT, ARMS
from training.ablation.orderings import (
    METRICS,
    MORE_PAIRS,
    PAIRS,
    PAPER,
    Ordering,
    orderings,
    seed_scores,
    spread,
)
from training.ablation.scores import FEATURES
from v2w_core.media.plots import line_plot

#: Smallest relevant PSNR difference to repeating the last frame, and to another episode's actions.
WORTH_DB, FOLLOWED_DB = 0.5, 0.1
_TITLES = {arm.name: arm.title for arm in ARMS}


def curves(results: Mapping[str, Any], *, guided: bool) -> bytes:
    """PNG of the next frame's error over fine-tuning steps, with a band of one standard deviation.

    Args:
        results: results of ``Ablation.run``.
        guided: whether to draw the guided or the other arms.
    """
    series = {}
    for arm in (arm for arm in ARMS if arm.guided == guided):
        rows = results["arms"][arm.name]["curves"]
        errors = np.array([row["error"] for row in rows])
        half = np.array([spread(column) for column in errors.T])
        series[arm.title] = (rows[0]["steps"], errors.mean(axis=0), half)
    return line_plot(
        series,
        title=f"Next frame, held-out episodes ({results['num_seeds']} seeds)",
        x_label="fine-tuning steps",
        y_label="squared error of latents",
        size=(7.6, 4.6),
    )


def page(results: Mapping[str, Any], images: Sequence[str]) -> str:
    """The page as Markdown.

    Args:
        results: results of ``Ablation.run``, with "command", "machine" and "date" added.
        images: paths of the curves, relative to the page.
    """
    arms = results["arms"]
    in_paper, beyond = orderings(arms, PAIRS), orderings(arms, MORE_PAIRS)
    parts = [
        "# The transfer ablation in small",
        "",
        "Vid2World's Table 2, repeated with a small model in the simulated maze. Written by",
        "",
        f"```\n{results['command']}\n```",
        "",
        f"on {results['machine']}, {results['date']}: {results['minutes']:.0f} minutes of "
        "encoding, training, choosing the guidance scale and scoring. The same command resumes "
        "what was interrupted. The numbers are in "
        "`benchmarks/results/transfer_ablation.json`.",
        "",
        "## Scores",
        "",
        f"Mean +- standard deviation over the seeds ({results['num_seeds']}); "
        f"{results['num_windows']['table']} held-out windows, "
        f"{results['settings']['sampling']['num_steps']} sampling steps a frame.",
        "",
        *_scores_table(results),
        "",
        "* Action gap: PSNR under the recorded actions minus that under another episode's.",
        f"* Frechet distance: the network is {results['sources']['checkpoint']}; features are "
        f"{FEATURES}. Only distances in this table compare.",
        "* *Other recordings*: as many other windows of the same episodes, the distance that a "
        "perfect model would come near.",
        "* From-scratch training and guided shift are not in the paper's table.",
        "",
        "## The paper's orderings",
        "",
        *caveats(results),
        summary(in_paper, results["num_seeds"]),
        "",
        *_orderings_table(in_paper),
        "",
        "Differences are of one seed's two arms, which share data order, noise and fresh layers; "
        "positive: the first arm is better. The paper's are from one run each (FVD, SSIM, PSNR of "
        "RT-1 after 30,000 steps); sizes do not compare, only signs.",
        "",
        "Beyond the paper's table:",
        "",
        *_orderings_table(beyond),
        "",
        "## Learning curves",
        "",
        *(f"![Error of the next frame against fine-tuning steps]({image})" for image in images),
        "",
        "One step ahead from recorded frames, without guidance in all arms, so that the curves "
        "show what was learned and not how it is sampled.",
        "",
        *_curve_table(results),
        "",
        "## Guidance scale",
        "",
        f"{results['guidance_scale']:g} for all guided arms: the best mean PSNR of seed 0 on "
        f"{results['settings']['choice_windows']} windows of held-out episodes that the table "
        "does not use. Scale 1 samples the same models without guidance, and could not be chosen.",
        "",
        *_scale_table(results),
        "",
        "## How it was done",
        "",
        *_protocol(results),
        "",
    ]
    return "\n".join(parts)


def summary(found: Sequence[Ordering], num_seeds: int) -> str:
    """Text with the number of the paper's orderings that show, and those that do not."""
    claimed = [item for item in found if item.claimed]
    missing: dict[str, list[str]] = {}
    for item in claimed:
        if not item.shows:
            missing.setdefault(_pair(item), []).append(item.metric.title)
    shown = len(claimed) - sum(map(len, missing.values()))
    text = (
        f"{shown} of {len(claimed)} orderings of Table 2 show in every seed. (By chance alone, "
        f"every seed (of {num_seeds}) would agree with one of them one time in {2**num_seeds}.)"
    )
    if not missing:
        return text
    names = "; ".join(f"{pair} in {', '.join(titles)}" for pair, titles in missing.items())
    return f"{text} **They do not all show.** Missing or unclear: {names}."


def caveats(results: Mapping[str, Any]) -> list[str]:
    """Limits on the interpretation of the orderings: whether the models predict at all, whether
    they follow actions, and whether the guidance scale is at the edge of its range."""
    arms, copy = results["arms"], results["references"]["last frame repeated"]
    means = {
        m.key: {arm.name: float(seed_scores(arms, arm.name, m).mean()) for arm in ARMS}
        for m in METRICS
    }
    found = []
    margins = [value - copy["psnr"] for value in means["psnr"].values()]
    if max(margins) < WORTH_DB:
        text = (
            f"All arms lie within {max(map(abs, margins)):.2f} dB of repeating the last frame "
            f"({copy['psnr']:.2f} dB)"
        )
        similar = means["ssim"].values()
        if "ssim" in copy and max(similar) < copy["ssim"]:
            text += (
                f" and below it in SSIM ({min(similar):.3f} to {max(similar):.3f} against "
                f"{copy['ssim']:.3f})"
            )
        found.append(f"{text}: no arm predicts much yet, and differences between them are small.")
    transferred = [abs(means["action_gap"][arm.name]) for arm in ARMS if arm.transfer]
    if max(transferred) < FOLLOWED_DB:
        found.append(
            f"No transferred arm follows its actions (their gaps are at most "
            f"{max(transferred):.2f} dB; from scratch "
            f"{means['action_gap']['scratch_guided']:.2f} dB). Guidance amplifies what an action "
            "changes, so the orderings of guided against unguided arms cannot be interpreted."
        )
    scales = results["settings"]["scales"]
    if results["guidance_scale"] in (min(scales), max(scales)):
        found.append(
            f"The chosen guidance scale {results['guidance_scale']:g} is the edge of what was "
            "tried; a better one may lie beyond."
        )
    return [f"{' '.join(found)}\n"] if found else []


def _scores_table(results: Mapping[str, Any]) -> list[str]:
    heads = [f"{m.title} {'^' if m.sign > 0 else 'v'}" for m in METRICS]
    rows = [["weights", "action guidance", *heads, "paper: FVD, SSIM, PSNR"]]
    for arm in ARMS:
        cells = [
            _cell(seed_scores(results["arms"], arm.name, metric), metric.digits)
            for metric in METRICS
        ]
        paper = PAPER.get(arm.name)
        theirs = f"{paper['frechet']}, {paper['ssim']:.3f}, {paper['psnr']}" if paper else "-"
        rows.append([arm.transfer or "from scratch", "yes" if arm.guided else "no", *cells, theirs])
    for name, values in results["references"].items():
        cells = [f"{values[m.key]:.{m.digits}f}" if m.key in values else "-" for m in METRICS]
        rows.append([f"*{name}*", "", *cells, ""])
    return _table(rows)


def _orderings_table(found: Sequence[Ordering]) -> list[str]:
    rows = [["better than", "metric", "paper", "ours", "verdict"]]
    for item in found:
        paper = "-" if item.paper is None else f"{item.paper:+.{item.metric.digits}f}"
        rows.append(
            [
                _pair(item),
                item.metric.title,
                paper,
                _cell(item.ours, item.metric.digits, "+"),
                item.verdict,
            ]
        )
    return _table(rows)


def _curve_table(results: Mapping[str, Any]) -> list[str]:
    steps = results["arms"][ARMS[0].name]["curves"][0]["steps"]
    last = len(steps) - 1
    chosen = sorted({0, min(1, last), last // 4, last // 2, last})
    rows = [["error at step", *(str(steps[i]) for i in chosen), "action gap"]]
    for arm in ARMS:
        found = results["arms"][arm.name]["curves"]
        cells = [_cell([row["error"][i] for row in found], 3) for i in chosen]
        rows.append([arm.title, *cells, _cell([row["action_gap"][-1] for row in found], 3)])
    note = "The last column: how much larger the last error is with another episode's actions."
    return [*_table(rows), "", note]


def _scale_table(results: Mapping[str, Any]) -> list[str]:
    table = results["guidance_choice"]
    names = list(next(iter(table.values())))
    rows = [["scale", *(_TITLES[name] for name in names), "mean PSNR (dB)"]]
    for scale, row in table.items():
        mean = sum(row.values()) / len(row)
        rows.append([scale, *(f"{row[name]:.2f}" for name in names), f"{mean:.2f}"])
    return _table(rows)


def _protocol(results: Mapping[str, Any]) -> list[str]:
    s, windows = results["settings"], results["num_windows"]
    sampling = s["sampling"]
    return [
        f"* U-Net of {results['parameters_m']:.1f} million parameters ({s['model_channels']} "
        f"channels, mult {' '.join(map(str, s['channel_mult']))}, statistics of each frame), on "
        "latents of the frozen autoencoder of "
        f"{results['sources']['checkpoint']}.",
        f"* Pre-training: not causal, no actions, one noise level a clip, {s['pretrain_steps']} "
        f"steps of {s['batch_size']} clips from the first {s['unlabelled']:.0%} of the training "
        f"episodes ({windows['pretraining']} windows), once; held-out loss "
        f"{results['pretraining']['loss']:.4f}.",
        f"* Fine-tuning: on the other episodes ({windows['fine-tuning']} windows), "
        f"{s['finetune_steps']} steps of {s['batch_size']} clips, AdamW {s['finetune_rate']:g} "
        f"(constant after {s['warmup_steps']} steps), averaged weights ({s['ema_decay']}); "
        "diffusion forcing as in the paper: noise levels independent for all frames, velocity "
        "loss, no teacher forcing. Within a seed all arms see the same clips, levels and noise.",
        f"* Guided arms drop an action with probability {ACTION_DROPOUT} in training and are "
        f"sampled with guidance (rescale {sampling['guidance_rescale']:g}); "
        "the others have neither.",
        f"* Sampling: DDIM, {sampling['num_steps']} trailing steps, eta {sampling['eta']:g}, "
        f"history at level {sampling['history_level']}, the same noise for all arms.",
        "* Seeds change the data order, the noise and the fresh layers. The base model is one for "
        "all of them, so the standard deviations leave out what another pre-training would change.",
        "* Unlike the paper: base and target are the same maze (so that the base knows its look), "
        "the base is not conditioned on a first frame or text, steps are hundreds and not 30,000, "
        "group norms do not look ahead, and one learning rate serves all arms, from scratch too.",
    ]


def _pair(item: Ordering) -> str:
    return f"{_TITLES[item.better]} > {_TITLES[item.worse]}"


def _cell(values: Sequence[float] | NDArray[np.float64], digits: int, sign: str = "") -> str:
    """Mean and standard deviation; for one seed the mean only."""
    mean = f"{np.mean(values):{sign}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} +- {spread(values):.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]
