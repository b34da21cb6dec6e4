"""``v2w collect``: many worlds in one folder, resumed, the same for the same seeds, and checked."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from training.commands import collect
from training.envs.doom import ACTION_SPEC, DoomMazeEnv
from training.envs.explore import Explorer
from training.envs.worlds import world_of
from v2w_core.data.episode import Episode, list_episodes, read_episode, write_episode
from v2w_core.errors import DataError, V2WError
from v2w_core.geometry import integrate_actions, planar


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    collect.add_arguments(parser)
    return collect.run(parser.parse_args([str(argument) for argument in arguments]))


def same(one: Episode, other: Episode) -> bool:
    return (
        np.array_equal(one.poses, other.poses)
        and np.array_equal(one.actions, other.actions)
        and np.array_equal(one.frames(), other.frames())
    )


def test_a_collection_is_resumed_and_another_world_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "episodes"
    common = ["--steps", "6", "--seed", "3"]
    assert run(dest, "--episodes", "1", *common) == 0
    assert "frames/s" in capsys.readouterr().out
    first = list_episodes(dest)[0]
    stamp = first.stat().st_mtime_ns
    assert run(dest, "--episodes", "2", *common) == 0
    assert first.stat().st_mtime_ns == stamp
    assert len(list_episodes(dest)) == 2
    episode = read_episode(first)
    assert len(episode) == 7 and episode.actions.shape == (6, 3)
    assert episode.action_spec == ACTION_SPEC
    assert world_of(episode.attributes) == ("maze", 0)
    assert (episode.attributes["seed"], episode.attributes["index"]) == (3, 0)
    again = tmp_path / "again"
    run(again, "--episodes", "1", *common)
    assert same(read_episode(list_episodes(again)[0]), episode)
    with pytest.raises(DataError, match="maze 0, not maze 1"):
        run(dest, "--world-seeds", "1", *common)
    with pytest.raises(DataError, match="maze 0, not rooms 0"):
        run(dest, "--world", "rooms", *common)
    with pytest.raises(DataError, match="steps"):
        run(dest, "--steps", "7", "--seed", "3")
    with pytest.raises(DataError, match="frames of"):
        run(dest, "--image-size", "64x48", *common)
    assert len(list(dest.iterdir())) == 2


def test_many_worlds_in_one_folder(tmp_path: Path) -> None:
    dest, other = tmp_path / "a", tmp_path / "b"
    common = ["--world", "rooms", "--steps", "5", "--image-size", "64x48"]
    run(dest, *common, "--world-seeds", "7,9-10", "--episodes", "4")
    episodes = [read_episode(path) for path in list_episodes(dest)]
    assert [world_of(item.attributes) for item in episodes] == [
        ("rooms", 7), ("rooms", 9), ("rooms", 10), ("rooms", 7),
    ]  # fmt: skip
    # Whatever was collected before in this process, or is missing, an episode is the same.
    run(other, *common, "--world-seeds", "7,9-10", "--episodes", "5")
    list_episodes(other)[1].unlink()
    run(other, *common, "--world-seeds", "7,9-10", "--episodes", "5")
    found = [read_episode(path) for path in list_episodes(other)]
    assert len(found) == 5
    assert all(same(one, two) for one, two in zip(episodes, found[:4], strict=True))
    assert not np.array_equal(found[0].poses, found[3].poses)
    with pytest.raises(DataError, match="rooms 9, not rooms 10"):
        run(other, *common, "--world-seeds", "7,10,9", "--episodes", "5")
    with pytest.raises(DataError, match="one of --world-seeds"):
        run(other, *common, "--world-seeds", "8,11", "--seed", "2")
    run(other, *common, "--world-seeds", "7,9-12", "--episodes", "5", "--seed", "2")
    assert len(list_episodes(other)) == 10


def test_episodes_have_commands_motion_and_contact(tmp_path: Path) -> None:
    run(tmp_path / "a", "--world", "rooms", "--world-seeds", "3-6", "--image-size", "32x24")
    episodes = [read_episode(path) for path in list_episodes(tmp_path / "a")]
    assert len(episodes) == 20, "the default"
    touched = np.concatenate([item.contact for item in episodes])
    off = np.concatenate([np.hypot(*(e.actions - e.motion)[:, :2].T) for e in episodes])
    assert all(item.has_commands for item in episodes)
    assert 0.03 < touched.mean() < 0.12
    assert off[~touched].max() <= 0.02 < off[touched].min()
    for episode in episodes:
        ACTION_SPEC.validate(episode.actions)
        driven = integrate_actions(episode.motion, planar(episode.poses)[0])
        assert np.allclose(driven[:, :2], planar(episode.poses)[:, :2], atol=1e-4)


def test_the_explorer_sees_the_rooms_and_uses_all_actions() -> None:
    env = DoomMazeEnv(0, (24, 32), world_name="rooms")
    try:
        shares, actions = [], []
        for seed in (0, 1):
            env.enter(seed)
            rng = np.random.default_rng(seed)
            env.reset(options={"pose": env.sample_free_pose(rng)})
            explorer = Explorer(env, rng)
            areas = set()
            for _ in range(1200):
                actions.append(explorer.act())
                env.step(actions[-1])
                x, y, _ = env.pose
                areas.add(int(env.world.sector[int(y * 4), int(x * 4)]))
            free = np.unique(env.world.sector[env.world.free])
            shares.append(len(areas) / len(free))
    finally:
        env.close()
    assert np.mean(shares) > 0.4, "of rooms, corridors and doors, in five minutes"
    ACTION_SPEC.validate(np.array(actions))
    reach = np.array(ACTION_SPEC.high) - np.array(ACTION_SPEC.low)
    histogram = [np.histogram(np.array(actions)[:, i], 8)[0].min() for i in range(3)]
    assert np.ptp(actions, axis=0) == pytest.approx(reach, rel=0.02)
    assert min(histogram) > 20, "no part of the range is left out"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "castle"], "--world.*rooms, maze"),
        (["--world-seeds", "9-2"], "rise"),
        (["--world-seeds", "1,1"], "once"),
        (["--world-seeds", "-3"], "--world-seeds"),
        (["--world-seeds", "two"], "--world-seeds"),
        (["--world-seeds", "0-999999999"], "at most"),
        (["--world-seeds", "0-99", "--episodes", "50"], "--episodes.*at least 100"),
        (["--episodes", "0"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--image-size", "big"], "image-size"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(V2WError, match=message):
        run(tmp_path / "a", *[a if a != "-3" else " -3" for a in arguments])
    assert not (tmp_path / "a").exists()


def test_a_folder_of_episodes_without_commands_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "--episodes", "1", "--steps", "4")
    (path,) = list_episodes(tmp_path)
    old = read_episode(path)
    write_episode(
        path, frames=old.frames(), actions=old.motion, poses=old.poses, stamps_ns=old.stamps_ns,
        action_spec=old.action_spec, source=old.source, attributes=old.attributes,
    )  # fmt: skip
    with pytest.raises(DataError, match="without commands"):
        run(tmp_path, "--episodes", "2", "--steps", "4")
