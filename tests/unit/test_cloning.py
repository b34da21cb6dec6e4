"""Behaviour cloning on pictures in which the action can be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from planners.observation import Observation
from training.dataset import Clips
from training.evaluation import cloning
from training.evaluation.cloning import CloningController, CloningSettings, train, trained_policy
from v2w_core.data.episode import write_episode
from v2w_core.errors import V2WError
from v2w_core.testing import PLANAR_4HZ

SETTINGS = CloningSettings(
    size=32, channels=8, most_steps=6, num_steps=150, batch_size=32, learning_rate=3e-3
)


def view(x_m: float) -> np.ndarray:
    """What a robot at x sees: a bar that is farther right the farther it has driven."""
    frame = np.zeros((32, 32, 3), np.uint8)
    place = round(4 + 4 * x_m)
    frame[:, max(place - 2, 0) : place + 3] = 255
    return frame


def clips(num_episodes: int = 12, length: int = 16) -> Clips:
    """Drives that go steadily forward or backward along a line of 6 m."""
    frames, actions = [], []
    for index in range(num_episodes):
        forward = index % 2 == 0
        step = 0.4 if forward else -0.25
        start = 0.1 * index if forward else 6.0 - 0.1 * index
        frames += [view(start + step * i) for i in range(length)]
        actions += [(step, 0.0, 0.0)] * (length - 1) + [(0.0, 0.0, 0.0)]
    starts = np.arange(num_episodes + 1) * length
    return Clips(np.stack(frames), np.array(actions, np.float32), starts, PLANAR_4HZ)


@pytest.fixture(scope="module")
def policy():
    return train(clips(), SETTINGS)


def decide(policy, x_m, goal_m):
    frames = np.stack([view(x_m), view(x_m)])
    controller = CloningController.to(policy, PLANAR_4HZ, view(goal_m))
    return controller.decide(Observation(frames, np.zeros((1, 3), np.float32)))


def test_it_goes_where_the_goal_is_and_stops_there(policy):
    ahead, behind, there = decide(policy, 3.0, 4.6), decide(policy, 3.0, 1.8), decide(policy, 3, 3)
    assert ahead.actions.shape == (1, 3)
    assert ahead.actions[0, 0] > 0.2 and not ahead.arrival.arrived
    assert behind.actions[0, 0] < -0.1 and not behind.arrival.arrived
    assert there.arrival.arrived and len(there.actions) == 0
    assert there.arrival.distance < ahead.arrival.distance


def test_the_seed_gives_the_same_policy():
    settings = CloningSettings(size=32, channels=8, num_steps=3, batch_size=4)
    first, second = (train(clips(4), settings).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_trained_once_for_the_same_episodes(tmp_path: Path, monkeypatch):
    one = clips(2)
    for index in range(2):
        part = slice(16 * index, 16 * index + 16)
        write_episode(
            tmp_path / "episodes" / f"e{index}.h5", frames=one.frames[part],
            actions=one.actions[part][:-1], poses=np.zeros((16, 4)),
            stamps_ns=np.arange(16), action_spec=PLANAR_4HZ, source="test",
        )  # fmt: skip
    settings = CloningSettings(size=32, channels=8, num_steps=2, batch_size=4)
    made: list[Clips] = []
    monkeypatch.setattr(cloning, "train", lambda c, s: made.append(c) or train(c, s))
    path = tmp_path / "bc.safetensors"
    folders = [tmp_path / "episodes"]
    first = trained_policy(path, folders, PLANAR_4HZ, settings).state_dict()
    second = trained_policy(path, folders, PLANAR_4HZ, settings).state_dict()
    assert len(made) == 1
    assert all(torch.equal(first[name], second[name]) for name in first)
    path.write_bytes(path.read_bytes()[:100])
    trained_policy(path, folders, PLANAR_4HZ, settings)
    other = CloningSettings(size=32, channels=8, num_steps=3, batch_size=4)
    trained_policy(path, folders, PLANAR_4HZ, other)
    assert len(made) == 3, "damaged weights, and other settings"
    with pytest.raises(V2WError):
        trained_policy(path, [tmp_path / "nothing"], PLANAR_4HZ, settings)
