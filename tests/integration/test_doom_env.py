"""The simulated maze: determinism, tracking, teleports, walls, and what it leaves on the disk."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from v2w_core.errors import V2WError

pytest.importorskip("vizdoom")

from training.envs.doom import ACTION_SPEC, DoomMazeEnv
from training.envs.explore import Explorer


@pytest.fixture(scope="module")
def env() -> Iterator[DoomMazeEnv]:
    instance = DoomMazeEnv(0)
    yield instance
    instance.close()


def open_pose(env: DoomMazeEnv, rng: np.random.Generator) -> tuple[float, float, float]:
    """A pose with one step of free space all around."""
    while True:
        x, y, yaw = env.sample_free_pose(rng)
        around = [(x + dx, y + dy) for dx in (-0.6, 0, 0.6) for dy in (-0.6, 0, 0.6)]
        if all(env.is_free(*point) for point in around):
            return x, y, yaw


def random_actions(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(ACTION_SPEC.low, ACTION_SPEC.high, (count, 3)).astype(np.float32)


def test_observation_matches_the_space(env: DoomMazeEnv) -> None:
    observation, _ = env.reset(seed=5)
    assert observation["image"].shape == (120, 160, 3)
    assert observation["image"].dtype == np.uint8
    assert env.observation_space.contains(observation)
    assert env.is_free(*observation["pose"][:2])
    again, _ = env.reset(seed=5)
    assert np.array_equal(observation["pose"], again["pose"])


def test_real_displacement_follows_the_command_in_the_open(env: DoomMazeEnv) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        env.reset(options={"pose": open_pose(env, rng)})
        first = random_actions(rng, 1)[0]
        stop = np.zeros(3, np.float32)
        back = np.array([-0.25, -0.25, 0.5], np.float32)
        for action in (first, stop, back):
            start = env.pose
            _, _, _, _, info = env.step(action)
            heading = start[2] + math.atan2(action[1], action[0])
            reach = math.hypot(action[0], action[1]) + 0.05
            end = start[0] + reach * math.cos(heading), start[1] + reach * math.sin(heading)
            if env.is_free(*end) and env.is_free(*start[:2]):
                errors.append(info["motion"] - action)
                assert not info["contact"]
    assert len(errors) > 60
    assert np.hypot(*np.array(errors)[:, :2].T).mean() < 0.005
    assert np.abs(np.array(errors)[:, 2]).max() < 0.001


def test_reported_motion_is_the_difference_of_the_poses(env: DoomMazeEnv) -> None:
    rng = np.random.default_rng(1)
    observation, _ = env.reset(options={"pose": env.sample_free_pose(rng)})
    for action in random_actions(rng, 30):
        x, y, yaw = observation["pose"]
        observation, reward, terminated, truncated, info = env.step(action)
        dx, dy, dyaw = info["motion"]
        expected = (
            x + dx * math.cos(yaw) - dy * math.sin(yaw),
            y + dx * math.sin(yaw) + dy * math.cos(yaw),
        )
        assert np.allclose(observation["pose"][:2], expected, atol=1e-6)
        turned = observation["pose"][2] - yaw - dyaw
        assert abs(math.remainder(turned, 2 * math.pi)) < 1e-6
        assert (reward, terminated, truncated) == (0.0, False, False)


def test_deterministic_in_two_engines_at_once(env: DoomMazeEnv) -> None:
    actions = random_actions(np.random.default_rng(2), 12)
    pose = env.sample_free_pose(np.random.default_rng(3))
    other = DoomMazeEnv(0)
    try:
        for robot in (env, other):
            robot.reset(options={"pose": pose})
        for action in actions:
            here, there = env.step(action)[0], other.step(action)[0]
            assert np.array_equal(here["pose"], there["pose"])
            assert np.array_equal(here["image"], there["image"])
    finally:
        other.close()


def test_teleport_is_exact_and_pixel_identical(env: DoomMazeEnv) -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        pose = env.sample_free_pose(rng)
        first = env.teleport(*pose)
        assert np.hypot(*(first["pose"][:2] - pose[:2])) < 0.003
        assert abs(math.remainder(first["pose"][2] - pose[2], 2 * math.pi)) < 0.001
        for action in random_actions(rng, 5):
            env.step(action)
        again = env.teleport(*pose)
        assert np.array_equal(first["image"], again["image"])
        still = env.step(np.zeros(3))[0]  # no momentum is left
        assert np.array_equal(again["pose"], still["pose"])
        assert np.array_equal(again["image"], still["image"])


def test_walls_stop_the_robot(env: DoomMazeEnv) -> None:
    rng = np.random.default_rng(5)
    contact = False
    for _ in range(8):
        env.reset(options={"pose": env.sample_free_pose(rng)})
        for _ in range(20):
            _, _, _, _, info = env.step(np.array([0.5, 0.2, 0.05]))
            assert env.world.is_free(*env.pose[:2], margin_m=-0.01)
            contact |= info["contact"]
    assert contact


def test_drive_follows_an_arc(env: DoomMazeEnv) -> None:
    x, y, yaw = open_pose(env, np.random.default_rng(6))
    env.teleport(x, y, yaw)
    env.drive(1.0, 0.0, 1.0, 18)  # half a second: radius 1 m, half a radian
    end = env.pose
    assert abs(math.remainder(end[2] - yaw - 0.5, 2 * math.pi)) < 0.01
    assert abs(math.hypot(end[0] - x, end[1] - y) - 2 * math.sin(0.25)) < 0.03
    env.drive(0.0, 0.0, 0.0, 4)
    stopped = env.pose
    env.drive(0.0, 0.0, 0.0, 4)
    assert np.allclose(stopped, env.pose, atol=1e-3)


def test_simulate_predicts_what_steps_do(env: DoomMazeEnv) -> None:
    rng = np.random.default_rng(7)
    pose = open_pose(env, rng)
    candidates = np.stack([random_actions(rng, 4) for _ in range(3)])
    home = env.pose
    poses, frames = env.simulate(pose, candidates, frames=True)
    assert poses.shape == (3, 5, 3) and frames is not None
    assert frames.shape == (3, 4, 120, 160, 3)
    assert np.allclose(env.pose, home, atol=0.003)
    for k in range(3):
        env.teleport(*pose)
        for h in range(4):
            observation = env.step(candidates[k, h])[0]
            assert np.array_equal(observation["pose"], poses[k, h + 1])
            assert np.array_equal(observation["image"], frames[k, h])


@pytest.mark.parametrize("action", [[0.6, 0, 0], [0, 0, -0.51], [0, 0], [math.nan, 0, 0]], ids=str)
def test_bad_actions_are_refused(env: DoomMazeEnv, action: list[float]) -> None:
    before = env.pose
    with pytest.raises(V2WError, match="action"):
        env.step(np.array(action))
    assert env.pose == before


def test_teleport_into_a_wall_is_refused(env: DoomMazeEnv) -> None:
    with pytest.raises(V2WError, match="pose"):
        env.teleport(0.1, 0.1, 0.0)
    with pytest.raises(V2WError, match="pose"):
        env.teleport(math.nan, 1.0, 0.0)


def test_nothing_lands_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    robots = [DoomMazeEnv(1, image_size=(48, 64)) for _ in range(2)]
    for robot in robots:
        assert robot.reset(seed=0)[0]["image"].shape == (48, 64, 3)
        robot.close()
        robot.close()
    assert os.listdir(tmp_path) == ["temporary"]
    assert os.listdir(tmp_path / "temporary") == []


def test_top_down_map_agrees_with_is_free(env: DoomMazeEnv) -> None:
    picture = env.top_down_map(40.0)
    width, height = env.world.size_m
    assert picture.image.shape == (round(height * 40), round(width * 40), 3)
    assert np.allclose(picture.to_pixels([0.0, height]), [0.0, 0.0])
    assert np.allclose(picture.to_pixels([[width, 0.0]]), [[width * 40, height * 40]])


def test_explorer_stays_within_bounds_and_is_reproducible(env: DoomMazeEnv) -> None:
    runs = []
    for _ in range(2):
        env.reset(options={"pose": env.sample_free_pose(np.random.default_rng(8))})
        explorer = Explorer(env, np.random.default_rng(9))
        actions = []
        for _ in range(60):
            actions.append(explorer.act())
            env.step(actions[-1])
        runs.append(np.array(actions))
    assert np.array_equal(*runs)
    ACTION_SPEC.validate(runs[0])
    assert np.ptp(runs[0], axis=0).min() > 0.1


def test_a_turn_of_the_camera_is_the_turn_of_its_picture(env: DoomMazeEnv) -> None:
    """Signs and field of view: the picture before, moved by the action, is the picture after."""
    import torch

    from v2w_core.metrics.image import psnr
    from v2w_core.models.warped_previous import ConditionConfig, WarpedPrevious
    from v2w_core.spec import ObservationSpec

    observation = ObservationSpec(120, 160, fov_rad=(math.pi / 2, 2 * math.atan(0.75)))
    warp = WarpedPrevious(ConditionConfig(planes=(None,)), observation, ACTION_SPEC)
    found, unmoved = [], []
    for seed, dyaw in enumerate(2 * (-0.5, -0.25, 0.1, 0.3, 0.5)):
        env.teleport(*open_pose(env, np.random.default_rng(seed)))
        before = env.step((0.0, 0.0, 0.0))[0]["image"]
        after = env.step((0.0, 0.0, dyaw))[0]["image"]
        told = torch.from_numpy(ACTION_SPEC.normalise([[[0.0, 0.0, dyaw]]]))
        picture = torch.from_numpy(before).permute(2, 0, 1)[None, None] / 255
        *channels, mask = warp(picture, told)[0, 0]
        moved = (torch.stack(channels).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        covered = mask.numpy() > 0.999
        found.append(psnr(moved[covered][None, None], after[covered][None, None])[0])
        unmoved.append(psnr(before[covered][None, None], after[covered][None, None])[0])
    assert np.mean(found) > 25, found
    assert np.min(np.subtract(found, unmoved)) > 5, unmoved
