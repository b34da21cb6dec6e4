"""The ablation's page: what it claims, and what it says when an ordering does not show."""

from __future__ import annotations

import dataclasses

from ablation_toys import TINY

from training.ablation.arms import ARMS
from training.ablation.orderings import MORE_PAIRS, PAIRS, orderings
from training.ablation.report import curves, page, summary


def results(psnr):
    """Results of two seeds in which every arm is as good as ``psnr`` says."""
    arms = {}
    for arm in ARMS:
        values = psnr.get(arm.name, (20.0, 20.1))
        scores = [
            {"psnr": v, "ssim": v / 40, "frechet": 50 - v, "action_gap": v - 18} for v in values
        ]
        curve = {"steps": [0, 2, 4], "error": [1.0, 0.8, 0.7], "action_gap": [0.0, 0.1, 0.2]}
        arms[arm.name] = {"scores": scores, "curves": [curve, curve]}
    return {
        "arms": arms, "num_seeds": 2, "command": "python x", "machine": "a machine",
        "date": "2026-01-01", "minutes": 1.0, "guidance_scale": 1.5, "parameters_m": 1.0,
        "guidance_choice": {"1.0": {"shift_guided": 1.0}, "1.5": {"shift_guided": 2.0}},
        "num_windows": {"pretraining": 1, "fine-tuning": 1, "table": 4},
        "pretraining": {"loss": 0.5}, "settings": dataclasses.asdict(TINY),
        "sources": {"checkpoint": "a_checkpoint"},
        "references": {"last frame repeated": {"psnr": 12.0}},
    }  # fmt: skip


AS_IN_THE_PAPER = {
    "shift": (19.0, 19.2), "masked": (20.0, 20.2), "extrapolative": (21.0, 21.3),
    "masked_guided": (22.0, 22.2), "extrapolative_guided": (23.0, 23.2),
}  # fmt: skip


def lines_of(text, pair):
    return [line for line in text.splitlines() if line.startswith(f"| {pair} |")]


def test_orderings_that_show_are_counted():
    found = orderings(results(AS_IN_THE_PAPER)["arms"], PAIRS)
    claimed = [item for item in found if item.claimed]
    assert len(claimed) == 16  # six pairs, three metrics, less a tie and a thousandth of SSIM
    text = summary(found, 2)
    assert text.startswith("16 of 16 orderings of Table 2 show in every seed")
    assert "do not all show" not in text


def test_an_ordering_that_does_not_hold_is_reported_with_its_numbers():
    reversed_pair = AS_IN_THE_PAPER | {"extrapolative": (18.0, 18.2), "masked": (20.0, 20.3)}
    text = page(results(reversed_pair), ["images/curve.png"])
    lines = lines_of(text, "extrapolative > masked")
    assert "| PSNR (dB) | +0.50 | -2.05 +- 0.07 | **does not show**: 0 of 2 seeds |" in lines[0]
    assert "Frechet distance | +0.80 | -2.05" in lines[2]
    assert "**They do not all show.** Missing or unclear: " in text
    assert "extrapolative > masked in PSNR (dB), SSIM, Frechet distance" in text
    assert "masked > shift in" not in text


def test_one_seed_of_two_is_unclear_and_ties_of_the_paper_are_no_orderings():
    mixed = AS_IN_THE_PAPER | {"masked": (19.5, 19.1)}
    text = page(results(mixed), ["images/curve.png"])
    assert "**unclear**: on average only, 1 of 2 seeds" in lines_of(text, "masked > shift")[0]
    guided = lines_of(text, "extrapolative, guided > masked, guided")
    assert guided[0].endswith("| no such ordering in the paper |")
    beyond = orderings(results(mixed)["arms"], MORE_PAIRS)
    assert all(item.paper is None for item in beyond)


def test_curves_are_a_picture():
    for guided in (True, False):
        assert curves(results({}), guided=guided).startswith(b"\x89PNG")


def test_a_page_says_when_its_orderings_mean_little():
    weak = results(AS_IN_THE_PAPER)
    weak["references"]["last frame repeated"] = {"psnr": 23.0, "ssim": 0.9}
    for arm in weak["arms"].values():
        for scores in arm["scores"]:
            scores["action_gap"] = 0.01
    weak["guidance_scale"] = 2.0
    text = page(weak, [])
    assert "All arms lie within 3.90 dB of repeating the last frame (23.00 dB) and below" in text
    assert "cannot be interpreted" in text and "2 is the edge of what was tried" in text
    strong = results(AS_IN_THE_PAPER)
    strong["settings"]["scales"] = (1.25, 1.5, 2.0)
    text = page(strong, [])
    for words in ("within", "cannot be interpreted", "edge"):
        assert words not in text.split("## The paper's orderings")[1]
