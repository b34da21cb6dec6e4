"""The learned distance of two views: its target, its data, and the cost that asks it."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_toys import small_model
from planner_toys import SPEC

from planners.costs.base import CostContext
from planners.costs.compose import goal_image_term
from planners.costs.goal_image_latent import GoalImageLatent
from planners.costs.goal_image_learned import GoalImageLearned
from planners.costs.visited_views import times_looked
from planners.goals import LATENT_ARRIVAL, LEARNED_ARRIVAL, ImageGoal
from training.dataset import Clips
from training.goal_distance import (
    GoalDistanceTask,
    PairsConfig,
    Views,
    episode_of_frames,
    episode_poses,
    imagine_windows,
    rank_correlation,
)
from training.tasks import EncodedClips
from v2w_core.errors import V2WError
from v2w_core.models.goal_distance import GoalDistance, GoalDistanceConfig
from v2w_core.testing import tiny_config
from v2w_core.world_model import WorldModel

NUM_FRAMES = 12


def learned_model(**changes):
    config = dataclasses.replace(
        tiny_config(size=16), goal_distance=GoalDistanceConfig(channels=8), **changes
    )
    return WorldModel.build(config)


def clips(num_episodes=2, length=20, seed=0):
    rng = np.random.default_rng(seed)
    count = num_episodes * length
    actions = rng.uniform(-0.2, 0.2, (count, 3)).astype(np.float32)
    return Clips(
        rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        actions,
        np.arange(num_episodes + 1) * length,
        tiny_config().action,
    )


def test_the_distance_is_in_tolerances():
    config = GoalDistanceConfig(metres=0.5, radians=0.25)
    found = config.between(torch.tensor([0.0, -0.5, 1.0]), torch.tensor([0.0, 0.0, -0.25]))
    torch.testing.assert_close(found, torch.log1p(torch.tensor([0.0, 1.0, 3.0])))
    with pytest.raises(V2WError, match="metres"):
        GoalDistanceConfig(metres=0)


def test_one_goal_serves_all_views_in_any_batch():
    network = GoalDistance((4, 8, 8), GoalDistanceConfig(channels=8)).eval()
    views, goal = torch.randn(5, 4, 8, 8), torch.randn(4, 8, 8)
    term = GoalImageLearned(network, goal)
    together = term.distances(views.reshape(1, 5, 4, 8, 8))
    assert together.shape == (1, 5)
    alone = np.concatenate([term.distances(view[None]) for view in views])
    np.testing.assert_allclose(together[0], alone, atol=1e-5)
    with pytest.raises(V2WError, match="goal"):
        GoalImageLearned(network, goal[None])


def test_poses_are_integrated_within_each_episode():
    data = clips()
    poses = episode_poses(data)
    assert poses.shape == (40, 3)
    assert not poses[[0, 20]].any()
    first = data.actions[0]
    np.testing.assert_allclose(poses[1], first, atol=1e-6)
    turn, step = data.actions[0, 2], data.actions[1]
    cosine, sine = math.cos(turn), math.sin(turn)
    moved = np.array([[cosine, -sine], [sine, cosine]]) @ step[:2]
    np.testing.assert_allclose(poses[2, :2], first[:2] + moved, atol=1e-6)
    begin, end = episode_of_frames(data.starts)
    assert begin.tolist() == [0] * 20 + [20] * 20 and end.tolist() == [19] * 20 + [39] * 20


def test_pairs_have_the_distance_of_their_poses_and_stay_in_an_episode():
    model = learned_model()
    data = clips()
    views = Views(EncodedClips(model, data), num_windows=3, seed=0)
    pairs = PairsConfig(imagined=0.0, near_frames=3.0)
    shown, goals, distance = views.draw(64, pairs, torch.Generator().manual_seed(0))
    poses = episode_poses(data)
    for view, goal, found in zip(shown, goals, distance, strict=True):
        i = int((views.latents - view).abs().sum(dim=(1, 2, 3)).argmin())
        j = int((views.latents - goal).abs().sum(dim=(1, 2, 3)).argmin())
        assert i // 20 == j // 20
        metres = float(np.hypot(*(poses[i, :2] - poses[j, :2])))
        radians = abs((poses[i, 2] - poses[j, 2] + math.pi) % (2 * math.pi) - math.pi)
        assert float(found) == pytest.approx(math.log1p(metres / 0.4 + radians / 0.35), abs=1e-4)


def test_windows_are_imagined_under_their_own_actions():
    model = small_model()
    data = clips()
    latents = model.encode(data.frames)
    actions = torch.from_numpy(model.config.action.normalise(data.actions))
    index = torch.arange(NUM_FRAMES)[None] + 3
    found, numbers = imagine_windows(model, latents, actions, index, seed=0)
    assert numbers.tolist() == list(range(7, 15))
    assert found.shape == (8, *model.config.latent_shape)
    other = actions.clone()
    other[10:] *= -1  # leads to frame 11 and on
    changed, _ = imagine_windows(model, latents, other, index, seed=0)
    same = [torch.equal(a, b) for a, b in zip(found, changed, strict=True)]
    assert same == [number <= 10 for number in numbers]


def test_it_learns_to_order_views():
    """Views that say where they were taken."""
    model = learned_model()
    data = clips(num_episodes=4)
    moves = np.where(np.arange(len(data.actions)) % 20 < 10, 0.2, -0.2).astype(np.float32)
    actions = np.stack([moves, 0 * moves, 0 * moves], axis=1)
    data = Clips(data.frames, actions, data.starts, data.action_spec)
    place = torch.from_numpy(episode_poses(data)[:, 0]).float()
    latents = place[:, None, None, None].expand(-1, *model.config.latent_shape)
    known = SimpleNamespace(model=model, clips=data, latents=latents)
    recorded = PairsConfig(num_windows=4, imagined=0.0)
    task = GoalDistanceTask(model, data, data, 64, recorded, known)
    optimizer = torch.optim.AdamW(task.module.parameters(), 3e-3)
    for step in range(100):
        loss, _ = task.loss(torch.Generator().manual_seed(step), step / 100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    views, goals, distance = task.train.draw(512, recorded, torch.Generator().manual_seed(999))
    with torch.no_grad():
        found = task.module.eval()(views, goals)
    assert rank_correlation(found, distance) > 0.7
    assert set(task.validate()) >= {"absolute_error", "rank_correlation"}


def test_a_space_without_poses_is_refused():
    with pytest.raises(V2WError, match="planar"):
        GoalDistanceTask(small_model(), clips(), clips(), 8, PairsConfig())


def test_rank_correlation_of_orders():
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)


def test_an_image_goal_asks_what_the_model_has_learned():
    frame = np.zeros((16, 16, 3), np.uint8)
    learned = ImageGoal(learned_model(), frame)
    assert isinstance(learned.term, GoalImageLearned)
    assert (learned.arrival_distance, learned.near_distance) == LEARNED_ARRIVAL
    plain = ImageGoal(small_model(), frame)
    assert isinstance(plain.term, GoalImageLatent)
    assert (plain.arrival_distance, plain.near_distance) == LATENT_ARRIVAL
    model = learned_model()
    term = goal_image_term(model, frame)
    candidates = np.zeros((2, 3, 3), np.float32)
    session = model.start(np.zeros((4, 16, 16, 3), np.uint8), np.zeros((3, 3)))
    costs = term(CostContext(candidates, SPEC, lambda c: session.imagine(c)))
    assert costs.shape == (2,) and costs[0] == pytest.approx(costs[1], abs=1e-5)


def test_a_place_gets_worse_each_time_the_robot_looks_around_there_in_vain():
    poses = np.array([[0, 0, 0], [1, 0, 0], [0.05, 0, 2 * math.pi], [0, 0, 0.5], [0, 0.05, 0.05]])
    assert times_looked(poses).tolist() == [0, 0, 1, 0, 2]


def test_the_network_travels_in_the_checkpoint(tmp_path):
    model = learned_model()
    back = WorldModel.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert back.config == model.config
    for name, value in model.goal_distance.state_dict().items():
        assert torch.equal(back.goal_distance.state_dict()[name], value)
