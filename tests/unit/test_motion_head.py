"""What a model says of the robot's motion: displacements, poses and how sure it is of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from core_toys import candidates, history, small_model

from v2w_core.errors import V2WError
from v2w_core.geometry import integrate_actions, integrated_spread
from v2w_core.models.motion_head import MotionHead, split_motion
from v2w_core.spec import ActionSpec
from v2w_core.testing import PLANAR_4HZ, geometric_config

SHIFTED = ActionSpec(
    names=("grip", "dyaw", "dx", "dy"), units=("1", "rad", "m", "m"), rate_hz=4.0,
    low=(0, -1, -1, -1), high=(1, 1, 1, 1), offset=(0.5, 0.1, 0.2, -0.3), scale=(1, 0.3, 2, 3),
)  # fmt: skip


def test_without_a_head_poses_are_the_integrated_commands():
    rollouts = small_model().start(*history()).imagine(candidates(3, 4))
    commands = candidates(3, 4).astype(np.float64)
    np.testing.assert_allclose(rollouts.poses, integrate_actions(commands)[:, 1:], atol=1e-12)
    np.testing.assert_allclose(rollouts.motion, commands)
    assert np.isnan(rollouts.motion_std).all() and np.isnan(rollouts.pose_std).all()
    assert rollouts.motion_std.shape == rollouts.pose_std.shape == (3, 4, 3)


def test_a_head_adds_to_the_command_in_physical_units():
    model = small_model(geometric_config)
    rollouts = model.start(*history()).imagine(candidates(3, 4))
    means = rollouts.motion_means.double().numpy()
    assert means.shape == (3, 4, 6) and np.abs(means).max() > 1e-3
    scale = np.array(PLANAR_4HZ.scale)
    np.testing.assert_allclose(rollouts.motion, candidates(3, 4) + means[..., :3] * scale,
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(rollouts.motion_std, np.exp(means[..., 3:]) * scale)
    np.testing.assert_allclose(rollouts.poses, integrate_actions(rollouts.motion)[:, 1:])
    assert (np.diff(rollouts.pose_std[..., 2], axis=1) > 0).all()


def test_offset_scale_and_order_of_the_actions_are_undone():
    model = small_model(lambda size: geometric_config(SHIFTED, size))
    frames, _ = history()
    rng = np.random.default_rng(0)
    commands = rng.uniform(SHIFTED.low, SHIFTED.high, (2, 3, 4)).astype(np.float32)
    rollouts = model.start(frames, np.zeros((3, 4))).imagine(commands)
    planar = commands[..., [2, 3, 1]]
    residual = rollouts.motion_means.numpy()[..., :3] * np.array([2, 3, 0.3])
    np.testing.assert_allclose(rollouts.motion, planar + residual, atol=1e-5)


def test_the_head_is_read_where_nothing_is_seen_and_guidance_leaves_it_alone():
    """In the first of several sampling steps, and in the conditional branch."""
    session = small_model(geometric_config).start(*history(), seed=2)
    actions = candidates(2, 1)
    plain = session.imagine(actions, num_sampling_steps=1)
    for sampling in ({"num_sampling_steps": 3}, {"guidance_scale": 3.0}):
        other = session.imagine(actions, **sampling)
        torch.testing.assert_close(other.motion_means, plain.motion_means, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other.latents, plain.latents)


def test_spreads_are_those_of_many_draws():
    rng = np.random.default_rng(0)
    motion = np.array([[0.4, 0.0, 0.3], [0.3, 0.1, -0.5], [0.5, 0.0, 0.4], [0.2, -0.1, 0.2]])
    std = np.array([[0.02, 0.01, 0.03]]) * np.array([[1], [2], [0.5], [1]])
    drawn = motion + std * rng.standard_normal((200_000, 4, 3))
    expected = integrate_actions(drawn)[:, 1:].std(axis=0)
    np.testing.assert_allclose(integrated_spread(motion, std), expected, rtol=0.03)
    both = integrated_spread(np.stack([motion, 0 * motion]), np.stack([std, std]))
    np.testing.assert_allclose(both[0], integrated_spread(motion, std))
    np.testing.assert_allclose(both[1], np.sqrt(np.cumsum(std**2, axis=0)))


def test_the_loss_is_least_where_mean_and_spread_are_those_of_the_data():
    head = MotionHead(SHIFTED)
    generator = torch.Generator().manual_seed(0)
    commands = torch.randn(4000, 4, generator=generator)
    motion = commands.clone()
    residual, std = torch.tensor([0.2, -0.1, 0.3]), torch.tensor([0.1, 0.5, 1.0])
    motion[:, [2, 3, 1]] += residual + std * torch.randn(4000, 3, generator=generator)
    means = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([means], lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        head.loss(means.expand(4000, 6), commands, motion).mean().backward()
        optimizer.step()
    torch.testing.assert_close(means.detach()[:3], residual, atol=0.03, rtol=0)
    torch.testing.assert_close(means.detach()[3:].exp(), std, atol=0, rtol=0.05)


def test_the_spread_stays_within_limits():
    head = MotionHead(PLANAR_4HZ)
    for extreme in (-100.0, 100.0):
        _, std = head.predict(torch.full((2, 6), extreme), torch.zeros(2, 3))
        assert float(std.min()) > 1e-3 and float(std.max()) < 10


def test_velocity_and_motion_are_told_apart():
    output = torch.randn(2, 3, 10, 4, 5)
    velocity, means = split_motion(output, 4)
    assert torch.equal(velocity, output[:, :, :4])
    torch.testing.assert_close(means, output[:, :, 4:].mean(dim=(3, 4)))
    assert split_motion(output, 10)[1].shape == (2, 3, 0)


def test_a_head_needs_planar_actions():
    arm = ActionSpec(("a", "b", "c"), ("m",) * 3, (-1,) * 3, (1,) * 3, 5.0)
    config = geometric_config(size=16)
    unet = dataclasses.replace(config.unet, in_channels=4, condition_channels=0)
    with pytest.raises(V2WError, match=r"action\.names: .*motion head"):
        dataclasses.replace(config, condition=None, unet=unet, action=arm)
