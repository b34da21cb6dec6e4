"""The network that compares views: trained small, and as it is shipped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.dataset import Clips
from training.evaluation.perceptual import WEIGHTS, perceptual_distance, shipped_encoder, train
from v2w_core.geometry import integrate_actions
from v2w_core.testing import PLANAR_4HZ


def views(places):
    """A wall with stripes of different widths, seen from places along it [pixels]."""
    wall = np.random.default_rng(1).integers(0, 255, (1, 40, 3)).repeat(8, axis=1)
    wall = np.broadcast_to(wall, (64, *wall.shape[1:])).astype(np.uint8)
    return np.stack([wall[:, round(p) : round(p) + 64] for p in places])


def test_the_distance_grows_as_the_camera_moves():
    rng = np.random.default_rng(0)
    starts = rng.uniform(20, 160, 30)
    means = [
        perceptual_distance(views(starts), views(starts + shift)).mean()
        for shift in (0, 1, 3, 8, 20)
    ]
    assert means[0] == 0.0
    assert means == sorted(means)
    assert means[-1] < 4.0
    one, other = views([30.0]), views([60.0])
    assert perceptual_distance(one, other) == pytest.approx(perceptual_distance(other, one))


def test_views_of_any_size_can_be_compared():
    first = np.zeros((2, 32, 48, 3), np.uint8)
    assert perceptual_distance(first, first + 200).shape == (2,)


def test_what_is_shipped_is_small_and_not_a_part_of_any_world_model():
    assert WEIGHTS.stat().st_size < 300_000
    assert sum(p.numel() for p in shipped_encoder().parameters()) < 100_000


def test_the_seed_gives_the_same_network():
    actions = np.tile([0.3, 0.0, 0.0], (20, 1)).astype(np.float32)
    poses = integrate_actions(actions[:-1])
    clips = Clips(views(20 + 20 * poses[:, 0]), actions, np.array([0, 20]), PLANAR_4HZ)
    first, second = (train(clips, num_steps=2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
